"""Parallel groups on a worker, in virtual time: mocks, parking and crashes at every durable write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final

import pytest

from kagzi import Kagzi, ParallelErrorStrategy, RunStatus, StepFailed, WorkflowContext, WorkflowFailed
from kagzi.model.retry import RetryPolicy
from kagzi.testing import Environment

COLLECT_ALL: Final = ParallelErrorStrategy.COLLECT_ALL


@pytest.fixture
def kagzi() -> Kagzi:
    """An application whose database no test reaches."""
    return Kagzi("sqlite:////nowhere/kagzi.db")


@pytest.fixture
async def env(kagzi: Kagzi) -> AsyncIterator[Environment]:
    async with Environment(kagzi) as env:
        yield env


async def double(number: int) -> int:
    return 2 * number


def check(number: int) -> int:
    if number == 2:
        raise LookupError("not there")
    return number


async def test_a_workflow_of_groups_survives_a_crash_at_every_write(kagzi: Kagzi, env: Environment) -> None:
    """P10, P11, P13, P15."""

    async def branch(ctx: WorkflowContext, number: int) -> int:
        await ctx.sleep("night", timedelta(hours=number))
        return await ctx.step("double", double, number)

    @kagzi.workflow
    async def everything(ctx: WorkflowContext) -> dict[str, Any]:
        async with ctx.parallel("outer", max_concurrency=2) as outer:
            doubled = [outer.start(branch(ctx, number)) for number in range(3)]
            outer.step("check", check, 1)
        try:
            await ctx.gather(ctx.step("check", check, 2), ctx.sleep("long", timedelta(days=9)))
            failed = ""
        except StepFailed as error:
            failed = error.step
        place, _ = await ctx.race(ctx.sleep("slow", 50), ctx.sleep("quick", 5))
        checked = await ctx.map("check", check, range(4), max_concurrency=3, on_error=COLLECT_ALL)
        return {
            "doubled": [each.result() for each in doubled],
            "failed": failed,
            "place": place,
            "checked": [result.is_ok for result in checked],
        }

    handle = await everything.start()
    await env.advance(timedelta(days=1))
    assert await handle.result() == {
        "doubled": [0, 2, 4],
        "failed": "check",
        "place": 1,
        "checked": [True, True, False, True],
    }

    report = await env.crash_everywhere(everything)
    assert report.crashes == 2 * len(report.writes)


async def test_a_group_whose_branches_all_rest_is_in_nobody_s_memory(kagzi: Kagzi, env: Environment) -> None:
    @kagzi.workflow
    async def resting(ctx: WorkflowContext) -> str:
        async with ctx.parallel("naps") as group:
            for hours in (1, 2, 3):
                group.sleep("nap", timedelta(hours=hours))
        return str(len(group.results))

    handle = await resting.start()
    await env.settle()
    assert await handle.status() is RunStatus.SLEEPING
    await env.advance(timedelta(hours=3))
    assert await handle.result() == "3"


async def test_steps_of_groups_are_mocked_and_shown_by_their_name(kagzi: Kagzi, env: Environment) -> None:
    env.mock("double", lambda number: 100 + number)

    @kagzi.workflow
    async def grouped(ctx: WorkflowContext) -> list[int]:
        async with ctx.parallel("a/b") as group:
            first = group.step("double", double, 1)
        return [await first, *await ctx.map("double", double, [2, 3])]

    handle = await grouped.start()
    await env.settle()

    assert await handle.result() == [101, 102, 103]
    assert [step.name for step in await handle.history()] == ["double"] * 3


async def test_a_run_that_a_group_fails_keeps_the_errors_of_all_branches(kagzi: Kagzi, env: Environment) -> None:
    async def untidy(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("long", 5_000)
        finally:
            raise RuntimeError("the cleaning failed")

    @kagzi.workflow
    async def failing(ctx: WorkflowContext) -> None:
        async with ctx.parallel("group") as group:
            group.start(untidy(ctx))
            group.step("check", check, 2)

    handle = await failing.start()
    await env.settle()

    with pytest.raises(WorkflowFailed, match="2 branches of parallel group 'group' failed") as failed:
        await handle.result()
    assert [cause.type for cause in failed.value.error.causes] == ["StepFailed", "RuntimeError"]


async def test_a_retry_in_one_branch_waits_while_others_work(kagzi: Kagzi, env: Environment) -> None:
    executions = []

    async def flaky() -> int:
        executions.append(env.now())
        if len(executions) < 3:
            raise ConnectionError("no answer")
        return 7

    @kagzi.workflow
    async def grouped(ctx: WorkflowContext) -> list[int]:
        policy = RetryPolicy.fixed(timedelta(hours=1), max_attempts=3)
        async with ctx.parallel("group") as group:
            seven = group.options(retry=policy).step("flaky", flaky)
            group.start(ctx.map("double", double, range(20), max_concurrency=4))
        return [await seven, sum(group.results[1].unwrap())]

    handle = await grouped.start()
    await env.settle()
    assert len(await handle.history()) >= 20
    await env.advance(timedelta(hours=2))

    assert await handle.result() == [7, 380]
    assert [later - executions[0] for later in executions] == [timedelta(hours=hours) for hours in range(3)]


async def test_a_timeout_around_a_group_stops_the_functions_of_its_steps() -> None:
    begun, ended = [], []

    async def endless(number: int) -> None:
        begun.append(number)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    async def impatient(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.timeout(0.2), ctx.parallel("group", max_concurrency=2) as group:
                for number in range(3):
                    group.step("endless", endless, number)
        except TimeoutError:
            return "too late"
        return ""

    async with Kagzi("sqlite://") as kagzi, kagzi.create_worker():
        handle = await kagzi.register_workflow("impatient", impatient).start()
        assert await handle.result(timeout=20) == "too late"

    assert begun == ended == [0, 1]
