"""A blocking view of an async application: one set of workflows for async code and for threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from kagzi import ConfigError, Kagzi, OutcomeUnknown, Settings, WorkflowContext, blocking
from kagzi.blocking.background import carry_out
from kagzi.testing import Environment
from tests.app.applications import until, within
from tests.blocking.flows import PATIENCE_S, greet


@pytest.fixture
def async_kagzi(any_database_url: str) -> Kagzi:
    """An async application that is not connected."""
    return Kagzi(settings=Settings(database_url=any_database_url))


@pytest.fixture
def view(async_kagzi: Kagzi) -> Iterator[blocking.Kagzi]:
    """A blocking view of it."""
    view = blocking.Kagzi.of(async_kagzi)
    yield view
    view.close()


def test_workflows_of_the_async_application_are_started_and_executed(async_kagzi: Kagzi, view: blocking.Kagzi) -> None:
    greeting = async_kagzi.register_workflow("greet", greet)

    with view.create_worker():
        first = view.start_workflow(greeting, "Ada").result(timeout=PATIENCE_S)
        second = view.options(id="b").start_workflow(greeting, "Bob").result(timeout=PATIENCE_S)
        many = [each.result(timeout=PATIENCE_S) for each in view.start_many(greeting, ["Eve"])]

    assert [first, second, *many] == ["Hello, Ada!", "Hello, Bob!", "Hello, Eve!"]


def test_workflows_registered_by_the_view_belong_to_the_async_application(
    async_kagzi: Kagzi, view: blocking.Kagzi
) -> None:
    greeting = view.register_workflow("greet", greet)

    async def execute() -> str:
        async with async_kagzi, async_kagzi.create_worker():
            return str(await within((await async_kagzi.start_workflow("greet", "Ada")).result()))

    assert asyncio.run(execute()) == "Hello, Ada!"
    assert greeting.start("Bob").describe().input == ["Bob"]


def test_while_the_async_application_is_open_calls_are_handed_to_its_event_loop(
    async_kagzi: Kagzi, view: blocking.Kagzi
) -> None:
    greeting = async_kagzi.register_workflow("greet", greet)

    async def main() -> str:
        async with async_kagzi, async_kagzi.create_worker():
            handle = await asyncio.to_thread(view.start_workflow, greeting, "Ada")
            assert await asyncio.to_thread(use_in_a_block) == 1
            assert view._original._connection is None  # none of its own
            return await within(asyncio.to_thread(handle.result))

    def use_in_a_block() -> int:
        with view:  # its end does not close what others have opened
            return len(view.find_runs())

    assert asyncio.run(main()) == "Hello, Ada!"
    assert view.start_workflow(greeting, "Bob").describe().input == ["Bob"]  # by a connection of its own


def test_a_view_and_its_application_are_open_on_two_event_loops_whichever_came_first(
    async_kagzi: Kagzi, view: blocking.Kagzi
) -> None:
    greeting = async_kagzi.register_workflow("greet", greet)
    handle = view.start_workflow(greeting, "Ada")

    async def main() -> str:
        async with async_kagzi, async_kagzi.create_worker():
            assert await asyncio.to_thread(handle.status)
            return str(await within(async_kagzi.handle(handle.run_id).result()))

    assert asyncio.run(main()) == "Hello, Ada!"
    assert handle.result(timeout=PATIENCE_S) == "Hello, Ada!"


def test_all_views_of_an_application_share_a_connection(async_kagzi: Kagzi, view: blocking.Kagzi) -> None:
    async_kagzi.register_workflow("greet", greet)
    view.start_workflow("greet", "Ada")

    another = blocking.Kagzi.of(async_kagzi)

    assert len(another.find_runs()) == 1
    assert another._original._open_link() is view._original._open_link()
    assert another.asynchronous is view.asynchronous is async_kagzi


async def test_a_step_that_uses_a_view_stays_in_the_environment_of_the_test(async_kagzi: Kagzi) -> None:
    view = blocking.Kagzi.of(async_kagzi)
    async_kagzi.register_workflow("greet", greet)

    def start_another(name: str) -> str:
        return str(view.start_workflow("greet", name).result(timeout=PATIENCE_S))

    @async_kagzi.workflow
    async def delegate(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("another", start_another, name)

    async with Environment(async_kagzi):
        assert await (await delegate.start("Ada")).result() == "Hello, Ada!"
        assert len(await async_kagzi.find_runs()) == 2

    assert await asyncio.to_thread(view.find_runs) == []  # nothing came to the real database
    await asyncio.to_thread(view.close)


def test_a_call_whose_event_loop_ends_is_told_that_its_outcome_is_unknown(
    async_kagzi: Kagzi, view: blocking.Kagzi
) -> None:
    """An asyncio.run that ends while another thread waits for it must not leave that thread waiting for ever."""
    async_kagzi.register_workflow("greet", greet)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            view.start_workflow("greet", "Ada").result()
        except Exception as error:
            errors.append(error)

    async def end_while_it_waits() -> None:
        await async_kagzi.open()
        thread.start()
        link = async_kagzi._open_link()
        await until(lambda: link.waiting._waiters)
        await link.store.close()  # and not the application, which would answer

    thread = threading.Thread(target=wait, daemon=True)
    asyncio.run(end_while_it_waits())
    thread.join(PATIENCE_S)

    assert [type(error) for error in errors] == [OutcomeUnknown]


def test_a_call_that_its_event_loop_never_came_to_is_told_so_too() -> None:
    loop = asyncio.new_event_loop()
    errors: list[BaseException] = []

    async def call() -> None:
        raise AssertionError("nobody runs this loop")

    def wait() -> None:
        try:
            carry_out(call(), loop, what="a call")
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    while not loop._ready:  # type: ignore[attr-defined] # what was handed over to it
        time.sleep(0.01)
    loop.close()
    thread.join(PATIENCE_S)
    wait()  # and to a loop that is closed already

    assert [type(error) for error in errors] == [OutcomeUnknown, OutcomeUnknown]


def test_an_application_left_open_on_a_loop_that_ended_is_said_to_be(any_database_url: str) -> None:
    kagzi = blocking.Kagzi(settings=Settings(database_url=any_database_url))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(kagzi.asynchronous.open())

    with pytest.raises(ConfigError, match="event loop that does not run"):
        kagzi.find_runs()

    loop.run_until_complete(kagzi.asynchronous.close())
    loop.close()
    assert kagzi.find_runs() == []
    kagzi.close()


def test_a_view_of_a_view_and_of_anything_else_is_refused(view: blocking.Kagzi) -> None:
    with pytest.raises(TypeError, match=r"one of a kagzi\.Kagzi"):
        blocking.Kagzi.of(view)  # type: ignore[arg-type] # what is to be refused


def test_an_application_that_is_closed_stays_closed_until_it_is_opened(view: blocking.Kagzi) -> None:
    view.open()
    view.close()

    with pytest.raises(ConfigError, match="was closed"):
        view.find_runs()
    view.open()
    assert view.find_runs() == []
