"""Timeouts of runs: to their end, and in the queue."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kagzi import (
    ErrorKind,
    Kagzi,
    RetryPolicy,
    StepError,
    StepFailed,
    WorkflowContext,
    WorkflowFailed,
    WorkflowHandle,
    step,
    step_info,
)
from kagzi.testing import Environment
from tests.worker.gates import Gates

DAY = timedelta(days=1)


@pytest.fixture
def kagzi(any_database_url: str) -> Kagzi:
    return Kagzi(any_database_url)


async def the_error_of(handle: WorkflowHandle[Any]) -> StepError:
    with pytest.raises(WorkflowFailed) as failed:
        await handle.result(timeout=30)
    return failed.value.error


async def test_a_run_fails_that_nobody_begins_in_time(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def never(ctx: WorkflowContext) -> None:
        raise AssertionError("nobody serves its queue")

    async with kagzi, kagzi.create_worker():
        handle = await never.options(queue="unserved", start_timeout=0.05).start()
        error = await the_error_of(handle)

    assert (error.kind, error.context) == (ErrorKind.TIMEOUT, {"timeout": "start"})


@pytest.mark.parametrize("doing", ["a step", "a sleep"])
async def test_a_run_fails_that_does_not_end_in_time_and_cleans_up(kagzi: Kagzi, doing: str) -> None:
    gates, cleaned = Gates(), list[str]()

    @kagzi.workflow
    async def slow(ctx: WorkflowContext) -> None:
        try:
            if doing == "a step":
                await ctx.step("work", gates.enter, "work")
            else:
                await ctx.sleep("long", DAY)
        finally:
            await ctx.step("clean", cleaned.append, "clean")

    async with kagzi, kagzi.create_worker():
        handle = await slow.options(timeout=0.2).start()
        error = await the_error_of(handle)

    assert (error.kind, error.context, error.message) == (
        ErrorKind.TIMEOUT,
        {"timeout": "run"},
        "the run did not end within its timeout.",
    )
    assert cleaned == ["clean"]


async def test_a_run_that_ends_in_time_is_left_alone(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def quick(ctx: WorkflowContext) -> str:
        await ctx.sleep("short", 0.01)
        return "done"

    async with kagzi, kagzi.create_worker():
        handle = await quick.options(timeout=3600, start_timeout=3600).start()
        assert await handle.result(timeout=30) == "done"


async def test_parked_time_counts_and_the_run_wakes_at_its_deadline() -> None:
    """P21: parked time is no step's, but it is the run's."""
    kagzi = Kagzi("sqlite://")

    @kagzi.workflow
    async def sleeper(ctx: WorkflowContext) -> str:
        try:
            await ctx.sleep("long", 30 * DAY)
        except asyncio.CancelledError:
            return ctx.now().isoformat()
        return "slept"

    async with Environment(kagzi) as env:
        handle = await sleeper.options(timeout=10 * DAY).start()
        run = await handle.describe()
        began = run.created_at
        assert run.deadline == began + 10 * DAY
        await env.advance(10 * DAY - timedelta(seconds=1))
        assert await handle.status() == "SLEEPING"
        await env.advance(timedelta(seconds=1))
        assert await handle.result(timeout=30) == (began + 10 * DAY).isoformat()


async def test_a_run_for_the_last_of_days_is_started_with_its_timeout(kagzi: Kagzi) -> None:
    """P4: what is stored is not told as a failure."""
    far = datetime(9999, 12, 30, tzinfo=UTC)

    @kagzi.workflow
    async def idle(ctx: WorkflowContext) -> str:
        return "done"

    async with kagzi, kagzi.create_worker():
        handle = await idle.options(at=far, timeout=900 * DAY, start_timeout=900 * DAY).start()
        run = await handle.describe()
        late = await idle.options(queue="unserved", start_timeout=0.05).start()
        await the_error_of(late)

    assert run.deadline is not None
    assert run.deadline > far


@pytest.mark.parametrize("name", ["timeout", "start_timeout"])
def test_a_timeout_that_can_not_be_is_refused(kagzi: Kagzi, name: str) -> None:
    for value, refusal in (
        (-1, ValueError),
        ("soon", TypeError),
        (timedelta(days=365_001), ValueError),
        (10**400, ValueError),
    ):
        with pytest.raises(refusal, match=name):
            kagzi.options(**{name: value})


# -- steps ---------------------------------------------------------------------------------------------------------


async def test_a_step_says_which_of_its_timeouts_passed(kagzi: Kagzi) -> None:
    gates, errors = Gates(), list[StepError]()

    @kagzi.workflow
    async def slow(ctx: WorkflowContext) -> None:
        for bounded in (ctx.options(timeout=0.02), ctx.options(total_timeout=0.02, timeout=60)):
            try:
                await bounded.step("work", gates.enter, "work")
            except StepFailed as error:
                errors.append(error.error)

    async with kagzi, kagzi.create_worker():
        await (await slow.start()).result(timeout=30)

    assert [(error.kind, error.context) for error in errors] == [
        (ErrorKind.TIMEOUT, {"timeout": "attempt"}),
        (ErrorKind.TIMEOUT, {"timeout": "total"}),
    ]


def test_a_timeout_of_a_step_that_can_not_be_is_refused() -> None:
    for name in ("timeout", "total_timeout"):
        for value, refusal in ((-1, ValueError), ("soon", TypeError), (True, TypeError), (10**400, ValueError)):
            with pytest.raises(refusal, match=f"the {name} of a step"):
                step(**{name: value})  # type: ignore[call-overload] # on purpose
    with pytest.raises(ValueError, match=r"total_timeout of a step.*at most 1,000 years"):
        step(total_timeout=timedelta.max)


async def test_a_step_is_not_tried_again_beyond_its_total_timeout(kagzi: Kagzi) -> None:
    tries: list[int] = []

    @step(total_timeout=30, retry=RetryPolicy.fixed(20, max_attempts=9))
    async def fail() -> None:
        tries.append(step_info().attempt)
        raise ConnectionError("down")

    @kagzi.workflow
    async def trying(ctx: WorkflowContext) -> None:
        await fail()

    async with Environment(kagzi) as env:
        handle = await trying.start()
        await env.advance(60)
        error = await the_error_of(handle)

    assert tries == [1, 2]
    (failed,) = error.causes
    assert (failed.kind, failed.context) == (ErrorKind.TIMEOUT, {"timeout": "total"})
    assert [cause.type for cause in failed.causes] == ["ConnectionError"]


async def test_a_total_timeout_goes_on_counting_through_crashes(kagzi: Kagzi) -> None:
    tries: list[int] = []

    async def fail() -> None:
        tries.append(step_info().attempt)
        raise ConnectionError("down")

    @kagzi.workflow
    async def trying(ctx: WorkflowContext) -> str:
        try:
            await ctx.options(total_timeout=50, retry=RetryPolicy.fixed(20, max_attempts=9)).step("fail", fail)
        except StepFailed as error:
            return str(error.error.context["timeout"])
        return "done"

    async with Environment(kagzi) as env:
        handle = await trying.start()
        await env.advance(60)
        assert await handle.result(timeout=30) == "total"
        assert tries == [1, 2, 3]
        report = await env.crash_everywhere(trying)

    assert report.crashes > 0
