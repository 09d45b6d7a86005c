"""A deploy that changes code under a sleeping run: it stops before any side effect, and the old code finishes it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kagzi import Kagzi, RunStatus, StepKind, WorkflowContext, WorkflowHandle

Call = Callable[[WorkflowContext, str], Awaitable[str]]
Body = Callable[[WorkflowContext], Awaitable[Any]]

NAP_S = 1.2
"""Long enough to be parked."""


class Shop:
    """The code before the deploy and after it. Every execution of a step is counted, by its name."""

    def __init__(self) -> None:
        self.executed: Counter[str] = Counter()

    async def call(self, ctx: WorkflowContext, name: str) -> str:
        return await ctx.step(name, self._work, name)

    def _work(self, name: str) -> str:
        self.executed[name] += 1
        return name.upper()

    async def before(self, ctx: WorkflowContext) -> str:
        first = await self.call(ctx, "reserve") + await self.call(ctx, "charge")
        await ctx.sleep("rest", NAP_S)
        return first + await self.call(ctx, "ship")

    async def renamed(self, ctx: WorkflowContext) -> None:
        await self.call(ctx, "reserve")
        await self.call(ctx, "charge-card")
        await ctx.sleep("rest", NAP_S)
        await self.call(ctx, "ship")

    async def removed(self, ctx: WorkflowContext) -> None:
        await self.call(ctx, "charge")
        await ctx.sleep("rest", NAP_S)
        await self.call(ctx, "ship")

    async def inserted(self, ctx: WorkflowContext) -> None:
        await self.call(ctx, "reserve")
        await self.call(ctx, "check")
        await self.call(ctx, "charge")
        await ctx.sleep("rest", NAP_S)
        await self.call(ctx, "ship")

    async def inserted_before_the_sleep(self, ctx: WorkflowContext) -> None:
        await self.call(ctx, "reserve")
        await self.call(ctx, "charge")
        await self.call(ctx, "check")
        await ctx.sleep("rest", NAP_S)
        await self.call(ctx, "ship")

    async def swapped(self, ctx: WorkflowContext) -> None:
        await self.call(ctx, "charge")
        await self.call(ctx, "reserve")
        await ctx.sleep("rest", NAP_S)
        await self.call(ctx, "ship")

    async def without_the_sleep(self, ctx: WorkflowContext) -> None:
        await self.call(ctx, "reserve")
        await self.call(ctx, "charge")
        await self.call(ctx, "ship")


CAUSES = {
    "renamed": "step 'charge' (0/charge#1) was renamed to step 'charge-card' (0/charge-card#1)",
    "removed": "- recorded: STEP 0/reserve#1\n",
    "inserted": "+ code asks for: STEP 0/check#1",
    "inserted_before_the_sleep": "- waited for: TIMER 0/rest#1\n+ code asks for: STEP 0/check#1",
    "swapped": "- recorded: STEP 0/reserve#1\n",
    "without_the_sleep": "- waited for: TIMER 0/rest#1\n+ code asks for: STEP 0/ship#1",
}


async def described(handle: WorkflowHandle[Any], what: str) -> str:
    """Wait until the run waits for something, and give the text."""
    async with asyncio.timeout(90):
        while True:
            told = "\n".join((await handle.describe()).waiting_for)
            if what in told:
                return told
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("change", CAUSES)
async def test_a_changed_step_stops_a_sleeping_run_and_the_old_code_finishes_it(
    any_database_url: str, change: str
) -> None:
    """P16, and P14: nothing is executed twice, nothing that is new, and nobody has to lend a hand."""
    shop = Shop()
    async with Kagzi(any_database_url) as kagzi:
        handle = await kagzi.register_workflow("order", shop.before).start()
        async with kagzi.create_worker():
            await described(handle, "timer 'rest'")

    async with Kagzi(any_database_url) as kagzi:  # the deploy
        kagzi.register_workflow("order", getattr(shop, change))
        async with kagzi.create_worker():
            told = await described(kagzi.handle(handle.run_id), "code that fits its record")
        run = await kagzi.handle(handle.run_id).describe()

    executed_by_then = dict(shop.executed)
    async with Kagzi(any_database_url) as kagzi:  # and back
        kagzi.register_workflow("order", shop.before)
        async with kagzi.create_worker():
            result = await kagzi.handle(handle.run_id).result(timeout=90)

    assert CAUSES[change] in told
    assert (run.status, run.error is not None) == (RunStatus.SLEEPING, True)
    assert executed_by_then == {"reserve": 1, "charge": 1}
    assert result == "RESERVECHARGESHIP"
    assert shop.executed == {"reserve": 1, "charge": 1, "ship": 1}


async def test_a_change_behind_patched_is_deployed_under_a_sleeping_run(any_database_url: str) -> None:
    """P16: the run that sleeps goes on as it began, and one that starts takes the new path."""
    shop = Shop()

    async def after(ctx: WorkflowContext) -> str:
        first = await shop.call(ctx, "reserve")
        if ctx.patched("check-stock"):
            first += await shop.call(ctx, "check")
        first += await shop.call(ctx, "charge")
        if ctx.patched("check-again"):
            first += await shop.call(ctx, "check")
        await ctx.sleep("rest", NAP_S)
        return first + await shop.call(ctx, "ship")

    async with Kagzi(any_database_url) as kagzi:
        asleep = await kagzi.register_workflow("order", shop.before).start()
        async with kagzi.create_worker():
            await described(asleep, "timer 'rest'")

    async with Kagzi(any_database_url) as kagzi:
        fresh = await kagzi.register_workflow("order", after).start()
        async with kagzi.create_worker():
            old_path = await kagzi.handle(asleep.run_id).result(timeout=90)
            new_path = await fresh.result(timeout=90)
        kinds = [step.kind for step in await fresh.history()]

    assert old_path == "RESERVECHARGESHIP"
    assert new_path == "RESERVECHECKCHARGECHECKSHIP"
    assert kinds.count(StepKind.MARKER) == 2
