"""Slots and turns of steps are all free again after whatever befell the runs that held them."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest

from kagzi import Kagzi, RetryPolicy, WorkflowContext, WorkflowFailed, WorkflowHandle
from tests.app.applications import an_application, until, watch, within
from tests.worker.deaths import declare_dead
from tests.worker.gates import Gates

SLOTS, STEPS, RUNS = 5, 4, 60


def register_wild(kagzi: Kagzi) -> None:
    """A workflow that does this and that, each run something else and each replay the same."""

    @kagzi.workflow("wild")
    async def wild(ctx: WorkflowContext, seed: int) -> int:
        chance = random.Random(seed)
        for number in range(chance.randint(1, 4)):
            match chance.randrange(8):
                case 0:
                    await ctx.sleep("park", 0.3)
                case 1:
                    await ctx.sleep("wait", 0.02)
                case 2:
                    await asyncio.gather(*(ctx.step(f"side {each}", hurry) for each in range(6)))
                case 3:
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.03):
                            await ctx.step("given up", dawdle)
                case 4:
                    await ctx.race(ctx.step("quick", hurry), ctx.step("lost", dawdle))
                case 5:
                    retries = ctx.options(retry=RetryPolicy.fixed(0.05, 2), timeout=0.05)
                    with pytest.raises(Exception, match="timeout"):
                        await retries.step("too slow", dawdle)
                case 6:
                    await ctx.step("in a thread", str, number)
                case _ if seed % 7 == 0:
                    raise ValueError("this run fails")
                case _:
                    task = asyncio.create_task(ctx.sleep("forgotten", 3600))
                    await ctx.step("quick", hurry)
                    task.cancel()
        return seed


async def hurry() -> None:
    await asyncio.sleep(0)


async def dawdle() -> None:
    await asyncio.sleep(30)


@pytest.mark.parametrize("seed", range(2))
async def test_no_slot_and_no_turn_is_ever_lost(any_database_url: str, gates: Gates, seed: int) -> None:
    kagzi = an_application(
        any_database_url,
        park_after=timedelta(seconds=0.1),
        heartbeat_interval=timedelta(seconds=0.2),
        poll_interval=timedelta(seconds=0.2),
    )
    store = watch(kagzi)
    register_wild(kagzi)

    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> str:
        return await ctx.step("enter", gates.enter, "enter")

    async with kagzi, kagzi.create_worker(max_concurrent_workflows=SLOTS, max_concurrent_steps=STEPS) as worker:
        handles: list[WorkflowHandle[int]] = await kagzi.start_many(
            "wild", [seed * 1000 + number for number in range(RUNS)]
        )
        for death in range(1, 4):
            await until(lambda: worker.run_count > 0)
            await declare_dead(store.real, worker.key)
            with store.unreachable():
                await asyncio.sleep(0.05 * death)
        results = await within(asyncio.gather(*(handle.result() for handle in handles), return_exceptions=True), 60)
        await until(lambda: worker.free_slots == SLOTS)

        # As many runs as there are slots, and as many steps as there are turns, are in flight at the same time.
        visits = [await kagzi.start_workflow(visit) for _ in range(SLOTS + 3)]
        await gates.full(STEPS)
        in_memory, waiting = worker.run_count, worker.runner.waiting
        gates.open_all()
        await within(asyncio.gather(*(handle.result() for handle in visits)))
        await until(lambda: worker.free_slots == SLOTS)

    failed = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(error, WorkflowFailed) and "this run fails" in str(error) for error in failed), failed
    assert (in_memory, waiting) == (SLOTS, SLOTS - STEPS)
    assert not worker.runner.running
