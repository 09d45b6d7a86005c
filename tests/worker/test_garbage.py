"""Runs that have ended leave nothing that only the garbage collector could find."""

from __future__ import annotations

import asyncio
import gc

import pytest

from kagzi import Kagzi, WorkflowContext
from kagzi.engine.body import Body
from kagzi.engine.execution import Execution
from kagzi.engine.loop import WorkflowLoop
from tests.app.applications import until, within

LAST = 2 * 3
"""Of the twenty runs, the parts of two: loops that wait may still know what they did last."""


async def same(number: int) -> int:
    return number


def parts() -> int:
    return sum(isinstance(each, Execution | Body | WorkflowLoop) for each in gc.get_objects())


@pytest.mark.parametrize("ends", ["completed", "failed"])
async def test_an_execution_is_gone_without_the_garbage_collector(kagzi: Kagzi, ends: str) -> None:
    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> None:
        await asyncio.gather(ctx.step("one", same, 1), ctx.step("two", same, 2))
        if ends == "failed":
            raise ValueError("no")

    async with kagzi, kagzi.create_worker() as worker:
        gc.collect()
        before = parts()
        gc.disable()
        try:
            handles = [await work.start() for _ in range(20)]
            await within(asyncio.gather(*(handle.result() for handle in handles), return_exceptions=True))
            await until(lambda: worker.slots.is_empty)
            del handles
            await until(lambda: parts() <= before + LAST)
        finally:
            gc.enable()
