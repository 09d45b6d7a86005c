"""Runs that continue as new, are retried or forked, in an `Environment` and under crashes everywhere."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kagzi import Kagzi, WorkflowContext, WorkflowFailed
from kagzi.testing import Environment


async def test_a_chain_survives_a_crash_at_every_write(kagzi: Kagzi) -> None:
    """P10, P13: just before and just after the commit that lets one run take the place of another, too."""

    @kagzi.workflow
    async def loop(ctx: WorkflowContext, number: int, total: int) -> int:
        total += await ctx.step("double", lambda: number * 2)
        await ctx.sleep("night", timedelta(hours=8))
        if number:
            ctx.continue_as_new(number - 1, total)
        return total

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> int:
        return await ctx.child("loop", loop, 2, 0)

    async with Environment(kagzi) as env:
        handle = await loop.start(2, 0)
        await env.advance(timedelta(days=1))
        assert await handle.result() == 6

        alone = await env.crash_everywhere(loop, 2, 0)
        family = await env.crash_everywhere(parent)

    assert alone.writes.count("continuation of the run as new") == 2
    assert len(family.writes) > len(alone.writes)


async def test_a_run_is_retried_and_forked(kagzi: Kagzi) -> None:
    is_mended = False

    @kagzi.workflow
    async def order(ctx: WorkflowContext, number: int) -> int:
        price = await ctx.step("price", lambda: number * 2)
        await ctx.sleep("night", timedelta(hours=8))
        if not is_mended:
            raise ValueError("a fault in the code")
        return price

    async with Environment(kagzi) as env:
        handle = await order.start(7)
        await env.advance(timedelta(hours=8))
        with pytest.raises(WorkflowFailed):
            await handle.result()
        is_mended = True
        fork = await handle.fork(at_step="night", set={"price": 1})
        await handle.retry()
        assert await handle.result() == 14
        await env.advance(timedelta(hours=8))
        assert await fork.result() == 1
