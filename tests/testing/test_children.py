"""Children in an environment: mocked, advanced and crashed like everything else."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from kagzi import ChildFailed, Kagzi, ParentClose, RunStatus, Signal, WorkflowContext
from kagzi.testing import Environment

NUMBER = Signal("number", int)


def double(number: int) -> int:
    return number * 2


def fail() -> None:
    raise ValueError("no good")


async def test_a_family_survives_crashes_everywhere() -> None:
    """P14."""
    kagzi = Kagzi("sqlite://")

    @kagzi.workflow
    async def child(ctx: WorkflowContext, number: int) -> int:
        if number < 0:
            await ctx.step("fail", fail)
        await ctx.sleep("a while", timedelta(hours=number))
        return await ctx.step("double", double, number)

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> list[int | str]:
        beside = await ctx.options(queue="elsewhere").start_child("beside", child, 3)
        found: list[int | str] = [*await ctx.gather(ctx.child("one", child, 1), ctx.child("two", child, 2))]
        try:
            await ctx.child("bad", child, -1)
        except ChildFailed as failed:
            found.append(failed.error.type)
        return [*found, await beside.result()]

    async with Environment(kagzi) as env:
        await env.crash_everywhere(parent)
        handle = await parent.start()
        await env.advance(timedelta(hours=5))
        assert await handle.result() == [2, 4, "StepFailed", 6]


async def test_a_signal_to_a_child_is_sent_once_through_crashes_everywhere() -> None:
    kagzi = Kagzi("sqlite://")

    @kagzi.workflow
    async def child(ctx: WorkflowContext) -> list[int]:
        return [await ctx.wait_for(NUMBER) for _ in range(3)]

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> list[int]:
        handle = await ctx.start_child("child", child)
        await handle.signal(NUMBER, 1)
        await ctx.gather(handle.signal(NUMBER, 2), handle.signal(NUMBER, 2))
        return await handle.result()

    async with Environment(kagzi) as env:
        report = await env.crash_everywhere(parent)
        handle = await parent.start()
        assert await handle.result(timeout=30) == [1, 2, 2]

    assert "checkpoint of step 'signal number'" in report.writes


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        (ParentClose.TERMINATE, RunStatus.CANCELLED),
        (ParentClose.CANCEL, RunStatus.CANCELLED),
        (ParentClose.ABANDON, RunStatus.COMPLETED),
    ],
)
async def test_a_child_outlives_its_parent_or_does_not(policy: ParentClose, status: RunStatus) -> None:
    kagzi = Kagzi("sqlite://")

    @kagzi.workflow
    async def child(ctx: WorkflowContext) -> None:
        await ctx.sleep("a day", timedelta(days=1))

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> str:
        handle = await ctx.options(parent_close=policy).start_child("child", child)
        await ctx.sleep("an hour", timedelta(hours=1))
        return handle.run_id

    async with Environment(kagzi) as env:
        handle = await parent.start()
        await env.advance(timedelta(hours=2))
        left = kagzi.handle(await handle.result())
        await env.advance(timedelta(days=1))
        assert await left.status() is status


async def test_a_child_that_takes_too_long_is_given_up_in_time() -> None:
    kagzi = Kagzi("sqlite://")

    @kagzi.workflow
    async def child(ctx: WorkflowContext) -> None:
        await ctx.sleep("a day", timedelta(days=1))

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.timeout(3600):
                await ctx.child("child", child)
        except TimeoutError:
            await ctx.sleep("a week", timedelta(days=7))
            return "gave up"
        raise AssertionError("it was not given up")

    async with Environment(kagzi) as env:
        await env.crash_everywhere(parent)
        handle = await parent.start()
        await env.advance(timedelta(hours=2))
        (step,) = [step for step in await handle.history() if step.child_run_id]
        given_up = await kagzi.handle(step.child_run_id or "").status()
        await env.advance(timedelta(days=7))
        assert (await handle.result(), given_up) == ("gave up", RunStatus.CANCELLED)
