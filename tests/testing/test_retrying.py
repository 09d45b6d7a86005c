"""Failures and retries in an environment: in virtual time, with stand-ins that raise, with a crash at every write."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kagzi import ErrorKind, Kagzi, RetryPolicy, RunStatus, StepStatus, WorkflowContext, WorkflowFailed, step_info
from kagzi.clock import monotonic
from kagzi.testing import Environment

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)
DAILY = RetryPolicy.fixed(timedelta(days=1), max_attempts=4)


async def _ask() -> str:
    return "a real answer"


class Flaky:
    """A stand-in that raises until its execution number `failures` is over; `at` is when it was called."""

    def __init__(self, env: Environment, failures: int) -> None:
        self._env = env
        self._failures = failures
        self.at: list[timedelta] = []

    async def __call__(self) -> str:
        self.at.append(self._env.now() - NEW_YEAR)
        attempt = step_info().attempt
        if attempt <= self._failures:
            raise ConnectionError(f"no answer to {attempt}")
        return f"answered at {attempt}"


def days(*numbers: int) -> list[timedelta]:
    return [timedelta(days=number) for number in numbers]


async def test_a_stand_in_that_raises_is_tried_again_in_virtual_time(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def patient(ctx: WorkflowContext) -> str:
        return await ctx.options(retry=DAILY).step("ask", _ask)

    async with Environment(kagzi, now=NEW_YEAR) as env:
        flaky = Flaky(env, 3)
        env.mock("ask", flaky)
        began = monotonic()
        handle = await patient.start()
        await env.advance(timedelta(days=2))
        early, run, (waiting,) = list(flaky.at), await handle.describe(), await handle.history()
        await env.advance(timedelta(days=1))
        took_s = monotonic() - began
        result, (finished,) = await handle.result(), await handle.history()

    assert early == days(0, 1, 2)
    assert (waiting.status, waiting.attempts, waiting.wake_at) == (StepStatus.RETRYING, 3, NEW_YEAR + timedelta(days=3))
    assert run.waiting_for == ("step 'ask', retrying at 2030-01-04T00:00:00+00:00: 3 of 4 attempts failed",)
    assert (result, flaky.at) == ("answered at 4", days(0, 1, 2, 3))
    assert [failed.at for failed in finished.failed_attempts] == [NEW_YEAR + each for each in days(0, 1, 2)]
    assert took_s < 20


async def test_an_exception_as_a_stand_in_uses_up_the_attempts(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def patient(ctx: WorkflowContext) -> str:
        return await ctx.options(retry=DAILY).step("ask", _ask)

    async with Environment(kagzi, now=NEW_YEAR) as env:
        mock = env.mock("ask", TimeoutError("too slow"))
        handle = await patient.start()
        await env.advance(timedelta(days=3) - timedelta(microseconds=1))
        before = len(mock.calls), await handle.status()
        await env.advance(timedelta(microseconds=1))
        with pytest.raises(WorkflowFailed) as failure:
            await handle.result()

    assert before == (3, RunStatus.SLEEPING)
    assert len(mock.calls) == 4
    assert failure.value.error.kind is ErrorKind.TIMEOUT


async def test_a_run_that_fails_is_tried_again_in_virtual_time(kagzi: Kagzi) -> None:
    @kagzi.workflow(retry=DAILY)
    async def patient(ctx: WorkflowContext) -> tuple[str, int]:
        await ctx.step("once", _ask)
        await ctx.sleep("hour", 3600)
        return await ctx.step("ask", _ask), ctx.attempt

    async with Environment(kagzi, now=NEW_YEAR) as env:
        once, flaky = env.mock("once", "done"), Flaky(env, 2)
        env.mock("ask", flaky)
        handle = await patient.start()
        await env.advance(timedelta(days=1))
        run = await handle.describe()
        await env.advance(timedelta(days=1, hours=1))
        result = await handle.result()

    hour = timedelta(hours=1)
    assert (run.status, run.attempts, run.wake_at) == (RunStatus.PENDING, 2, NEW_YEAR + timedelta(days=1, hours=1))
    assert result == ("answered at 3", 3)
    assert flaky.at == [each + hour for each in days(0, 1, 2)]
    assert len(once.calls) == 1


async def test_where_no_time_passes_each_attempt_of_a_run_has_its_own_count(kagzi: Kagzi) -> None:
    """P21: the clock stands still, so nothing can be told from when a step was executed."""
    at_once = RetryPolicy.fixed(0, max_attempts=3)

    @kagzi.workflow(retry=RetryPolicy.fixed(0, max_attempts=2))
    async def hasty(ctx: WorkflowContext) -> None:
        call = ctx.options(retry=RetryPolicy.fixed(60, max_attempts=3) if ctx.attempt == 1 else at_once)
        asking = asyncio.gather(call.step("ask", _ask))
        if ctx.attempt == 1:
            await ctx.step("fail", _ask)
        await asking

    async with Environment(kagzi, now=NEW_YEAR) as env:
        flaky = Flaky(env, 99)
        env.mock("ask", flaky)
        env.mock("fail", ConnectionError("no luck"))
        handle = await hasty.start()
        await env.settle()
        run, steps = await handle.describe(), await handle.history()

    (asked,) = (each for each in steps if each.name == "ask")
    assert (run.status, run.attempts) == (RunStatus.FAILED, 2)
    assert asked.attempts == 4, "the first attempt of the run made one execution, and the second three"


async def test_a_workflow_with_steps_that_fail_survives_a_crash_at_every_write(kagzi: Kagzi) -> None:
    """P10, P21: and no attempt is lost or used twice."""

    @kagzi.workflow
    async def persistent(ctx: WorkflowContext) -> list[Any]:
        first = await ctx.options(retry=DAILY).step("ask", _ask)
        results = await asyncio.gather(
            ctx.options(retry=RetryPolicy.fixed(0.2, max_attempts=3)).step("ask", _ask),
            ctx.options(retry=RetryPolicy.fixed(0, max_attempts=2)).step("ask", _ask),
            ctx.step("once", _attempt),
            return_exceptions=True,
        )
        return [first, *map(str, results)]

    async with Environment(kagzi, now=NEW_YEAR) as env:
        env.mock("ask", Flaky(env, 2))
        report = await env.crash_everywhere(persistent)
        handle = await persistent.start()
        await env.advance(timedelta(days=3))
        result = await handle.result()

    assert result == ["answered at 3", "answered at 3", "step 'ask' failed: ConnectionError: no answer to 2", "1"]
    assert report.writes.count("failed execution 1 of step 'ask'") == 3
    assert report.writes.count("failed execution 2 of step 'ask'") == 2
    assert report.crashes == 2 * len(report.writes)


async def _attempt() -> int:
    return step_info().attempt


async def test_a_workflow_that_is_tried_again_survives_a_crash_at_every_write(kagzi: Kagzi) -> None:
    """P10, P21."""

    @kagzi.workflow(retry=DAILY)
    async def persistent(ctx: WorkflowContext) -> list[Any]:
        once = await ctx.step("once", _attempt)
        await ctx.sleep("hour", 3600)
        async with asyncio.TaskGroup() as group:
            both = [group.create_task(ctx.step(name, _attempt)) for name in ("left", "right")]
        asked = await ctx.options(retry=RetryPolicy.fixed(0.1, max_attempts=2)).step("ask", _ask)
        return [once, *[each.result() for each in both], asked, ctx.attempt]

    async with Environment(kagzi, now=NEW_YEAR) as env:
        env.mock("ask", Flaky(env, 5))
        report = await env.crash_everywhere(persistent)
        handle = await persistent.start()
        await env.advance(timedelta(days=3))
        result = await handle.result()

    assert result == [1, 1, 1, "answered at 6", 3]
    assert report.writes.count("another attempt of the run") == 2
    assert report.crashes == 2 * len(report.writes)
