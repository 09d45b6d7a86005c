"""Connecting, closing, and using one application again."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from kagzi import ConfigError, Kagzi, MigrationError, Settings, StoreUnavailable, WorkflowContext
from kagzi.store.urls import open_store
from tests.app.applications import NEVER_POLLS, an_application, until, watch, within


async def double(ctx: WorkflowContext, number: int) -> int:
    await ctx.sleep("nap", 0.3)
    return 2 * number


async def test_an_application_that_is_not_connected_says_so_and_what_to_do(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    workflow = kagzi.register_workflow("double", double)

    async def handle() -> object:
        return kagzi.handle("01a2")

    asks = [
        lambda: workflow.start(1),
        lambda: workflow.options(id="a").start(1),
        lambda: kagzi.start_workflow("double", 1),
        lambda: kagzi.start_many(workflow, [1]),
        lambda: kagzi.find_runs(),
        lambda: kagzi.get_default_workflow_version("double"),
        lambda: kagzi.set_default_workflow_version("double", 1),
        handle,
    ]
    for ask in asks:
        with pytest.raises(ConfigError, match=r"not connected\. Use `async with kagzi:`"):
            await ask()
    async with kagzi:
        pass
    for ask in asks:
        with pytest.raises(ConfigError, match="not connected"):
            await ask()


async def test_connect_makes_a_connected_application_and_close_ends_it(any_database_url: str) -> None:
    kagzi = await Kagzi.connect(any_database_url)
    workflow = kagzi.register_workflow("double", double)
    handle = await workflow.start(1)
    await kagzi.close()
    await kagzi.close()

    again = await Kagzi.connect(any_database_url)
    run = await again.handle(handle.run_id).describe()
    await again.close()

    assert run.input == [1]


async def test_opening_twice_is_opening_once(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    store = watch(kagzi)

    await asyncio.gather(*(kagzi.open() for _ in range(5)))
    await kagzi.open()
    async with kagzi:
        assert await kagzi.find_runs() == []

    assert store.trips["open"] == 1
    assert store.trips["migrate"] == 1
    assert store.trips["close"] == 1


def test_one_application_serves_one_event_loop_after_another(any_database_url: str) -> None:
    kagzi = Kagzi(settings=Settings(database_url=any_database_url, poll_interval=NEVER_POLLS))
    workflow = kagzi.register_workflow("double", double)

    async def serve(number: int) -> int:
        async with kagzi, kagzi.create_worker():
            handle = await workflow.start(number)
            return await within(handle.result())

    assert [asyncio.run(serve(number)) for number in range(3)] == [0, 2, 4]


def test_workers_that_connect_by_themselves_serve_one_event_loop_after_another(any_database_url: str) -> None:
    kagzi = Kagzi(settings=Settings(database_url=any_database_url, poll_interval=NEVER_POLLS))
    workflow = kagzi.register_workflow("double", double)

    async def serve(number: int) -> int:
        worker = kagzi.create_worker()
        async with worker:
            results = await asyncio.gather(*(start(number) for _ in range(3)))
        return results[0]

    async def start(number: int) -> int:
        return await within((await workflow.start(number)).result())

    assert [asyncio.run(serve(number)) for number in range(3)] == [0, 2, 4]


async def test_an_application_whose_opening_failed_can_be_opened_later(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    store = watch(kagzi)
    workflow = kagzi.register_workflow("double", double)

    with store.unreachable("migrate"), pytest.raises(StoreUnavailable):
        await kagzi.open()
    with pytest.raises(ConfigError, match="not connected"):
        await workflow.start(1)
    async with kagzi, kagzi.create_worker():
        result = await within((await workflow.start(1)).result())

    assert result == 2


async def test_without_auto_migration_an_old_schema_is_refused_saying_how_to_migrate(any_database_url: str) -> None:
    careful = an_application(any_database_url, auto_migrate=False)

    with pytest.raises(MigrationError, match="kagzi db migrate"):
        await careful.open()
    async with an_application(any_database_url):
        pass
    async with careful:
        assert await careful.find_runs() == []


async def test_what_is_committed_last_is_there_after_closing(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    workflow = kagzi.register_workflow("double", double)

    async with kagzi:
        starting = [asyncio.ensure_future(workflow.start(number)) for number in range(50)]
        await asyncio.sleep(0)
    answers = await within(asyncio.gather(*starting, return_exceptions=True))
    async with kagzi:
        stored = {run.run_id for run in await kagzi.find_runs()}

    acknowledged = {answer.run_id for answer in answers if not isinstance(answer, BaseException)}
    assert acknowledged <= stored


async def test_a_database_in_memory_is_gone_with_its_application() -> None:
    kagzi = an_application("sqlite://")
    workflow = kagzi.register_workflow("double", double)

    async with kagzi, kagzi.create_worker():
        result = await within((await workflow.start(4)).result())
    async with kagzi:
        left = await kagzi.find_runs()

    assert result == 8
    assert left == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://localhost/x", "there is no store for mysql://"),
        ("kagzi.db", "without a scheme"),
        ("", "without a scheme"),
        ("sqlite://host/file.db", "always local"),
        ("sqlite:///no/such/folder/kagzi.db", "no folder"),
        ("sqlite:///kagzi.db?mode=ro", "takes none"),
        ("postgresql://localhost/x?pooler=session", "pooler=transaction"),
    ],
)
async def test_a_url_that_cannot_be_is_refused_saying_what_can(url: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        await Kagzi.connect(settings=Settings(database_url=url))


async def test_a_database_that_is_not_there_is_said_to_be_unreachable() -> None:
    settings = Settings(database_url="postgresql://127.0.0.1:1/x", store_timeout=timedelta(seconds=5))

    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1"):
        await Kagzi.connect(settings=settings)


# -- registering -------------------------------------------------------------------------------------------------


@pytest.fixture
def kagzi() -> Kagzi:
    return an_application("sqlite://")


def test_the_decorator_takes_the_functions_name_or_one_of_its_own(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def plain(ctx: WorkflowContext) -> None:
        """Do nothing."""

    @kagzi.workflow("named", version=3)
    async def other(ctx: WorkflowContext) -> None: ...

    @kagzi.workflow(version=2)
    async def versioned(ctx: WorkflowContext) -> None: ...

    assert [(each.name, each.version) for each in (plain, other, versioned)] == [
        ("plain", 1),
        ("named", 3),
        ("versioned", 2),
    ]
    assert plain.__doc__ == "Do nothing."
    assert repr(other) == "<Workflow 'named' version 3>"
    assert repr(kagzi) == "<Kagzi named, plain, versioned>"


def test_the_same_function_may_be_registered_again_and_another_may_not(kagzi: Kagzi) -> None:
    kagzi.register_workflow("double", double)
    kagzi.register_workflow("double", double)

    async def impostor(ctx: WorkflowContext) -> None: ...

    with pytest.raises(ConfigError, match="registered twice") as refusal:
        kagzi.register_workflow("double", impostor)
    assert "impostor" in str(refusal.value)
    assert __file__ in str(refusal.value)


def test_what_cannot_be_a_workflow_is_refused(kagzi: Kagzi) -> None:
    def plain(ctx: WorkflowContext) -> None: ...

    async def without_context() -> None: ...

    async def generator(ctx: WorkflowContext) -> object:
        yield 1

    class Callable:
        async def __call__(self, ctx: WorkflowContext) -> None: ...

    refusals: list[tuple[object, object, object, type[Exception], str]] = [
        ("plain", plain, 1, ConfigError, "SyncWorkflowContext"),
        ("without", without_context, 1, ConfigError, "takes no context"),
        ("generator", generator, 1, ConfigError, "async def"),
        ("callable", Callable(), 1, ConfigError, "async def"),
        ("", double, 1, ValueError, "name of a workflow"),
        ("a\0b", double, 1, ValueError, "name of a workflow"),
        ("x" * 256, double, 1, ValueError, "name of a workflow"),
        (7, double, 1, TypeError, "name of a workflow"),
        ("double", double, 0, ValueError, "version of workflow 'double'"),
        ("double", double, "1", TypeError, "version of workflow 'double'"),
    ]
    for name, function, version, kind, message in refusals:
        with pytest.raises(kind, match=message):
            kagzi.register_workflow_version(name, version, function)  # type: ignore[call-overload] # on purpose


def test_a_workflow_whose_types_cannot_be_stored_is_refused_when_it_is_registered(kagzi: Kagzi) -> None:
    class Opaque:
        pass

    async def takes(ctx: WorkflowContext, thing: Opaque) -> None: ...

    async def gives(ctx: WorkflowContext) -> Opaque:
        return Opaque()

    for function in (takes, gives):
        with pytest.raises(ConfigError, match="Opaque"):
            kagzi.register_workflow(function.__name__, function)


async def test_stores_made_by_hand_and_by_the_application_are_the_same_database(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    workflow = kagzi.register_workflow("double", double)
    async with kagzi:
        handle = await workflow.start(1)
    store = open_store(any_database_url, Settings())
    await store.open()
    counts = await store.count_open("default")
    await store.close()

    assert counts == {("double", 1): 1}
    assert handle.run_id


async def test_closing_while_it_is_being_opened_leaves_nothing_open(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    store = watch(kagzi)
    may_open = store.hold("open")

    first = asyncio.create_task(kagzi.open())
    await until(lambda: store.waiting["open"])
    closing = asyncio.create_task(kagzi.close())
    await asyncio.sleep(0)
    may_open.set()
    await within(asyncio.gather(first, closing))

    assert (store.trips["open"], store.trips["close"]) == (1, 1)
    with pytest.raises(ConfigError, match="not connected"):
        await kagzi.find_runs()


async def test_whoever_waits_to_open_what_is_closed_meanwhile_is_told(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    store = watch(kagzi)
    may_open = store.hold("open")

    first = asyncio.create_task(kagzi.open())
    await until(lambda: store.waiting["open"])
    closing = asyncio.create_task(kagzi.close())
    link = kagzi._link()
    second = asyncio.create_task(link.open())
    await asyncio.sleep(0)
    may_open.set()
    await within(asyncio.gather(first, closing))

    with pytest.raises(ConfigError, match="while it was being opened"):
        await within(second)
    assert (store.trips["open"], store.trips["close"]) == (1, 1)
