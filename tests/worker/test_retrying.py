"""Steps and runs that fail and are executed again, by real workers on real databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from kagzi import (
    ErrorKind,
    Kagzi,
    NonRetryable,
    RetryAfter,
    RetryPolicy,
    RunStatus,
    StepStatus,
    WorkflowContext,
    WorkflowFailed,
    step,
    step_info,
)
from kagzi.model.run import Run, RunId
from kagzi.model.worker import WorkerState
from tests.app.applications import an_application, until, within
from tests.app.watched_store import WatchedStore
from tests.worker.deaths import declare_dead
from tests.worker.gates import Gates

AT_ONCE = RetryPolicy.fixed(0, max_attempts=3)
IN_TEN_MINUTES = RetryPolicy.fixed(600, max_attempts=3)
SOON = RetryPolicy.fixed(0.4, max_attempts=5)
"""Longer than these workers keep a waiting run in memory."""


class Flaky:
    """A step's function that fails a number of times; `attempts` are the numbers of its executions."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.failures = failures
        self.attempts: list[int] = []
        self.error = error or ConnectionError("no answer")

    async def __call__(self) -> str:
        self.attempts.append(step_info().attempt)
        if len(self.attempts) <= self.failures:
            raise self.error
        return f"answered at {len(self.attempts)}"


def register(kagzi: Kagzi, flaky: Flaky, **options: Any) -> Any:
    """A workflow of one step, called with these options."""

    @kagzi.workflow
    async def call(ctx: WorkflowContext) -> str:
        return await ctx.options(**options).step("call", flaky)

    return call


def counts(run: Run) -> tuple[int, int, int]:
    return run.attempts, run.crashes, run.wakeups


@pytest.mark.parametrize("kept", [True, False], ids=["kept in memory", "parked"])
async def test_a_failing_step_shows_how_often_it_failed_and_when_it_is_executed_again(
    any_database_url: str, kept: bool
) -> None:
    kagzi = an_application(any_database_url, park_after=timedelta(hours=1 if kept else 0))
    call = register(kagzi, Flaky(9), retry=IN_TEN_MINUTES)

    async with kagzi, kagzi.create_worker() as worker:
        handle = await call.start()
        await until(lambda: has_failed(handle, 1))
        await until(lambda: kept or worker.run_count == 0)
        run, (shown,) = await handle.describe(), await handle.history()

    (failed,) = shown.failed_attempts
    assert shown.wake_at is not None
    assert shown.started_at is not None
    assert (shown.status, shown.attempts, shown.max_attempts) == (StepStatus.RETRYING, 1, 3)
    assert shown.finished_at is None
    assert timedelta(seconds=600) <= shown.wake_at - shown.started_at < timedelta(seconds=660)
    assert (failed.attempt, failed.error.kind, failed.error.message) == (1, ErrorKind.NETWORK_ERROR, "no answer")
    assert "in __call__" in failed.error.traceback
    assert shown.started_at <= failed.at
    assert run.waiting_for == (f"step 'call', retrying at {shown.wake_at.isoformat()}: 1 of 3 attempts failed",)
    assert run.status is (RunStatus.RUNNING if kept else RunStatus.SLEEPING)
    assert run.wake_at == (None if kept else shown.wake_at)


async def has_failed(handle: Any, times: int) -> bool:
    steps = await handle.history()
    return any(len(each.failed_attempts) >= times for each in steps)


async def test_a_step_that_answers_late_keeps_its_failures_in_its_history(kagzi: Kagzi) -> None:
    flaky = Flaky(2)
    call = register(kagzi, flaky, retry=AT_ONCE)

    async with kagzi, kagzi.create_worker():
        handle = await call.start()
        result = await within(handle.result())
        (shown,) = await handle.history()

    assert result == "answered at 3"
    assert flaky.attempts == [1, 2, 3]
    assert (shown.status, shown.attempts, shown.error) == (StepStatus.COMPLETED, 3, None)
    assert [failed.attempt for failed in shown.failed_attempts] == [1, 2]
    assert shown.failed_attempts[0].at <= shown.failed_attempts[1].at


async def test_policies_cost_a_healthy_run_no_write(kagzi: Kagzi, store: WatchedStore) -> None:
    async def five_steps(ctx: WorkflowContext) -> list[int]:
        return [await ctx.step("number", number_of) for _ in range(5)]

    async def number_of() -> int:
        return step_info().attempt

    kagzi.register_workflow("plain", five_steps)
    kagzi.workflow("insured", retry=AT_ONCE, step_retry=IN_TEN_MINUTES)(five_steps)

    written = []
    async with kagzi:
        for name in ("plain", "insured"):
            store.trips.clear()
            store.arguments.clear()
            handle = await kagzi.start_workflow(name)
            async with kagzi.create_worker():
                await within(handle.result())
            changes = [change for batch in store.arguments["commit"] for change in batch]
            shapes = [
                (len(change.records), len(change.failed), change.replaces, change.transition is None)
                for change in changes
            ]
            rows = (
                len(await store.real.steps(RunId(handle.run_id))),
                len(await store.real.attempts(RunId(handle.run_id))),
            )
            written.append((store.trips["start"], store.trips["commit"], shapes, rows))

    plain, insured = written
    assert insured == plain
    assert plain == (1, 6, [(1, 0, False, True)] * 5 + [(0, 0, False, False)], (5, 0))


async def test_a_step_that_keeps_failing_fails_with_its_last_error(kagzi: Kagzi) -> None:
    call = register(kagzi, Flaky(9), retry=AT_ONCE)

    async with kagzi, kagzi.create_worker():
        handle = await call.start()
        with pytest.raises(WorkflowFailed) as failure:
            await within(handle.result())
        (shown,) = await handle.history()

    assert failure.value.error.kind is ErrorKind.NETWORK_ERROR
    assert (shown.status, shown.attempts) == (StepStatus.FAILED, 3)
    assert [failed.attempt for failed in shown.failed_attempts] == [1, 2, 3]
    assert shown.failed_attempts[2].error == shown.error


async def test_policies_of_the_call_of_the_step_of_the_workflow_and_of_the_run(kagzi: Kagzi) -> None:
    by_call, by_step, by_workflow = Flaky(99), Flaky(99), Flaky(99)

    @step(retry=RetryPolicy.fixed(0, max_attempts=2))
    async def marked() -> str:
        return await by_step()

    @kagzi.workflow(step_retry=AT_ONCE, retry=RetryPolicy.fixed(0, max_attempts=2))
    async def call(ctx: WorkflowContext) -> None:
        calls = (
            ctx.options(retry=RetryPolicy.fixed(0, max_attempts=4)).step("by call", by_call),
            marked(),
            ctx.step("by workflow", by_workflow),
        )
        results = await asyncio.gather(*calls, return_exceptions=True)
        raise ConnectionError(f"{len(results)} steps failed")

    async with kagzi, kagzi.create_worker():
        handle = await call.start()
        with pytest.raises(WorkflowFailed, match="3 steps failed"):
            await within(handle.result())
        run, steps = await handle.describe(), await handle.history()

    assert by_call.attempts == [*range(1, 9)]
    assert by_step.attempts == [*range(1, 5)]
    assert by_workflow.attempts == [*range(1, 7)]
    assert counts(run) == (2, 0, 0)
    assert [len(each.failed_attempts) for each in sorted(steps, key=lambda each: each.name)] == [8, 6, 4]


async def test_a_step_says_itself_when_to_be_executed_again_and_when_not(kagzi: Kagzi) -> None:
    later = register(kagzi, asking := Flaky(3, RetryAfter(0.01, "not now")))
    hopeless = Flaky(9, NonRetryable("never", kind=ErrorKind.PERMISSION_DENIED))

    @kagzi.workflow
    async def never(ctx: WorkflowContext) -> str:
        return await ctx.options(retry=AT_ONCE).step("call", hopeless)

    async with kagzi, kagzi.create_worker():
        first, second = await later.start(), await never.start()
        result = await within(first.result())
        with pytest.raises(WorkflowFailed) as failure:
            await within(second.result())
        (shown,) = await first.history()

    assert (result, asking.attempts) == ("answered at 4", [1, 2, 3, 4])
    assert [failed.error.kind for failed in shown.failed_attempts] == [ErrorKind.RATE_LIMITED] * 3
    assert (hopeless.attempts, failure.value.error.kind) == ([1], ErrorKind.PERMISSION_DENIED)


async def test_a_run_that_failed_shows_when_its_next_attempt_is(kagzi: Kagzi) -> None:
    @kagzi.workflow(retry=IN_TEN_MINUTES)
    async def fail(ctx: WorkflowContext) -> None:
        raise ConnectionError("no luck")

    async with kagzi, kagzi.create_worker() as worker:
        handle = await fail.start()
        await until(lambda: has_attempts(handle, 2))
        await until(lambda: worker.run_count == 0)
        run = await handle.describe()

    assert run.status is RunStatus.PENDING
    assert run.wake_at is not None
    assert run.error is not None
    assert run.error.message == "no luck"
    assert run.waiting_for == (f"the run, retrying at {run.wake_at.isoformat()}: 1 of 3 attempts failed",)
    assert run.finished_at is None


async def test_in_a_later_attempt_of_its_run_a_step_shows_how_often_it_failed_in_that(any_database_url: str) -> None:
    kagzi = an_application(any_database_url, park_after=timedelta(hours=1))

    @kagzi.workflow(retry=RetryPolicy.fixed(0, max_attempts=2))
    async def call(ctx: WorkflowContext) -> str:
        policy = AT_ONCE if ctx.attempt == 1 else IN_TEN_MINUTES
        return await ctx.options(retry=policy).step("call", Flaky(9))

    async with kagzi, kagzi.create_worker():
        handle = await call.start()
        await until(lambda: has_failed(handle, 4))
        run, (shown,) = await handle.describe(), await handle.history()

    (waiting_for,) = run.waiting_for
    assert waiting_for.startswith("step 'call', retrying at ")
    assert waiting_for.endswith(": 1 of 3 attempts failed")
    assert run.attempts == 2
    assert (shown.status, shown.attempts, shown.max_attempts) == (StepStatus.RETRYING, 4, 6)


async def has_attempts(handle: Any, count: int) -> bool:
    run: Run = await handle.describe()
    return run.attempts >= count


async def test_p21_attempts_crashes_and_wakeups_are_counted_apart(
    any_database_url: str, gates: Gates, store: WatchedStore, kagzi: Kagzi
) -> None:
    flaky = Flaky(1)

    @kagzi.workflow(retry=RetryPolicy.fixed(0, max_attempts=3))
    async def visit(ctx: WorkflowContext) -> int:
        await ctx.options(retry=SOON).step("call", flaky)  # parks: one wake-up
        await ctx.options(retry=SOON).step("enter", gates.enter, "enter")  # its worker dies twice
        await ctx.sleep("nap", 0.4)  # another wake-up
        if ctx.attempt == 1:
            raise ConnectionError("no luck")
        return ctx.attempt

    async with kagzi, kagzi.create_worker(heartbeat_interval=0.1) as worker:
        handle = await visit.start()
        for death in (1, 2):
            await gates.reached("enter", times=death)
            await gates.full(1)
            await declare_dead(store.real, worker.key)
        await gates.reached("enter", times=3)
        gates.open_all()
        result = await within(handle.result())
        run, steps = await handle.describe(), await handle.history()

    by_name = {each.name: each for each in steps}
    assert result == 2
    assert counts(run) == (2, 2, 2)
    assert flaky.attempts == [1, 2]
    assert (by_name["call"].attempts, by_name["enter"].attempts) == (2, 1)
    assert by_name["enter"].failed_attempts == ()


async def test_an_execution_in_progress_shows_as_running_over_what_failed_before(
    any_database_url: str, gates: Gates
) -> None:
    """P21: seen by a heartbeat, and then crashed: it is executed again under its number."""
    kagzi = an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.05))
    numbers: list[int] = []

    async def second_time() -> str:
        numbers.append(step_info().attempt)
        if len(numbers) == 1:
            raise ConnectionError("no answer")
        return await gates.enter("second")

    @kagzi.workflow(retry=RetryPolicy.fixed(0, max_attempts=2))
    async def visit(ctx: WorkflowContext) -> str:
        return await ctx.options(retry=AT_ONCE).step("enter", second_time)

    async with kagzi, kagzi.create_worker() as worker:
        handle = await visit.start()
        await gates.reached("second")
        await until(lambda: is_shown_running(handle, 2))
        (shown,) = await handle.history()
        await declare_dead(kagzi.store_in_use(), worker.key)
        await gates.reached("second", times=2)
        gates.open_all()
        await within(handle.result())
        (finished,) = await handle.history()

    assert (shown.wake_at, len(shown.failed_attempts)) == (None, 1)
    assert numbers == [1, 2, 2]
    assert (finished.attempts, len(finished.failed_attempts)) == (2, 1)


async def is_shown_running(handle: Any, attempt: int) -> bool:
    steps = await handle.history()
    return any((each.status, each.attempts) == (StepStatus.RUNNING, attempt) for each in steps)


async def test_a_crash_in_a_later_attempt_of_the_run_takes_no_execution_from_a_step(
    any_database_url: str, gates: Gates
) -> None:
    """P21: the first attempt left the step open after two failures; the second may execute it three times itself."""
    kagzi = an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.05))
    numbers: list[int] = []

    async def fail() -> None:
        attempt = step_info().attempt
        numbers.append(attempt)
        if attempt == 4:
            await gates.enter("fourth")
        raise ConnectionError(f"failure {attempt}")

    @kagzi.workflow(retry=RetryPolicy.fixed(0, max_attempts=2))
    async def visit(ctx: WorkflowContext) -> None:
        policy = AT_ONCE
        if ctx.attempt == 1:
            policy = RetryPolicy.exponential(0.001, 3600, multiplier=10**9, max_attempts=3, jitter=False)
        async with asyncio.timeout(1 if ctx.attempt == 1 else None):
            await ctx.options(retry=policy).step("call", fail)

    async with kagzi, kagzi.create_worker() as worker:
        handle = await visit.start()
        await gates.reached("fourth")
        await until(lambda: is_shown_running(handle, 4))
        await declare_dead(kagzi.store_in_use(), worker.key)
        await gates.reached("fourth", times=2)
        gates.open_all()
        with pytest.raises(WorkflowFailed, match="failure 5"):
            await within(handle.result())

    assert numbers == [1, 2, 3, 4, 4, 5]


async def test_a_step_that_nobody_waits_for_any_more_is_not_shown_as_retrying(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def give_up(ctx: WorkflowContext) -> None:
        try:
            async with asyncio.timeout(0.3):
                await ctx.options(retry=IN_TEN_MINUTES).step("call", Flaky(9))
        except TimeoutError:
            await ctx.sleep("mourn", 600)

    async with kagzi, kagzi.create_worker():
        handle = await give_up.start()
        await until(lambda: waits_for(handle, "mourn"))
        run = await handle.describe()

    (waiting_for,) = run.waiting_for
    assert waiting_for.startswith("timer 'mourn'")


async def waits_for(handle: Any, name: str) -> bool:
    run: Run = await handle.describe()
    return run.status is RunStatus.SLEEPING and any(name in each for each in run.waiting_for)


@pytest.mark.parametrize("kept", [True, False], ids=["kept in memory", "parked"])
async def test_a_worker_that_stops_while_a_step_waits_for_its_next_execution_stops_at_once(
    any_database_url: str, kept: bool
) -> None:
    kagzi = an_application(
        any_database_url,
        park_after=timedelta(hours=1 if kept else 0),
        graceful_shutdown_timeout=timedelta(seconds=60),
    )
    flaky = Flaky(1)
    call = register(kagzi, flaky, retry=RetryPolicy.fixed(2, max_attempts=3))

    async with kagzi:
        async with kagzi.create_worker() as worker:
            handle = await call.start()
            await until(lambda: has_failed(handle, 1))
            worker.stop()
            await within(worker.shutdown())
            assert worker.state is WorkerState.STOPPED
        run, (shown,) = await handle.describe(), await handle.history()
        executed = list(flaky.attempts)
        async with kagzi.create_worker():
            result = await within(handle.result())
        (finished,) = await handle.history()

    assert executed == [1]
    assert (shown.status, shown.attempts) == (StepStatus.RETRYING, 1)
    assert (run.attempts, run.crashes) == (1, 0)
    assert (result, flaky.attempts) == ("answered at 2", [1, 2])
    assert shown.wake_at is not None
    assert finished.started_at is not None
    assert finished.started_at >= shown.wake_at


async def test_a_worker_that_stops_lets_the_execution_in_flight_fail_and_keeps_the_count(
    kagzi: Kagzi, gates: Gates
) -> None:
    numbers: list[int] = []

    async def fail() -> str:
        numbers.append(step_info().attempt)
        await gates.enter("fail")
        if len(numbers) == 1:
            raise ConnectionError("no answer")
        return "answered"

    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> str:
        return await ctx.options(retry=AT_ONCE).step("fail", fail)

    async with kagzi:
        async with kagzi.create_worker() as worker:
            handle = await visit.start()
            await gates.reached("fail")
            worker.stop()
            await until(lambda: worker.state is WorkerState.DRAINING)
            gates.open_all()
            await within(worker.shutdown())
        drained, run = list(numbers), await handle.describe()
        async with kagzi.create_worker():
            result = await within(handle.result())

    assert drained == [1]
    assert (run.status, counts(run)) == (RunStatus.PENDING, (1, 0, 0))
    assert (result, numbers) == ("answered", [1, 2])
