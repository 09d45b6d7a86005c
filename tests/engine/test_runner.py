"""The turns of a worker's steps."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from kagzi import Kagzi, WorkflowContext
from tests.app.applications import an_application, until, within


async def test_a_step_that_is_stopped_before_it_begins_gives_its_turn_back() -> None:
    kagzi: Kagzi = an_application("sqlite://", heartbeat_interval=timedelta(seconds=1))
    begun: list[int] = []

    async def count(number: int) -> int:
        begun.append(number)
        return number

    @kagzi.workflow
    async def changes_its_mind(ctx: WorkflowContext, number: int) -> int:
        return await ctx.step("count", count, number)

    async with kagzi, kagzi.create_worker(max_concurrent_steps=2) as worker:
        runner, start = worker.runner, worker.runner.start

        def start_and_stop(step: object) -> None:
            start(step)  # type: ignore[arg-type]
            step.stop()  # type: ignore[attr-defined]

        runner.start = start_and_stop  # type: ignore[method-assign]
        stopped = [await changes_its_mind.start(number) for number in range(4)]
        await until(lambda: worker.run_count == 4)
        await asyncio.sleep(0)
        await until(lambda: not runner.running)
        assert begun == []

        runner.start = start  # type: ignore[method-assign]
        for handle in stopped:
            await handle.terminate()
        handles = [await changes_its_mind.start(number) for number in range(10, 14)]
        assert await within(asyncio.gather(*(handle.result() for handle in handles))) == [10, 11, 12, 13]
