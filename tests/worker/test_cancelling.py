"""Cancelling runs wherever they are: queued, running, warm, parked or to be tried again; and ending them at once."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from kagzi import (
    ErrorKind,
    Kagzi,
    RetryPolicy,
    RunClosed,
    RunNotFound,
    Signal,
    SyncWorkflowContext,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowFailed,
    WorkflowHandle,
    step_info,
)
from kagzi.settings import Settings
from tests.app.applications import until
from tests.app.watched_store import WatchedStore
from tests.worker.gates import Gates

DAY = timedelta(days=1)


@pytest.fixture
def kagzi(any_database_url: str) -> Kagzi:
    return Kagzi(any_database_url)


async def the_end_of(handle: WorkflowHandle[Any]) -> WorkflowCancelled:
    with pytest.raises(WorkflowCancelled) as ended:
        await handle.result(timeout=30)
    return ended.value


async def test_a_queued_run_is_cancelled_without_a_worker(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def never(ctx: WorkflowContext) -> None:
        raise AssertionError("it was to be cancelled")

    async with kagzi:
        handle = await never.options(delay=60).start()
        await handle.cancel("duplicate order")
        await handle.cancel("again")
        error, run = await the_end_of(handle), await handle.describe()

    assert error.reason == "duplicate order"
    assert run.status == "CANCELLED"
    assert run.error is not None
    assert (run.error.kind, run.error.message) == (ErrorKind.CANCELLED, "duplicate order")


async def test_a_running_step_is_cancelled_and_the_body_cleans_up(kagzi: Kagzi) -> None:
    gates, undone, stopped = Gates(), list[str](), asyncio.Event()

    async def work() -> None:
        try:
            await gates.enter("work")
        except asyncio.CancelledError:
            stopped.set()
            raise

    async def undo() -> None:
        undone.append("undo")

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        try:
            await ctx.step("work", work)
            await ctx.step("more", work)
        finally:
            await ctx.step("undo", undo)

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await gates.reached("work")
        await handle.cancel()
        error = await the_end_of(handle)
        steps = await handle.history()

    assert error.reason is None
    assert (undone, stopped.is_set(), gates.entered) == (["undo"], True, ["work"])
    assert [(step.name, step.kind) for step in steps] == [("cancel", "CANCEL"), ("undo", "STEP")]


async def test_a_thread_is_told_and_its_result_dropped(kagzi: Kagzi) -> None:
    begun, told = threading.Event(), threading.Event()

    def compute() -> str:
        info = step_info()
        begun.set()
        while not info.cancelled:
            pass
        told.set()
        return "too late"

    @kagzi.workflow
    async def computing(ctx: WorkflowContext) -> str:
        return await ctx.step("compute", compute)

    async with kagzi, kagzi.create_worker():
        handle = await computing.start()
        await until(begun.is_set, what="the thread has begun")
        await handle.cancel()
        await the_end_of(handle)
        await until(told.is_set, what="the thread was told")
        assert [step.name for step in await handle.history()] == ["cancel"]


@pytest.mark.parametrize("park_after", [timedelta(0), DAY], ids=["parked", "warm"])
@pytest.mark.parametrize("wait", ["sleep", "signal", "step retry"])
async def test_a_waiting_run_is_cancelled(any_database_url: str, park_after: timedelta, wait: str) -> None:
    kagzi = Kagzi(settings=Settings(database_url=any_database_url, park_after=park_after))
    failed = asyncio.Event()

    async def fail() -> None:
        failed.set()
        raise ConnectionError("again later")

    @kagzi.workflow
    async def waiting(ctx: WorkflowContext) -> None:
        failed.set()
        if wait == "sleep":
            await ctx.sleep("long", DAY / 2)
        elif wait == "signal":
            await ctx.wait_for(Signal("never"), timeout=DAY / 2)
        else:
            await ctx.options(retry=RetryPolicy.fixed(3600, max_attempts=9)).step("fail", fail)

    async with kagzi, kagzi.create_worker():
        handle = await waiting.start()
        await failed.wait()
        if park_after == timedelta(0):
            await until_status(handle, "SLEEPING")
        await handle.cancel("enough")
        assert (await the_end_of(handle)).reason == "enough"


async def test_a_run_that_waits_for_its_next_attempt_is_cancelled(kagzi: Kagzi) -> None:
    begun: list[int] = []

    @kagzi.workflow(retry=RetryPolicy.fixed(3600, max_attempts=9))
    async def failing(ctx: WorkflowContext) -> None:
        begun.append(ctx.attempt)
        raise ConnectionError("again later")

    async with kagzi, kagzi.create_worker():
        handle = await failing.start()
        await until_status(handle, "PENDING", attempts=2)
        await handle.cancel()
        await the_end_of(handle)

    assert begun == [1]


async def test_no_attempt_follows_a_cancellation(kagzi: Kagzi) -> None:
    @kagzi.workflow(retry=RetryPolicy.fixed(0.01, max_attempts=9), retry_if=lambda error: True)
    async def failing(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("long", DAY)
        finally:
            raise ConnectionError("of the cleaning up")

    async with kagzi, kagzi.create_worker():
        handle = await failing.start()
        await until_status(handle, "SLEEPING")
        await handle.cancel()
        with pytest.raises(WorkflowFailed, match="of the cleaning up"):
            await handle.result(timeout=30)
        assert (await handle.describe()).attempts == 1


async def test_an_order_that_is_being_recorded_when_an_attempt_fails_is_heard_by_the_next(
    kagzi: Kagzi, store: WatchedStore
) -> None:
    """P20: the last record of the attempt is durable before the order, which nobody of that attempt hears."""
    attempts: list[int] = []

    @kagzi.workflow(retry=RetryPolicy.fixed(0.01, max_attempts=2))
    async def persist(ctx: WorkflowContext) -> None:
        attempts.append(ctx.attempt)
        await ctx.sleep("pause", 0.1)
        if ctx.attempt == 1:
            raise ConnectionError("to be tried again")
        await ctx.sleep("long", DAY)

    async with kagzi, kagzi.create_worker() as worker:
        gate = store.hold("commit")
        handle = await persist.start()
        await until(lambda: store.waiting["commit"] > 0)
        await handle.cancel("enough")
        await until(lambda: all(execution._mail.is_ordering for execution in worker.slots.executions()))
        gate.set()
        error = await the_end_of(handle)

    assert error.reason == "enough"
    assert attempts == [1, 2]


async def test_a_body_that_returns_all_the_same_is_completed(kagzi: Kagzi) -> None:
    """P20."""

    @kagzi.workflow
    async def stubborn(ctx: WorkflowContext) -> str:
        try:
            await ctx.sleep("long", DAY)
        except asyncio.CancelledError:
            await ctx.sleep("short", 0.01)
        return "done"

    async with kagzi, kagzi.create_worker():
        handle = await stubborn.start()
        await until_status(handle, "SLEEPING")
        await handle.cancel()
        assert await handle.result(timeout=30) == "done"
        await handle.cancel()  # idempotent: it was asked to before it ended


@pytest.mark.parametrize("cleaning", ["step", "sleep", "nothing that can happen"])
async def test_cleaning_up_is_bounded(any_database_url: str, cleaning: str) -> None:
    settings = Settings(database_url=any_database_url, cancel_grace=timedelta(milliseconds=50))
    kagzi, gates = Kagzi(settings=settings), Gates()

    @kagzi.workflow
    async def slow(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("long", DAY)
        finally:
            if cleaning == "step":
                await ctx.step("clean", gates.enter, "clean")
            elif cleaning == "sleep":
                await ctx.sleep("clean", DAY)
            else:
                await asyncio.Event().wait()

    async with kagzi, kagzi.create_worker():
        handle = await slow.start()
        await until_status(handle, "SLEEPING")
        await handle.cancel("why")
        assert (await the_end_of(handle)).reason == "why"


async def test_a_shielded_step_goes_on_and_its_result_counts(kagzi: Kagzi) -> None:
    gates, results = Gates(), list[str]()

    @kagzi.workflow
    async def shielding(ctx: WorkflowContext) -> None:
        charge = ctx.step("charge", gates.enter, "charge")
        try:
            await asyncio.shield(charge)
        except asyncio.CancelledError:
            results.append(await charge)
            raise

    async with kagzi, kagzi.create_worker():
        handle = await shielding.start()
        await gates.reached("charge")
        await handle.cancel()
        await until_history(handle, "cancel")
        gates.open("charge")
        await the_end_of(handle)

    assert results == ["charge"]
    assert gates.entered == ["charge"]


async def test_a_def_workflow_is_cancelled(kagzi: Kagzi) -> None:
    cleaned: list[str] = []

    @kagzi.workflow
    def plain(ctx: SyncWorkflowContext) -> None:
        try:
            ctx.sleep("long", DAY)
        finally:
            cleaned.append(ctx.step("clean", str, "clean"))

    async with kagzi, kagzi.create_worker():
        handle = await plain.start()
        await until_status(handle, "SLEEPING")
        await handle.cancel()
        await the_end_of(handle)

    assert cleaned == ["clean"]


async def test_a_group_is_cancelled_as_a_whole(kagzi: Kagzi) -> None:
    gates = Gates()

    @kagzi.workflow
    async def several(ctx: WorkflowContext) -> None:
        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(ctx.step(name, gates.enter, name))

    async with kagzi, kagzi.create_worker():
        handle = await several.start()
        await gates.full(3)
        await handle.cancel()
        await the_end_of(handle)
        await gates.full(0)


async def test_a_run_whose_worker_is_gone_begins_no_step_once_it_is_cancelled(kagzi: Kagzi) -> None:
    executed: list[str] = []

    @kagzi.workflow
    async def two(ctx: WorkflowContext) -> None:
        await ctx.sleep("short", 2)
        await ctx.step("late", executed.append, "late")

    async with kagzi:
        async with kagzi.create_worker():
            handle = await two.start()
            await until_status(handle, "SLEEPING")
        await handle.cancel()
        await asyncio.sleep(2)  # the timer is due as well: whoever claims the run finds both
        async with kagzi.create_worker():
            await the_end_of(handle)

    assert executed == []


async def test_terminating_ends_a_run_whatever_it_does(kagzi: Kagzi) -> None:
    gates, cleaned, stopped = Gates(), list[str](), asyncio.Event()

    async def work() -> None:
        try:
            await gates.enter("work")
        except asyncio.CancelledError:
            stopped.set()
            raise

    @kagzi.workflow
    async def stubborn(ctx: WorkflowContext) -> None:
        try:
            await ctx.step("work", work)
        finally:
            await ctx.step("clean", cleaned.append, "clean")

    async with kagzi, kagzi.create_worker():
        handle = await stubborn.start()
        await gates.reached("work")
        await handle.terminate("at once")
        assert (await handle.status()) == "CANCELLED"
        await stopped.wait()
        await handle.terminate()
        await handle.cancel()
        assert (await the_end_of(handle)).reason == "at once"

    assert cleaned == []


async def test_what_has_ended_or_is_not_there_can_not_be_cancelled(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def short(ctx: WorkflowContext) -> str:
        return "done"

    async with kagzi, kagzi.create_worker():
        handle = await short.start()
        await handle.result(timeout=30)
        for end in (handle.cancel, handle.terminate):
            with pytest.raises(RunClosed, match="COMPLETED"):
                await end()
        with pytest.raises(RunNotFound):
            await kagzi.handle("01997e00-0000-7000-8000-00000000c0de").cancel()
        with pytest.raises(TypeError, match="reason"):
            await handle.cancel(7)  # type: ignore[arg-type] # the point of the test
        assert await handle.result(timeout=30) == "done"


async def test_a_process_that_has_done_nothing_else_can_cancel(any_database_url: str) -> None:
    async def never(ctx: WorkflowContext) -> None:
        return None

    async with Kagzi(any_database_url) as kagzi:
        runs = [await kagzi.register_workflow(name, never).options(delay=60).start() for name in ("one", "two")]

    for run, end in zip(runs, (WorkflowHandle.cancel, WorkflowHandle.terminate), strict=True):
        async with Kagzi(any_database_url) as fresh:
            await end(fresh.handle(run.run_id))
            assert await fresh.handle(run.run_id).status() == "CANCELLED"


async def test_a_reason_is_kept_whatever_it_holds(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def never(ctx: WorkflowContext) -> None:
        return None

    async with kagzi:
        handle = await never.options(delay=60).start()
        await handle.cancel('\x00 \ud800 "{schema}" \U0001f994' + "x" * 100_000)
        reason = (await the_end_of(handle)).reason

    assert reason is not None
    assert reason.startswith("\x00 ")
    assert '"{schema}" \U0001f994' in reason
    assert len(reason) < 20_000


async def until_status(handle: WorkflowHandle[Any], status: str, *, attempts: int = 1) -> None:
    async with asyncio.timeout(30):
        while True:
            run = await handle.describe()
            if run.status == status and run.attempts == attempts:
                return
            await asyncio.sleep(0.01)


async def until_history(handle: WorkflowHandle[Any], name: str) -> None:
    async with asyncio.timeout(30):
        while name not in [step.name for step in await handle.history()]:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
