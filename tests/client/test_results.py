"""Waiting for results: what they are, what they raise, and how few questions they cost."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from kagzi import (
    ErrorKind,
    Kagzi,
    RunNotFound,
    RunStatus,
    StepFailed,
    StoreUnavailable,
    WorkflowContext,
    WorkflowFailed,
)
from kagzi.store.protocol import HintListener
from tests.app.applications import an_application, until, watch, within
from tests.app.watched_store import WatchedStore
from tests.worker.gates import Gates


@dataclasses.dataclass
class Receipt:
    number: int
    lines: list[tuple[str, float]]


async def buy(ctx: WorkflowContext, number: int) -> Receipt:
    return Receipt(number, [("tea", 2.5)])


async def wait(ctx: WorkflowContext) -> str:
    await ctx.sleep("long", 3600)
    return "done"


@pytest.fixture
def gates() -> Gates:
    return Gates()


# -- what they are -----------------------------------------------------------------------------------------------


async def test_a_result_has_the_workflows_type(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("buy", buy)

    async with kagzi.create_worker():
        handle = await workflow.start(7)
        started = await within(handle.result())
        found = await within(kagzi.handle(handle.run_id).result())

    assert started == found == Receipt(7, [("tea", 2.5)])


async def test_a_result_is_plain_json_where_the_workflow_is_not_registered(any_database_url: str, kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("buy", buy)

    async with kagzi.create_worker(), an_application(any_database_url) as elsewhere:
        handle = await workflow.start(7)
        result = await within(elsewhere.handle(handle.run_id).result())

    assert result == {"number": 7, "lines": [["tea", 2.5]]}


async def test_a_result_can_be_awaited_often_and_long_after(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("buy", buy)

    async with kagzi.create_worker():
        handle = await workflow.start(7)
        results = await within(asyncio.gather(*(handle.result() for _ in range(20))))
    later = await within(handle.result())

    assert {result.number for result in [*results, later]} == {7}


async def test_a_workflow_that_returns_nothing_has_the_result_none(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def nothing(ctx: WorkflowContext) -> None: ...

    async with kagzi.create_worker():
        handle = await nothing.start()

        await within(handle.result())
        assert await within(kagzi.handle(handle.run_id).result()) is None


# -- failures ----------------------------------------------------------------------------------------------------


class OutOfTea(Exception):
    pass


async def test_p25_a_failure_tells_what_happened_as_data(kagzi: Kagzi) -> None:
    async def charge(amount: int) -> None:
        try:
            raise OutOfTea("no tea left")
        except OutOfTea as error:
            raise ConnectionError(f"could not charge {amount}") from error

    @kagzi.workflow
    async def pay(ctx: WorkflowContext) -> None:
        await ctx.step("charge", charge, 5)

    async with kagzi.create_worker():
        handle = await pay.start()
        with pytest.raises(WorkflowFailed, match="could not charge 5") as failure:
            await within(handle.result())
        run, (step,) = await handle.describe(), await handle.history()

    error = failure.value.error
    assert (failure.value.run_id, failure.value.workflow) == (handle.run_id, "pay")
    assert (error.kind, error.type) == (ErrorKind.NETWORK_ERROR, "StepFailed")
    assert error.retryable
    assert error.occurred_at is not None
    assert "step 'charge' failed: ConnectionError: could not charge 5" in error.message
    assert [(cause.type, cause.kind) for cause in error.causes] == [("ConnectionError", ErrorKind.NETWORK_ERROR)]
    assert [cause.type for cause in error.causes[0].causes] == ["OutOfTea"]
    assert "in charge" in error.causes[0].traceback
    assert "kagzi/engine/runner.py" not in error.causes[0].traceback
    assert run.status is RunStatus.FAILED
    assert run.error == error
    assert step.error is not None
    assert (step.error.type, step.error.message) == ("ConnectionError", "could not charge 5")


async def test_a_failure_of_the_body_itself_has_its_kind_and_traceback(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def broken(ctx: WorkflowContext) -> None:
        raise OutOfTea("none")

    @kagzi.workflow
    async def many(ctx: WorkflowContext) -> None:
        raise ExceptionGroup("both", [ValueError("a"), OutOfTea("b")])

    async with kagzi.create_worker():
        with pytest.raises(WorkflowFailed) as failure:
            await within((await broken.start()).result())
        with pytest.raises(WorkflowFailed) as group:
            await within((await many.start()).result())

    assert (failure.value.error.kind, failure.value.error.type) == (ErrorKind.UNKNOWN, "OutOfTea")
    assert "in broken" in failure.value.error.traceback
    assert [(cause.type, cause.message) for cause in group.value.error.causes] == [
        ("ValueError", "a"),
        ("OutOfTea", "b"),
    ]


async def test_a_failure_can_be_caught_by_the_body_and_its_result_goes_on(kagzi: Kagzi) -> None:
    def fail() -> None:
        raise OutOfTea("none")

    @kagzi.workflow
    async def careful(ctx: WorkflowContext) -> str:
        try:
            await ctx.step("fail", fail)
        except StepFailed as failure:
            return f"{failure.step}: {failure.error.type}: {failure.error.message}"
        return "no failure"

    async with kagzi.create_worker():
        assert await within((await careful.start()).result()) == "fail: OutOfTea: none"


async def test_hostile_messages_of_errors_are_kept_as_far_as_a_store_can(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def hostile(ctx: WorkflowContext) -> None:
        raise OutOfTea("NUL \0 surrogate \ud800 quote ' \" newline \n 🦔" + "x" * 100_000)

    async with kagzi.create_worker():
        with pytest.raises(WorkflowFailed) as failure:
            await within((await hostile.start()).result())

    assert failure.value.error.message.startswith("NUL \0 surrogate ? quote ' \" newline \n 🦔xxx")
    assert len(failure.value.error.message) <= 10_000


async def test_an_error_whose_own_text_fails_ends_its_run_all_the_same(kagzi: Kagzi) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def fail() -> None:
        raise Mute

    @kagzi.workflow
    async def in_body(ctx: WorkflowContext) -> None:
        raise Mute

    @kagzi.workflow
    async def in_step(ctx: WorkflowContext) -> None:
        await ctx.step("fail", fail)

    async with kagzi.create_worker():
        for workflow in (in_body, in_step):
            with pytest.raises(WorkflowFailed):
                await within((await workflow.start()).result(), 10)


# -- timeouts and runs that are not there ------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.05, timedelta(milliseconds=50)])
async def test_a_timeout_ends_the_waiting_and_not_the_run(kagzi: Kagzi, timeout: float | timedelta) -> None:
    workflow = kagzi.register_workflow("wait", wait)

    async with kagzi.create_worker():
        handle = await workflow.start()
        with pytest.raises(TimeoutError, match=r"did not end within 0\S* s; it goes on"):
            await handle.result(timeout=timeout)
        status = await handle.status()

    assert not status.is_terminal


@pytest.mark.parametrize(("timeout", "kind"), [(-1, ValueError), (float("nan"), ValueError), ("5", TypeError)])
async def test_a_timeout_that_cannot_be_is_refused(kagzi: Kagzi, timeout: float, kind: type[Exception]) -> None:
    handle = await kagzi.register_workflow("wait", wait).start()

    with pytest.raises(kind, match="timeout"):
        await handle.result(timeout=timeout)


@pytest.mark.parametrize(
    "run_id", ["01a205f6-189b-7000-b886-967c8254939c", "no id", "", "a\0b", "\ud800", "x" * 10_000]
)
async def test_a_run_that_is_not_there_is_said_to_be_missing(kagzi: Kagzi, run_id: str) -> None:
    handle = kagzi.handle(run_id)

    for ask in (handle.result, handle.status, handle.describe, handle.history):
        with pytest.raises(RunNotFound, match="no run has the id") as missing:
            await within(ask(), 10)
        assert missing.value.run_id == run_id


async def test_a_handle_on_what_is_no_run_id_is_refused(kagzi: Kagzi) -> None:
    with pytest.raises(TypeError, match="a run_id is text, not int"):
        kagzi.handle(5)  # type: ignore[arg-type] # on purpose


async def test_one_missing_run_among_many_fails_alone(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("buy", buy)

    async with kagzi.create_worker():
        handles = [await workflow.start(number) for number in range(3)]
        missing = kagzi.handle("01a205f6-189b-7000-b886-967c8254939c")
        answers = await within(
            asyncio.gather(handles[0].result(), missing.result(), handles[1].result(), return_exceptions=True)
        )

    assert isinstance(answers[1], RunNotFound)
    assert [answers[0], answers[2]] == [Receipt(0, [("tea", 2.5)]), Receipt(1, [("tea", 2.5)])]


# -- how they arrive ---------------------------------------------------------------------------------------------


async def test_five_hundred_results_do_not_take_five_hundred_questions(any_database_url: str, kagzi: Kagzi) -> None:
    kagzi.register_workflow("buy", buy)
    client = an_application(any_database_url)
    store = watch(client)
    there = client.register_workflow("buy", buy)

    async with client:
        handles = await client.start_many(there, list(range(500)))
        waiting = [asyncio.ensure_future(handle.result()) for handle in handles]
        await until(lambda: store.trips["outcomes"] >= 1)
        async with kagzi.create_worker():
            results = await within(asyncio.gather(*waiting))
        reads = sum(store.trips[verb] for verb in ("outcomes", "existing", "get"))

    assert [result.number for result in results] == list(range(500))
    assert reads <= 60


async def test_bare_handles_ask_once_for_all_and_then_once_for_each_to_know_its_type(
    any_database_url: str, kagzi: Kagzi
) -> None:
    workflow = kagzi.register_workflow("buy", buy)
    async with kagzi.create_worker():
        started = await kagzi.start_many(workflow, list(range(50)))
        await within(asyncio.gather(*(handle.result() for handle in started)))

    client = an_application(any_database_url)
    store = watch(client)
    client.register_workflow("buy", buy)
    async with client:
        results = await within(asyncio.gather(*(client.handle(handle.run_id).result() for handle in started)))

    assert [result.number for result in results] == list(range(50))
    assert store.trips["outcomes"] <= 3
    assert store.trips["get"] <= 50


async def test_a_result_from_another_process_arrives_at_once(
    any_database_url: str, kagzi: Kagzi, tmp_path: Path
) -> None:
    program = tmp_path / "elsewhere.py"
    program.write_text(
        "import asyncio, sys\n"
        "from kagzi import Kagzi, WorkflowContext\n"
        "kagzi = Kagzi(sys.argv[1])\n"
        "@kagzi.workflow\n"
        "async def buy(ctx: WorkflowContext, number: int) -> int:\n"
        "    return number * 2\n"
        "asyncio.run(kagzi.create_worker().start())\n"
    )

    @kagzi.workflow("buy")
    async def here(ctx: WorkflowContext, number: int) -> int:
        raise NotImplementedError

    worker = await asyncio.create_subprocess_exec(sys.executable, program, any_database_url)
    try:
        first = await within((await here.start(1)).result())
        began = asyncio.get_running_loop().time()
        rest = [await within((await here.start(number)).result()) for number in range(2, 6)]
        took = asyncio.get_running_loop().time() - began
    finally:
        worker.terminate()
        status = await within(worker.wait())

    assert [first, *rest] == [2, 4, 6, 8, 10]
    assert took < 4 * 0.45, "results came by polling"
    assert status == 0


async def test_a_result_arrives_by_polling_where_no_hint_does_even_while_others_come_to_wait(
    any_database_url: str, kagzi: Kagzi, gates: Gates
) -> None:
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    kagzi.register_workflow("visit", visit)
    client = an_application(any_database_url)
    store = watch(client)
    deaf(store)
    there = client.register_workflow("visit", visit)
    others: list[asyncio.Task[str]] = []

    async with client, kagzi.create_worker():
        awaited = asyncio.ensure_future((await there.start("a")).result())
        await gates.reached("a")
        gates.open("a")

        async def arrived() -> bool:
            others.append(asyncio.create_task(client.handle((await there.start("b")).run_id).result()))
            await asyncio.sleep(0.05)  # others come all the time, each before half a second has passed quietly
            return awaited.done()

        await until(arrived)
        gates.open_all()
        await within(asyncio.gather(*others))

    assert awaited.result() == "a"


def deaf(store: WatchedStore) -> None:
    """Let no hint through: they may be lost."""

    def listen(listener: HintListener) -> object:
        return lambda: None

    store.__dict__["listen"] = listen


async def test_p14_results_wait_out_an_outage_of_the_store(kagzi: Kagzi, store: WatchedStore) -> None:
    workflow = kagzi.register_workflow("buy", buy)
    handle = await workflow.start(7)

    with store.unreachable("outcomes", "existing"):
        waiting = asyncio.ensure_future(kagzi.handle(handle.run_id).result())
        await until(lambda: store.trips["outcomes"] >= 2)
        early = waiting.done()
    async with kagzi.create_worker():
        result = await within(waiting)

    assert not early
    assert result == Receipt(7, [("tea", 2.5)])


async def test_closing_the_application_ends_the_waiting(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    workflow = kagzi.register_workflow("wait", wait)
    await kagzi.open()
    waiting = asyncio.ensure_future((await workflow.start()).result())
    await asyncio.sleep(0)

    await within(kagzi.close())

    with pytest.raises(StoreUnavailable, match="closed"):
        await within(waiting, 5)


async def test_a_handle_of_an_application_that_was_closed_says_so(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    workflow = kagzi.register_workflow("wait", wait)
    async with kagzi:
        handle = await workflow.start()

    for ask in (handle.result, handle.status, handle.describe, handle.history):
        with pytest.raises(StoreUnavailable, match=r"closed|not open"):
            await within(ask(), 5)


async def test_a_waiter_that_is_cancelled_leaves_the_others_waiting(kagzi: Kagzi, gates: Gates) -> None:
    async def visit(ctx: WorkflowContext) -> str:
        return await ctx.step("enter", gates.enter, "a")

    workflow = kagzi.register_workflow("visit", visit)
    async with kagzi.create_worker():
        handle = await workflow.start()
        first, second = (asyncio.ensure_future(handle.result()) for _ in range(2))
        await gates.reached("a")
        first.cancel()
        await asyncio.wait({first})
        gates.open_all()
        result = await within(second)

    assert first.cancelled()
    assert result == "a"
