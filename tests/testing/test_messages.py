"""Signals and updates in an environment: nobody waits, and time passes only when it is told to."""

from __future__ import annotations

from datetime import timedelta

from kagzi import Kagzi, RunStatus, Signal, Update, WorkflowContext
from kagzi.testing import Environment

OPENED = Signal("opened", bool)
APPROVE = Update("approve", int, str)


async def test_a_signal_is_received_and_its_timeout_passes_in_virtual_time(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def letter(ctx: WorkflowContext) -> str:
        try:
            opened = await ctx.wait_for(OPENED, timeout=timedelta(days=30))
        except TimeoutError:
            return "never opened"
        return f"opened: {opened}"

    async with Environment(kagzi) as env:
        read, unread = await letter.start(), await letter.start()
        await env.advance(timedelta(days=29))
        await read.signal(OPENED, True)
        assert await read.result(timeout=30) == "opened: True"
        assert await unread.status() is RunStatus.SLEEPING
        await env.advance(timedelta(days=1))
        assert await unread.result(timeout=30) == "never opened"


async def test_a_parked_run_answers_an_update(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def approval(ctx: WorkflowContext) -> int:
        request = await ctx.wait_for(APPROVE)
        await ctx.publish("approved", request.value)
        await request.reply("noted")
        return request.value

    async with Environment(kagzi) as env:
        handle = await approval.options(id="approval-1").start()
        await env.settle()
        assert (await handle.describe()).waiting_for == ("update 'approve'",)
        assert await handle.update(APPROVE, 7, timeout=30) == "noted"
        assert await handle.value("approved") == 7


async def test_published_values_survive_a_crash_at_every_write(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def counting(ctx: WorkflowContext) -> str:
        for number in range(3):
            await ctx.publish("number", number)
        return "done"

    async with Environment(kagzi) as env:
        await env.crash_everywhere(counting)
