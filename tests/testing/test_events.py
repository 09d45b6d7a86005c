"""Events in an environment: nobody waits, and time passes only when it is told to."""

from __future__ import annotations

from datetime import timedelta

from kagzi import Event, Kagzi, RunStatus, WorkflowContext
from kagzi.testing import Environment

PAID = Event("paid", int)


async def test_an_event_is_received_and_its_timeout_passes_in_virtual_time(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def ship(ctx: WorkflowContext, key: str) -> str:
        try:
            cents = await ctx.wait_for_event(PAID, key=key, timeout=timedelta(days=30))
        except TimeoutError:
            return "never paid"
        return f"paid {cents}"

    async with Environment(kagzi) as env:
        paid, unpaid = await ship.start("7"), await ship.start("8")
        await env.advance(timedelta(days=29))
        await kagzi.emit(PAID, 1200, key="7")
        await env.settle()
        assert await paid.status() is RunStatus.COMPLETED
        assert await paid.result(timeout=30) == "paid 1200"
        assert await unpaid.status() is RunStatus.SLEEPING
        await env.advance(timedelta(days=1))
        assert await unpaid.result(timeout=30) == "never paid"


async def test_what_came_before_counts_as_long_as_the_lookback_says(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def look(ctx: WorkflowContext, minutes: float) -> int | None:
        try:
            return await ctx.wait_for_event(PAID, timeout=0, lookback=timedelta(minutes=minutes))
        except TimeoutError:
            return None

    async with Environment(kagzi) as env:
        await kagzi.emit(PAID, 1)
        await env.advance(timedelta(minutes=10))
        await kagzi.emit(PAID, 2)
        handles = [await look.start(minutes) for minutes in (11, 10, 9, 0)]
        await env.advance(timedelta(seconds=1))
        assert [await handle.result(timeout=30) for handle in handles] == [1, 1, 2, None]


async def test_an_event_of_the_same_moment_counts_where_the_wait_was_first(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def listen(ctx: WorkflowContext) -> int:
        return await ctx.wait_for_event(PAID)

    async with Environment(kagzi) as env:
        await kagzi.emit(PAID, 1)
        handle = await listen.start()
        await env.settle()
        assert await handle.status() is RunStatus.SLEEPING
        await kagzi.emit(PAID, 2)
        assert await handle.result(timeout=30) == 2


async def test_an_event_starts_what_handles_it(kagzi: Kagzi) -> None:
    @kagzi.on_event(PAID, queue="books")
    async def book(ctx: WorkflowContext, cents: int) -> int:
        return 2 * cents

    async with Environment(kagzi) as env:
        await kagzi.emit(PAID, 1200)
        await env.settle()
        (run,) = await kagzi.find_runs(workflow="book")
        assert await kagzi.handle(run.run_id).result(timeout=30) == 2400


async def test_waits_survive_a_crash_at_every_write(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def patient(ctx: WorkflowContext) -> list[str]:
        told = []
        for _ in range(2):
            try:
                cents = await ctx.wait_for_event(PAID, timeout=60, lookback=60)
                told.append(f"paid {cents}")
            except TimeoutError:
                told.append(await ctx.step("note", lambda: "nothing"))
        return told

    async with Environment(kagzi) as env:
        await env.crash_everywhere(patient)
