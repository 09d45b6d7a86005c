"""Results: what they are, and what they raise."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta

import pytest

from kagzi import (
    ErrorKind,
    Kagzi,
    RunNotFound,
    RunStatus,
    StepFailed,
    WorkflowContext,
    WorkflowFailed,
)
from tests.app.applications import an_application, within


@dataclasses.dataclass
class Receipt:
    number: int
    lines: list[tuple[str, float]]


async def buy(ctx: WorkflowContext, number: int) -> Receipt:
    return Receipt(number, [("tea", 2.5)])


async def wait(ctx: WorkflowContext) -> str:
    await ctx.sleep("long", 3600)
    return "done"


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
