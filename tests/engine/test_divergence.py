"""P16: code that no longer fits a run's record stops before any side effect, says so, and goes on once it fits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from kagzi import Kagzi, WorkflowContext
from kagzi.engine import closings
from kagzi.engine.endings import Ending
from kagzi.engine.mentions import names_in
from kagzi.model.run import RunStatus
from kagzi.rules.divergence import Mismatch, diverged
from kagzi.rules.failures import decode_error
from kagzi.worker import claiming
from tests.engine.host import World

Body = Callable[[WorkflowContext], Awaitable[Any]]


def name_of(letter: str) -> str:
    return letter.upper()


async def original(ctx: WorkflowContext) -> str:
    first = await ctx.step("a", name_of, "a")
    second = await ctx.step("b", name_of, "b")
    await ctx.sleep("rest", 5_000)
    return first + second + await ctx.step("c", name_of, "c")


async def renamed(ctx: WorkflowContext) -> None:
    await ctx.step("other", name_of, "x")


async def removed(ctx: WorkflowContext) -> None:
    await ctx.step("a", name_of, "a")
    await ctx.sleep("rest", 5_000)


async def inserted(ctx: WorkflowContext) -> None:
    await ctx.step("a", name_of, "a")
    await ctx.step("new", name_of, "new")
    await ctx.step("b", name_of, "b")


async def swapped(ctx: WorkflowContext) -> None:
    await ctx.step("b", name_of, "b")
    await ctx.step("a", name_of, "a")


async def turned_to_sleep(ctx: WorkflowContext) -> None:
    await ctx.step("a", name_of, "a")
    await ctx.sleep("b", 5)


async def moved_to_a_task(ctx: WorkflowContext) -> None:
    await ctx.step("a", name_of, "a")
    await asyncio.gather(asyncio.create_task(_call(ctx)))


async def _call(ctx: WorkflowContext) -> str:
    return await ctx.step("b", name_of, "b")


async def returned(ctx: WorkflowContext) -> str:
    return await ctx.step("a", name_of, "a")


async def raised(ctx: WorkflowContext) -> None:
    await ctx.step("a", name_of, "a")
    raise ValueError("a defect of the new code")


def of_another_type(letter: str) -> int:
    return len(letter)


async def retyped(ctx: WorkflowContext) -> None:
    await ctx.step("a", of_another_type, "a")


async def inserted_where_it_rests(ctx: WorkflowContext) -> None:
    await ctx.step("a", name_of, "a")
    await ctx.step("b", name_of, "b")
    await ctx.step("new", name_of, "new")
    await ctx.sleep("rest", 5_000)


async def inserted_beside_the_rest(ctx: WorkflowContext) -> None:
    await ctx.step("a", name_of, "a")
    await ctx.step("b", name_of, "b")
    await asyncio.gather(ctx.sleep("rest", 5_000), ctx.step("new", name_of, "new"))


async def rest_removed(ctx: WorkflowContext) -> None:
    await ctx.step("a", name_of, "a")
    await ctx.step("b", name_of, "b")
    await ctx.step("c", name_of, "c")


async def rest_removed_at_the_end(ctx: WorkflowContext) -> None:
    await ctx.step("a", name_of, "a")
    await ctx.step("b", name_of, "b")


async def rest_renamed(ctx: WorkflowContext) -> None:
    await ctx.step("a", name_of, "a")
    await ctx.step("b", name_of, "b")
    await ctx.sleep("pause", 5_000)


WHERE_IT_RESTS = [
    inserted_where_it_rests,
    inserted_beside_the_rest,
    rest_removed,
    rest_removed_at_the_end,
    rest_renamed,
]
CHANGES = [
    *[renamed, removed, inserted, swapped, turned_to_sleep, moved_to_a_task, returned, raised, retyped],
    *WHERE_IT_RESTS,
]


def parked() -> World:
    """A run of `original` that has recorded a and b and rests."""
    world = World(original, park_after=timedelta(0))
    world.claim()
    world.settle()
    assert world.endings == [Ending.PARKED]
    return world


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_code_that_does_not_fit_is_set_aside_before_it_does_anything(change: Body) -> None:
    world = parked()
    recorded = list(world.memory.records)

    world.become(change)  # type: ignore[arg-type] # coroutine functions all
    world.claim()
    assert world.steps.running == []
    world.settle()

    assert world.steps.executed == ["0/a#1", "0/b#1"]
    assert world.memory.records == recorded
    assert world.memory.transition is not None
    assert world.memory.transition.status is RunStatus.SLEEPING
    assert world.memory.transition.error is not None
    assert world.endings[-1] is Ending.RELEASED


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_run_that_was_set_aside_goes_on_with_code_that_fits(change: Body) -> None:
    world = parked()
    world.become(change)  # type: ignore[arg-type] # coroutine functions all
    world.claim()
    world.settle()

    world.become(original)
    outcome = world.finish()

    assert outcome.value == "ABC"
    assert world.steps.executed == ["0/a#1", "0/b#1", "0/c#1"]


def test_a_divergence_shows_what_was_expected_and_what_was_found() -> None:
    world = parked()

    world.become(inserted)
    world.claim()
    world.settle()

    transition = world.memory.transition
    assert transition is not None
    error = decode_error(transition.error or "")
    assert error.type == "DivergenceError"
    assert error.message.splitlines()[1:] == [
        "  STEP 0/a#1",
        "- recorded: STEP 0/b#1",
        "+ code asks for: STEP 0/new#1",
    ]
    (waits,) = msgspec.json.decode(transition.waits or "", type=list[str])
    assert waits == f"code that fits its record: {error.message}"


CAUSES: dict[Body, str] = {
    renamed: "step 'a' (0/a#1) was renamed to step 'other' (0/other#1)",
    removed: "step 'b' (0/b#1) was replaced by timer 'rest' (0/rest#1)",
    inserted: "step 'new' (0/new#1) was inserted before step 'b' (0/b#1)",
    swapped: "step 'a' (0/a#1) and step 'b' (0/b#1) were swapped",
    turned_to_sleep: "step 'b' (0/b#1) is a timer now",
    moved_to_a_task: "step 'b' (0/b#1) is called in another task now, as 0.1/b#1",
    returned: "step 'b' (0/b#1) was removed",
    raised: "the code raises ValueError where step 'b' (0/b#1) was recorded",
    inserted_where_it_rests: "step 'new' (0/new#1) was inserted before timer 'rest' (0/rest#1)",
    inserted_beside_the_rest: "timer 'rest' (0/rest#1) is called in another task now, as 0.1/rest#1",
    rest_removed: "timer 'rest' (0/rest#1) was replaced by step 'c' (0/c#1)",
    rest_removed_at_the_end: "timer 'rest' (0/rest#1) was removed",
    rest_renamed: "timer 'rest' (0/rest#1) was renamed to timer 'pause' (0/pause#1)",
}


@pytest.mark.parametrize("change", CAUSES, ids=lambda change: change.__name__)
def test_a_divergence_says_what_is_likely_to_have_happened(change: Body) -> None:
    world = parked()

    world.become(change)  # type: ignore[arg-type] # coroutine functions all
    world.claim()
    world.settle()

    assert world.memory.transition is not None
    message = decode_error(world.memory.transition.error or "").message
    assert f"it looks as if {CAUSES[change]}. Nothing new was executed." in message


async def first_only(ctx: WorkflowContext) -> str:
    return await ctx.step("b", name_of, "b")


async def added_beside(ctx: WorkflowContext) -> None:
    await ctx.step("a", name_of, "a")
    await ctx.step("b", name_of, "b")
    new = ctx.step("new", name_of, "new")
    new.add_done_callback(lambda _: None)  # which starts it
    await ctx.sleep("rest", 5_000)


def test_a_step_that_was_removed_and_one_that_was_added_are_told_as_such() -> None:
    causes = {
        first_only: "step 'a' (0/a#1) was removed",
        added_beside: "was added where the run waits for timer 'rest'",
    }
    for change, cause in causes.items():
        world = parked()
        world.become(change)
        world.claim()
        world.settle()

        assert world.memory.transition is not None
        assert cause in decode_error(world.memory.transition.error or "").message


def test_names_are_found_in_helpers_of_the_module_and_in_closures() -> None:
    inside = "kept in a closure"

    def closed_over() -> str:
        return inside + "text of the closure"

    async def workflow(ctx: WorkflowContext) -> None:
        await ctx.step("literal", name_of, closed_over())
        await _call(ctx)

    names = names_in(workflow)

    assert {"literal", "text of the closure", "b", "name_of"} <= names
    assert "nowhere to be found" not in names


def test_a_long_divergence_is_cut() -> None:
    many = [f"STEP 0/s{number}#1" for number in range(20)]

    error = diverged(Mismatch(matched=many, expected=many, found=[]), mentions=lambda name: False)

    assert error.diff == (
        *[f"  STEP 0/s{number}#1" for number in (17, 18, 19)],
        *[f"- recorded: STEP 0/s{number}#1" for number in range(5)],
        "- ... and 15 more",
        "+ code asks for nothing",
    )
    assert error.expected == tuple(many[:5])


def test_steps_added_after_the_record_are_no_divergence_in_a_run_that_did_not_rest_there() -> None:
    async def longer(ctx: WorkflowContext) -> str:
        first = await ctx.step("a", name_of, "a")
        second, _ = await asyncio.gather(ctx.step("b", name_of, "b"), ctx.step("new", name_of, "new"))
        return first + second

    world = World(longer).remember(parked().memory.records)

    assert world.finish().value == "AB"
    assert world.steps.executed == ["0/new#1"]


def test_a_timeout_put_around_the_rest_is_no_divergence() -> None:
    async def bounded(ctx: WorkflowContext) -> str:
        first = await ctx.step("a", name_of, "a")
        second = await ctx.step("b", name_of, "b")
        async with asyncio.timeout(9_000):
            await ctx.sleep("rest", 5_000)
        return first + second

    world = parked()

    world.become(bounded)

    assert world.finish().value == "AB"


async def test_a_stored_run_rests_under_wrong_code_and_ends_under_right_code(
    any_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And soon: it is looked at when the worker with that code registers, however long it would rest."""
    monkeypatch.setattr(closings, "SECOND_LOOK", timedelta(hours=1))
    monkeypatch.setattr(claiming, "SECOND_LOOK", timedelta(hours=1))
    executed: list[str] = []

    def note(letter: str) -> str:
        executed.append(letter)
        return letter.upper()

    async def right(ctx: WorkflowContext) -> str:
        first = await ctx.step("a", note, "a")
        await ctx.sleep("rest", 1.5)
        return first + await ctx.step("b", note, "b")

    async def wrong(ctx: WorkflowContext) -> str:
        return await ctx.step("z", note, "z")

    async def until_waiting(kagzi: Kagzi, run_id: str, what: str) -> None:
        async with asyncio.timeout(60):
            while what not in str((await kagzi.handle(run_id).describe()).waiting_for):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async with Kagzi(any_database_url) as kagzi:
        handle = await kagzi.register_workflow("order", right).start()
        async with kagzi.create_worker():
            await until_waiting(kagzi, handle.run_id, "rest")
    async with Kagzi(any_database_url) as kagzi:
        kagzi.register_workflow("order", wrong)
        async with kagzi.create_worker():
            await until_waiting(kagzi, handle.run_id, "code that fits its record")
            run = await kagzi.handle(handle.run_id).describe()
    assert run.status is RunStatus.SLEEPING
    assert executed == ["a"]
    async with Kagzi(any_database_url) as kagzi:
        kagzi.register_workflow("order", right)
        async with kagzi.create_worker():
            assert await kagzi.handle(handle.run_id).result(timeout=60) == "AB"

    assert executed == ["a", "b"]


def test_a_signature_that_no_longer_takes_the_input_is_set_aside() -> None:
    async def with_another_parameter(ctx: WorkflowContext, letter: str) -> str:
        return letter

    world = parked()
    world.become(with_another_parameter)
    world.claim()
    world.settle()
    assert world.endings[-1] is Ending.RELEASED

    world.become(original)

    assert world.finish().value == "ABC"


def test_a_signature_that_no_longer_takes_the_input_of_a_run_that_rests_before_its_first_record_is_set_aside() -> None:
    async def resting(ctx: WorkflowContext) -> str:
        await ctx.sleep("rest", 3600)
        return "rested"

    async def with_another_parameter(ctx: WorkflowContext, letter: str) -> str:
        return letter

    world = World(resting, park_after=timedelta(0))
    world.claim()
    world.settle()
    assert world.endings == [Ending.PARKED]
    world.become(with_another_parameter)
    world.claim()
    world.settle()
    assert world.endings[-1] is Ending.RELEASED

    world.become(resting)

    assert world.finish().value == "rested"
