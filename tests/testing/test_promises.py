"""Promises about time and results, kept in virtual time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kagzi import Kagzi, RunStatus, StepKind, WorkflowContext
from kagzi.testing import Environment

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)

_pauses = st.integers(min_value=0, max_value=4_000_000_000).map(lambda micros: timedelta(microseconds=micros))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pauses=st.lists(_pauses, min_size=1, max_size=6), strides=st.lists(_pauses, min_size=1, max_size=6))
def test_timers_never_fire_early_and_fire_once(kagzi: Kagzi, pauses: list[timedelta], strides: list[timedelta]) -> None:
    """P18: whatever the durations, and however the clock goes on: in memory, parked, or at the very same moment."""
    if not kagzi._definitions.knows("sleeper"):
        kagzi.workflow("sleeper")(_sleeper)

    async def main() -> None:
        async with Environment(kagzi, now=NEW_YEAR) as env:
            handle = await kagzi.start_workflow("sleeper", pauses)
            for stride in [*strides, max(pauses)]:
                await env.advance(stride)
                fired = [step for step in await handle.history() if step.kind is StepKind.TIMER]
                due = sorted(index for index, pause in enumerate(pauses) if NEW_YEAR + pause <= env.now())
                assert sorted(int(step.name) for step in fired) == due
            assert await handle.result() == [NEW_YEAR + pause for pause in pauses]

    asyncio.run(main())


async def _sleeper(ctx: WorkflowContext, pauses: list[timedelta]) -> list[datetime]:
    return list(await asyncio.gather(*[_nap(ctx, str(index), pause) for index, pause in enumerate(pauses)]))


async def _nap(ctx: WorkflowContext, name: str, pause: timedelta) -> datetime:
    await ctx.sleep(name, pause)
    return ctx.now()


async def test_a_long_sleep_holds_no_worker_while_a_short_one_stays_in_memory(kagzi: Kagzi) -> None:
    """P18: parked, a run has no owner and says when it wakes."""

    @kagzi.workflow
    async def sleeper(ctx: WorkflowContext, pause: float) -> None:
        await ctx.sleep("pause", pause)

    async with Environment(kagzi, now=NEW_YEAR) as env:
        long, short = await sleeper.start(3600), await sleeper.start(0.9)
        await env.settle()
        parked, warm = await long.describe(), await short.describe()
        assert (parked.status, parked.worker_id) == (RunStatus.SLEEPING, None)
        assert parked.wake_at == NEW_YEAR + timedelta(hours=1)
        assert parked.waiting_for == ("timer 'pause' until 2030-01-01T01:00:00+00:00",)
        assert warm.status is RunStatus.RUNNING
        await env.advance(3600)
        assert (await long.describe()).wakeups == 1
        assert (await short.describe()).wakeups == 0


async def test_a_timer_fires_once_though_its_run_is_replayed_after_it(kagzi: Kagzi) -> None:
    """P18: each return from sleep replays the timers before, and none of them is recorded again."""

    @kagzi.workflow
    async def sleeper(ctx: WorkflowContext) -> list[datetime]:
        moments = []
        for _ in range(4):
            await ctx.sleep("day", timedelta(days=1))
            moments.append(ctx.now())
        return moments

    async with Environment(kagzi, now=NEW_YEAR) as env:
        handle = await sleeper.start()
        await env.advance(timedelta(days=30))
        days = [NEW_YEAR + timedelta(days=day) for day in (1, 2, 3, 4)]
        assert await handle.result() == days
        assert [step.finished_at for step in await handle.history()] == days


async def test_the_first_execution_sees_what_a_replay_sees(kagzi: Kagzi) -> None:
    """P11: a result is decoded from what was stored before anybody sees it, the first time too."""
    seen: list[tuple[list[object], bool]] = []
    given: list[object] = [1, "two", [3.5, None]]

    async def give() -> list[object]:
        return given

    @kagzi.workflow
    async def look(ctx: WorkflowContext) -> None:
        value = await ctx.step("give", give)
        seen.append((list(value), value is given))
        value.append("changed by the body")
        await ctx.sleep("hour", 3600)

    async with Environment(kagzi) as env:
        await look.start()
        await env.advance(3600)
    assert seen == [([1, "two", [3.5, None]], False)] * 2


async def test_a_result_is_the_same_in_every_replay_whatever_its_function_would_say_now(kagzi: Kagzi) -> None:
    """P11: one immutable result per step."""
    seen: list[int] = []

    @kagzi.workflow
    async def look(ctx: WorkflowContext) -> None:
        seen.append(await ctx.step("number", _one))
        await ctx.sleep("hour", 3600)
        await ctx.sleep("hour", 3600)

    async with Environment(kagzi) as env:
        env.mock("number", 1)
        await look.start()
        await env.settle()
        env.mock("number", 2)
        await env.advance(timedelta(hours=3))
    assert seen == [1, 1, 1]


async def test_parked_time_never_counts_as_step_time(kagzi: Kagzi) -> None:
    """P21: a step's times are those of its own execution, however long its run has slept before."""

    @kagzi.workflow
    async def sleeper(ctx: WorkflowContext) -> None:
        await ctx.step("work", _one)
        await ctx.sleep("night", timedelta(hours=8))
        await ctx.options(timeout=60).step("work", _one)

    async with Environment(kagzi, now=NEW_YEAR) as env:

        async def takes_fifty_seconds() -> int:
            await env.sleep(50)
            return 1

        env.mock("work", takes_fifty_seconds)
        handle = await sleeper.start()
        await env.advance(timedelta(days=1))

        spans = [
            (step.started_at - NEW_YEAR, step.finished_at - NEW_YEAR)
            for step in await handle.history()
            if step.kind is StepKind.STEP and step.started_at is not None and step.finished_at is not None
        ]
        evening = timedelta(seconds=50)
        morning = evening + timedelta(hours=8)
        assert spans == [(timedelta(0), evening), (morning, morning + evening)]
        assert await handle.status() is RunStatus.COMPLETED


async def test_wake_ups_and_attempts_are_counted_apart(kagzi: Kagzi) -> None:
    """P21: returns from sleep are neither attempts nor crashes."""

    @kagzi.workflow
    async def sleeper(ctx: WorkflowContext) -> int:
        for _ in range(3):
            await ctx.sleep("day", timedelta(days=1))
        return ctx.attempt

    async with Environment(kagzi) as env:
        handle = await sleeper.start()
        await env.advance(timedelta(days=3))
        run = await handle.describe()
        assert await handle.result() == 1
        assert (run.attempts, run.crashes, run.wakeups) == (1, 0, 3)


async def _one() -> int:
    return 1
