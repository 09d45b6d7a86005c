"""Branches that fail and are executed again, while others work."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from kagzi import ParallelErrorStrategy, StepFailed, WorkflowContext
from kagzi.model.retry import RetryPolicy
from tests.engine.host import COLD, WARM, World

TWICE = RetryPolicy.fixed(10, max_attempts=2)


class Flaky:
    """Each of its calls fails the first time."""

    def __init__(self) -> None:
        self.calls = Counter[str]()

    def __call__(self, name: str) -> str:
        self.calls[name] += 1
        if self.calls[name] == 1:
            raise ConnectionError("no answer")
        return name

    def always(self, name: str) -> str:
        self.calls[name] += 1
        raise ConnectionError("no answer")


@pytest.mark.parametrize("park_after", [WARM, COLD], ids=["warm", "parked"])
def test_a_branch_waits_for_its_retry_while_others_work(park_after: timedelta) -> None:
    flaky = Flaky()

    async def work(ctx: WorkflowContext) -> str:
        await ctx.sleep("rest", 4)
        await ctx.step("work", str, "w")
        await ctx.sleep("rest", 4)
        return str(ctx.now())

    async def body(ctx: WorkflowContext) -> list[Any]:
        async with ctx.parallel("group") as group:
            group.options(retry=TWICE).step("flaky", flaky, "a")
            group.start(work(ctx))
        return [str(ctx.now()), *[result.unwrap() for result in group.results]]

    outcome = World(body, park_after=park_after).finish()

    assert outcome.value == ["2026-01-01 00:00:10+00:00", "a", "2026-01-01 00:00:08+00:00"]
    assert flaky.calls == {"a": 2}


@pytest.mark.parametrize("park_after", [WARM, COLD], ids=["warm", "parked"])
def test_a_branch_that_waits_for_its_retry_keeps_its_place(park_after: timedelta) -> None:
    flaky = Flaky()

    async def body(ctx: WorkflowContext) -> list[Any]:
        names = await ctx.options(retry=TWICE).map("flaky", flaky, ["a", "b", "c"], max_concurrency=1)
        return [str(ctx.now()), *names]

    world = World(body, park_after=park_after)
    assert world.finish().value == ["2026-01-01 00:00:30+00:00", "a", "b", "c"]
    assert world.steps.executed == [f"0.flaky#1/flaky#{number}" for number in (1, 1, 2, 2, 3, 3)]


def test_a_failure_fails_the_group_once_its_attempts_are_used_and_ends_the_retries_of_others() -> None:
    flaky = Flaky()
    once_more = RetryPolicy.fixed(1_000, max_attempts=9)

    async def body(ctx: WorkflowContext) -> list[Any]:
        try:
            async with ctx.parallel("group") as group:
                group.options(retry=once_more).step("patient", flaky.always, "patient")
                group.options(retry=TWICE).step("flaky", flaky.always, "flaky")
        except StepFailed as error:
            return [error.step, str(ctx.now())]
        return []

    assert World(body, park_after=COLD).finish().value == ["flaky", "2026-01-01 00:00:10+00:00"]
    assert flaky.calls == {"patient": 1, "flaky": 2}


def test_collecting_waits_for_all_retries() -> None:
    flaky = Flaky()

    async def body(ctx: WorkflowContext) -> list[bool]:
        group = ctx.options(retry=TWICE).parallel("group", ParallelErrorStrategy.COLLECT_ALL)
        group.step("always", flaky.always, "always")
        group.step("flaky", flaky, "a")
        return [result.is_ok for result in await group.join()]

    assert World(body, park_after=COLD).finish().value == [False, True]
    assert flaky.calls == {"always": 2, "a": 2}
