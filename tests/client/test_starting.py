"""Starting runs: by workflow, by name, by version, many at once, and again."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta

import pytest

from kagzi import (
    ConfigError,
    ConflictError,
    Kagzi,
    PayloadError,
    VersionNotFound,
    WorkflowContext,
    WorkflowHandle,
    WorkflowNotRegistered,
)
from tests.app.applications import an_application, until, within
from tests.app.watched_store import WatchedStore


@dataclasses.dataclass
class User:
    id: str
    age: int = 30


async def order(ctx: WorkflowContext, number: int, *, note: str = "") -> str:
    return f"{number} {note}".strip()


async def greet(ctx: WorkflowContext, user: User) -> User:
    return dataclasses.replace(user, age=user.age + 1)


async def test_p2_a_start_returns_when_another_connection_can_see_the_run(any_database_url: str, kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)

    async with an_application(any_database_url) as other:
        for number in range(20):
            handle = await workflow.start(number)
            seen = await other.handle(handle.run_id).describe()
            assert seen.input == [number]


async def test_p1_starts_with_one_id_get_one_run_whoever_makes_them(any_database_url: str, kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)
    async with an_application(any_database_url) as other:
        there = other.register_workflow("order", order)

        handles = await asyncio.gather(
            *(workflow.options(id="one").start(1) for _ in range(25)),
            *(there.options(id="one").start(1) for _ in range(25)),
        )
        runs = await kagzi.find_runs()

    assert {handle.run_id for handle in handles} == {run.run_id for run in runs}
    assert len(runs) == 1


async def test_p1_an_id_with_another_input_or_another_workflow_is_a_conflict(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)
    other = kagzi.register_workflow("other", order)
    first = await workflow.options(id="one").start(1, note="a")

    with pytest.raises(ConflictError, match="another input for workflow 'order'") as input_conflict:
        await workflow.options(id="one").start(2, note="a")
    with pytest.raises(ConflictError, match="workflow 'order', not 'other'") as workflow_conflict:
        await other.options(id="one").start(1, note="a")
    again = await workflow.options(id="one").start(1, note="a")

    for conflict in (input_conflict.value, workflow_conflict.value):
        assert (conflict.id, conflict.run_id) == ("one", first.run_id)
        assert "Use another id" in str(conflict)
    assert again.run_id == first.run_id
    assert len(await kagzi.find_runs()) == 1


async def test_p1_a_run_that_has_ended_still_owns_its_id(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)

    async with kagzi.create_worker():
        first = await workflow.options(id="one").start(1)
        await within(first.result())
        again = await workflow.options(id="one").start(1)
        result = await within(again.result())

    assert again.run_id == first.run_id
    assert result == "1"


async def test_an_id_survives_a_change_of_the_default_version_and_its_result_is_read_by_its_own(kagzi: Kagzi) -> None:
    async def as_number(ctx: WorkflowContext) -> int:
        return 7

    async def as_text(ctx: WorkflowContext) -> str:
        return "seven"

    first = kagzi.register_workflow("seven", as_number)
    async with kagzi.create_worker():
        started = await first.options(id="one").start()
        await within(started.result())
        second = kagzi.register_workflow_version("seven", 2, as_text)
        again = await second.options(id="one").start()
        result = await within(again.result())

    assert again.run_id == started.run_id
    assert result == 7  # type: ignore[comparison-overlap] # the run is of the version before


async def test_arguments_are_stored_as_the_signature_says_and_come_back_typed(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("greet", greet)

    async with kagzi.create_worker():
        by_place = await within((await workflow.start(User("a"))).result())
        by_name = await within((await workflow.start(user=User("b", age=1))).result())

    assert by_place == User("a", age=31)
    assert by_name == User("b", age=2)


async def test_p1_the_same_arguments_by_place_and_by_name_are_the_same_input(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("greet", greet)

    by_place = await workflow.options(id="one").start(User("a"))
    by_name = await workflow.options(id="one").start(user=User("a", age=30))

    assert by_place.run_id == by_name.run_id


async def test_arguments_that_do_not_fit_are_refused_at_the_call(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)

    with pytest.raises(PayloadError, match="the input of workflow 'order'"):
        await workflow.start("one")  # type: ignore[arg-type] # on purpose
    with pytest.raises(TypeError, match="number"):
        await workflow.start()  # type: ignore[call-arg] # on purpose
    with pytest.raises(TypeError, match="nonsense"):
        await workflow.start(1, nonsense=2)  # type: ignore[call-arg] # on purpose
    assert await kagzi.find_runs() == []


# -- by name and version -----------------------------------------------------------------------------------------


async def test_a_workflow_that_is_not_registered_here_starts_by_name_where_its_version_is_known(
    any_database_url: str, kagzi: Kagzi
) -> None:
    async with an_application(any_database_url) as elsewhere:
        elsewhere.register_workflow("greet", greet)
        await elsewhere.set_default_workflow_version("greet", 1)

        by_default = await kagzi.start_workflow("greet", {"id": "a"})
        by_version = await kagzi.start_workflow_version("greet", 1, user={"id": "b", "age": 5})
        by_option = await kagzi.options(version=1).start_workflow("greet", {"id": "c"})
        async with elsewhere.create_worker():
            results = [await within(handle.result()) for handle in (by_default, by_version, by_option)]

    assert results == [{"id": "a", "age": 31}, {"id": "b", "age": 6}, {"id": "c", "age": 31}]


async def test_a_name_that_nobody_knows_is_refused_listing_those_that_are_known(kagzi: Kagzi) -> None:
    kagzi.register_workflow("order", order)
    kagzi.register_workflow("greet", greet)

    with pytest.raises(WorkflowNotRegistered, match="it knows: greet, order") as refusal:
        await kagzi.start_workflow("ordr", 1)

    assert (refusal.value.workflow, set(refusal.value.known)) == ("ordr", {"order", "greet"})


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 256])
async def test_a_name_that_cannot_be_is_refused(kagzi: Kagzi, name: str) -> None:
    with pytest.raises(ValueError, match="the name of a workflow"):
        await kagzi.start_workflow(name)
    with pytest.raises(ValueError, match="the name of a workflow"):
        await kagzi.get_default_workflow_version(name)
    with pytest.raises(ValueError, match="the name of a workflow"):
        await kagzi.set_default_workflow_version(name, 1)


async def test_what_is_no_workflow_is_refused(kagzi: Kagzi) -> None:
    with pytest.raises(TypeError, match="give a workflow or its name"):
        await kagzi.start_workflow(order, 1)  # type: ignore[call-overload] # on purpose


async def test_a_version_that_is_not_registered_is_refused_listing_those_that_are(kagzi: Kagzi) -> None:
    kagzi.register_workflow("order", order)
    kagzi.register_workflow_version("order", 3, order)

    with pytest.raises(VersionNotFound, match="no version 2; this application knows: 1, 3") as refusal:
        await kagzi.start_workflow_version("order", 2, 1)
    with pytest.raises(ValueError, match="versions go from 1"):
        await kagzi.start_workflow_version("order", 0, 1)
    with pytest.raises(VersionNotFound):
        await kagzi.options(version=2).start_workflow("order", 1)
    with pytest.raises(VersionNotFound):
        await kagzi.set_default_workflow_version("order", 2)

    assert (refusal.value.workflow, refusal.value.version, set(refusal.value.known)) == ("order", 2, {1, 3})


async def test_the_default_version_is_the_highest_until_one_is_set_for_everybody(
    any_database_url: str, kagzi: Kagzi
) -> None:
    for version in (1, 10, 9):
        kagzi.register_workflow_version("order", version, order)
    before = await kagzi.get_default_workflow_version("order")
    highest = await (await kagzi.start_workflow("order", 1)).describe()

    async with an_application(any_database_url) as elsewhere:
        await elsewhere.set_default_workflow_version("order", 9)
    after = await kagzi.get_default_workflow_version("order")
    await kagzi.set_default_workflow_version("order", 1)
    chosen = await (await kagzi.start_workflow("order", 1)).describe()
    explicit = await (await kagzi.start_workflow_version("order", 10, 1)).describe()

    assert (before, after) == (10, 9)
    assert (highest.version, chosen.version, explicit.version) == (10, 1, 10)


async def test_a_default_version_set_elsewhere_is_used_by_starts_soon(any_database_url: str, kagzi: Kagzi) -> None:
    kagzi.register_workflow("order", order)
    kagzi.register_workflow_version("order", 2, order)
    await kagzi.start_workflow("order", 1)
    async with an_application(any_database_url) as elsewhere:
        await elsewhere.set_default_workflow_version("order", 1)

    async def is_used() -> bool:
        return (await (await kagzi.start_workflow("order", 1)).describe()).version == 1

    await until(is_used)


async def test_a_default_version_that_is_not_registered_here_is_refused(any_database_url: str, kagzi: Kagzi) -> None:
    kagzi.register_workflow("order", order)
    async with an_application(any_database_url) as elsewhere:
        await elsewhere.set_default_workflow_version("order", 4)

    with pytest.raises(VersionNotFound, match="no version 4"):
        await kagzi.start_workflow("order", 1)


async def test_nothing_is_the_default_of_a_workflow_that_nobody_knows(kagzi: Kagzi) -> None:
    assert await kagzi.get_default_workflow_version("unknown") is None


# -- many --------------------------------------------------------------------------------------------------------


async def test_many_starts_take_one_trip_and_keep_their_order(kagzi: Kagzi, store: WatchedStore) -> None:
    workflow = kagzi.register_workflow("order", order)

    handles = await kagzi.start_many(workflow, list(range(500)), queue="mail", tags=["batch"], priority=2)
    trips = store.trips["start"]
    runs = await kagzi.find_runs(tags=["batch"], queue="mail", limit=1000)
    first = await handles[0].describe()

    assert trips == 1
    assert [handle.run_id for handle in handles] == [run.run_id for run in reversed(runs)]
    assert len(runs) == 500
    assert (first.input, first.priority) == ([0], 2)


async def test_a_tuple_is_all_the_arguments_of_one_of_many(kagzi: Kagzi) -> None:
    async def add(ctx: WorkflowContext, first: int, second: int = 10) -> int:
        return first + second

    workflow = kagzi.register_workflow("add", add)
    async with kagzi.create_worker():
        handles = await kagzi.start_many(workflow, [1, (2,), (3, 4)])
        results = [await within(handle.result()) for handle in handles]

    assert results == [11, 12, 7]


async def test_many_starts_by_name(kagzi: Kagzi) -> None:
    kagzi.register_workflow("order", order)

    async with kagzi.create_worker():
        handles: list[WorkflowHandle[str]] = await kagzi.start_many("order", [1, 2])
        results = [await within(handle.result()) for handle in handles]

    assert results == ["1", "2"]


async def test_no_inputs_start_nothing(kagzi: Kagzi, store: WatchedStore) -> None:
    workflow = kagzi.register_workflow("order", order)

    assert await kagzi.start_many(workflow, []) == []
    assert store.trips["start"] == 0


async def test_many_starts_take_no_id_and_start_none_where_one_does_not_fit(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)

    with pytest.raises(ConfigError, match="one id"):
        await kagzi.start_many(workflow, [1, 2], id="one")
    with pytest.raises(PayloadError, match="the input of workflow 'order'"):
        await kagzi.start_many(workflow, [1, "two"])

    assert await kagzi.find_runs() == []


async def test_many_starts_for_later_are_taken_on_time(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)

    async with kagzi.create_worker():
        handles = await kagzi.start_many(workflow, [1, 2, 3], delay=timedelta(seconds=0.4))
        results = [await within(handle.result(), 10) for handle in handles]

    assert results == ["1", "2", "3"]
