"""Virtual time: what `advance` and `settle` do."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kagzi import ErrorKind, Kagzi, RunStatus, WorkflowContext, WorkflowFailed
from kagzi.clock import monotonic
from kagzi.testing import Environment, NotQuiet

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)


async def test_time_stands_still_until_it_is_advanced(kagzi: Kagzi) -> None:
    async with Environment(kagzi, now=NEW_YEAR) as env:
        await env.settle()
        assert env.now() == NEW_YEAR
        await env.advance(timedelta(days=1))
        assert env.now() == NEW_YEAR + timedelta(days=1)
        await env.advance(0.5)
        assert env.now() == NEW_YEAR + timedelta(days=1, seconds=0.5)


async def test_the_clock_begins_at_the_real_time(kagzi: Kagzi) -> None:
    before = datetime.now(UTC)
    async with Environment(kagzi) as env:
        assert before <= env.now() <= datetime.now(UTC)


async def test_timers_of_many_runs_fire_in_order_each_at_its_own_moment(kagzi: Kagzi) -> None:
    fired: list[tuple[str, timedelta]] = []

    @kagzi.workflow
    async def sleeper(ctx: WorkflowContext, name: str, pauses: list[float]) -> None:
        for pause in pauses:
            await ctx.sleep("pause", pause)
            await ctx.step("note", note, name)

    async with Environment(kagzi, now=NEW_YEAR) as env:

        async def note(name: str) -> None:
            fired.append((name, env.now() - NEW_YEAR))

        await sleeper.start("long", [3600, 0.25])
        await sleeper.start("short", [0.5, 1800, 1800])
        await sleeper.start("parked", [60])
        await env.advance(timedelta(days=1))

    assert fired == [
        ("short", timedelta(seconds=0.5)),
        ("parked", timedelta(seconds=60)),
        ("short", timedelta(seconds=1800.5)),
        ("long", timedelta(seconds=3600)),
        ("long", timedelta(seconds=3600.25)),
        ("short", timedelta(seconds=3600.5)),
    ]


async def test_advance_stops_at_its_target(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def hourly(ctx: WorkflowContext) -> int:
        for _ in range(3):
            await ctx.sleep("hour", 3600)
        return 3

    async with Environment(kagzi) as env:
        handle = await hourly.start()
        await env.advance(timedelta(hours=2))
        after_two = [step.kind for step in await handle.history()]
        status = await handle.status()
        await env.advance(timedelta(hours=1))
        assert len(after_two) == 2
        assert status is RunStatus.SLEEPING
        assert await handle.result() == 3


async def test_asyncio_sleep_and_timeouts_in_a_body_follow_the_virtual_clock(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def patient(ctx: WorkflowContext) -> list[str]:
        began = ctx.now()
        await asyncio.sleep(0.75)
        await asyncio.sleep(7200)
        seen = [str(ctx.now() - began)]
        try:
            async with asyncio.timeout(30):
                await ctx.sleep("too long", 31)
        except TimeoutError:
            seen.append(str(ctx.now() - began))
        async with asyncio.timeout(30):
            await ctx.sleep("short enough", 29)
        return [*seen, str(ctx.now() - began)]

    async with Environment(kagzi) as env:
        handle = await patient.start()
        await env.advance(timedelta(hours=3))
        assert await handle.result() == ["2:00:00.750000", "2:00:30.750000", "2:00:59.750000"]


async def test_thirty_days_pass_in_less_than_fifty_milliseconds(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def monthly(ctx: WorkflowContext) -> str:
        await ctx.step("a", _hello)
        await ctx.sleep("month", timedelta(days=29))
        return await ctx.step("b", _hello)

    async with Environment(kagzi) as env:
        took = []
        for _ in range(5):  # the quickest of five: the machine may be busy with others
            handle = await monthly.start()
            began = monotonic()
            await env.advance(timedelta(days=30))
            took.append(monotonic() - began)
            assert await handle.status() is RunStatus.COMPLETED
        assert min(took) < 0.05


async def test_steps_are_waited_for_whether_they_run_on_the_loop_or_in_threads(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def slow(ctx: WorkflowContext) -> list[str]:
        return list(await asyncio.gather(ctx.step("async", wait), ctx.step("thread", wait_in_thread)))

    gate = asyncio.Event()
    thread_gate = threading.Event()

    async def wait() -> str:
        await gate.wait()
        thread_gate.set()
        return "async"

    def wait_in_thread() -> str:
        thread_gate.wait(10)
        return "thread"

    async with Environment(kagzi) as env:
        handle = await slow.start()
        settling = asyncio.ensure_future(env.settle())
        await asyncio.sleep(0)
        assert not settling.done()
        gate.set()
        await settling
        assert await handle.status() is RunStatus.COMPLETED
        assert await handle.result() == ["async", "thread"]


async def test_a_delayed_start_falls_due_in_virtual_time(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def quick(ctx: WorkflowContext) -> datetime:
        return ctx.now()

    async with Environment(kagzi, now=NEW_YEAR) as env:
        delayed = await quick.options(delay=timedelta(hours=5)).start()
        dated = await quick.options(at=NEW_YEAR + timedelta(hours=7)).start()
        await env.advance(timedelta(hours=6))
        assert await delayed.result() == NEW_YEAR + timedelta(hours=5)
        assert await dated.status() is RunStatus.PENDING
        await env.advance(timedelta(hours=6))
        assert await dated.result() == NEW_YEAR + timedelta(hours=7)


async def test_a_stand_in_can_take_virtual_time(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def impatient(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.timeout(60):
                return await ctx.step("slow", _hello)
        except TimeoutError:
            return "gave up"

    async with Environment(kagzi) as env:

        async def for_an_hour() -> str:
            await env.sleep(3600)
            return "late"

        env.mock("slow", for_an_hour)
        handle = await impatient.start()
        await env.advance(59)
        assert await handle.status() is RunStatus.RUNNING
        await env.advance(2)
        assert await handle.result() == "gave up"
        assert [step.name for step in await handle.history()] == ["timer"]

        async def for_half_a_minute() -> str:
            await env.sleep(30)
            return "in time"

        env.mock("slow", for_half_a_minute)
        handle = await impatient.start()
        await env.advance(60)
        assert await handle.result() == "in time"


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"timeout": 1800}, "longer than its timeout of 1800 s"),
        ({"timeout": 2000, "total_timeout": 1800}, "within its total_timeout"),
    ],
)
async def test_the_timeouts_of_a_step_count_virtual_time_for_a_stand_in_that_sleeps(
    kagzi: Kagzi, limits: dict[str, Any], told: str
) -> None:
    @kagzi.workflow
    async def limited(ctx: WorkflowContext) -> str:
        return await ctx.options(**limits).step("slow", _hello)

    async with Environment(kagzi) as env:

        async def for_an_hour() -> str:
            await env.sleep(3600)
            return "late"

        env.mock("slow", for_an_hour)
        handle = await limited.start()
        await env.advance(1799)
        assert await handle.status() is RunStatus.RUNNING
        await env.advance(1)
        assert await handle.status() is RunStatus.FAILED
        with pytest.raises(WorkflowFailed) as failed:
            await handle.result()
        assert failed.value.error.kind is ErrorKind.TIMEOUT
        assert told in failed.value.error.message


async def test_a_result_that_is_awaited_already_comes_when_time_has_passed(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def sleeper(ctx: WorkflowContext) -> str:
        await ctx.sleep("month", timedelta(days=30))
        return "awake"

    async with Environment(kagzi) as env:
        handle = await sleeper.start()
        result = asyncio.ensure_future(handle.result())
        await env.advance(timedelta(days=29))
        assert not result.done()
        await env.advance(timedelta(days=1))
        assert await asyncio.wait_for(result, 5) == "awake"


async def test_a_start_that_is_under_way_is_waited_for(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def quick(ctx: WorkflowContext) -> str:
        return await ctx.step("hello", _hello)

    async with Environment(kagzi) as env:
        starting = asyncio.ensure_future(quick.start())
        await env.settle()
        assert await (await starting).status() is RunStatus.COMPLETED


@pytest.mark.parametrize("duration", [-1, timedelta(microseconds=-1), float("nan")])
async def test_time_cannot_be_advanced_backwards(kagzi: Kagzi, duration: float | timedelta) -> None:
    async with Environment(kagzi) as env:
        with pytest.raises(ValueError, match="the duration of advance"):
            await env.advance(duration)


@pytest.mark.parametrize("pause", [0.0, 1e-6], ids=["no time", "hardly any time"])
async def test_a_run_that_never_comes_to_rest_is_reported(kagzi: Kagzi, pause: float) -> None:
    @kagzi.workflow
    async def busy(ctx: WorkflowContext) -> None:
        while True:
            await ctx.sleep("pause", pause)

    async with Environment(kagzi, limit=0.1) as env:
        await busy.start()
        with pytest.raises(NotQuiet, match=r"after 0\.1 s of real time .* runs still go on"):
            await env.advance(1)


async def test_a_step_that_never_returns_is_named(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def hanging(ctx: WorkflowContext) -> None:
        await ctx.step("hang", asyncio.Event().wait)

    async with Environment(kagzi, limit=0.1) as env:
        await hanging.start()
        with pytest.raises(NotQuiet, match="'hang'"):
            await env.settle()


async def test_a_thousand_runs_wake_at_their_own_times(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def sleeper(ctx: WorkflowContext, minutes: int) -> datetime:
        await ctx.sleep("nap", timedelta(minutes=minutes))
        return ctx.now()

    async with Environment(kagzi, now=NEW_YEAR) as env:
        handles = await kagzi.start_many(sleeper, [minute % 20 for minute in range(1000)])
        await env.advance(timedelta(hours=1))
        woken = [await handle.result() for handle in handles]
        assert woken == [NEW_YEAR + timedelta(minutes=minute % 20) for minute in range(1000)]


async def _hello() -> str:
    return "hello"
