"""Pauses in an environment, where time passes only when it is told to."""

from __future__ import annotations

from datetime import timedelta

from kagzi import Kagzi, RunStatus, Signal, WorkflowContext
from kagzi.testing import Environment

OPENED = Signal("opened", bool)


async def test_a_timer_that_passes_during_a_pause_fires_once_the_run_is_resumed(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def sleeper(ctx: WorkflowContext) -> str:
        await ctx.sleep("week", timedelta(days=7))
        return "awake"

    async with Environment(kagzi) as env:
        handle = await sleeper.start()
        await env.settle()
        await handle.pause("a holiday")
        await env.advance(timedelta(days=30))
        held = await handle.describe()
        await handle.resume()
        assert await handle.result(timeout=30) == "awake"

    assert (held.status, held.pause_reason) == (RunStatus.SLEEPING, "a holiday")


async def test_a_paused_run_receives_its_signal_after_the_pause_and_its_timeout_goes_on(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def letter(ctx: WorkflowContext) -> str:
        try:
            opened = await ctx.wait_for(OPENED, timeout=timedelta(days=30))
        except TimeoutError:
            return "never opened"
        return f"opened: {opened}"

    async with Environment(kagzi) as env:
        read, unread = await letter.start(), await letter.start()
        await env.settle()
        await kagzi.pause_runs(workflow="letter")
        await read.signal(OPENED, True)
        await env.advance(timedelta(days=29))
        await read.resume()
        assert await read.result(timeout=30) == "opened: True"
        await env.advance(timedelta(days=1))
        assert await unread.status() is RunStatus.SLEEPING
        await unread.resume()
        assert await unread.result(timeout=30) == "never opened"
