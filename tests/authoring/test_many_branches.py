"""Groups of thousands: what grows with their number, and what must not."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from kagzi import ParallelErrorStrategy, StepFailed, WorkflowContext
from kagzi.engine import loop
from kagzi.engine.endings import Ending
from kagzi.model.run import RunStatus
from tests.engine.host import COLD, World

Branch = Callable[[WorkflowContext], Coroutine[Any, Any, None]]
Body = Callable[[WorkflowContext], Coroutine[Any, Any, Any]]

SMALL, LARGE = 500, 2_000


def same(number: int) -> int:
    return number


def fail() -> int:
    raise ValueError("no")


async def branch(ctx: WorkflowContext, number: int) -> int:
    return await ctx.step("same", same, number)


def gathered(count: int) -> Body:
    async def body(ctx: WorkflowContext) -> int:
        return sum(await ctx.gather(*[ctx.step("same", same, number) for number in range(count)]))

    return body


def completed(count: int) -> Body:
    async def body(ctx: WorkflowContext) -> int:
        return sum([each async for each in ctx.as_completed(*[branch(ctx, number) for number in range(count)])])

    return body


def raced(count: int) -> Body:
    async def body(ctx: WorkflowContext) -> int:
        await ctx.race(*[ctx.step("same", same, number) for number in range(count)])
        return sum(range(count))

    return body


def mapped(count: int) -> Body:
    async def body(ctx: WorkflowContext) -> int:
        return sum(await ctx.map("same", same, range(count), max_concurrency=7))

    return body


def grouped(count: int) -> Body:
    async def body(ctx: WorkflowContext) -> int:
        async with ctx.parallel("group", ParallelErrorStrategy.COLLECT_ALL, max_concurrency=7) as group:
            for number in range(count):
                group.start(branch(ctx, number))
        return sum(result.unwrap() for result in group.results)

    return body


def failing(count: int) -> Body:
    async def body(ctx: WorkflowContext) -> int:
        try:
            async with ctx.parallel("group") as group:
                group.step("fail", fail)
                for number in range(count):
                    group.start(branch(ctx, number))
                    group.sleep("rest", 5)
        except StepFailed:
            pass
        return sum(range(count))

    return body


async def asyncio_group(ctx: WorkflowContext) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.sleep("rest", 3_600))
        group.create_task(asyncio.sleep(3_600))


async def own_group(ctx: WorkflowContext) -> None:
    async with ctx.parallel("group") as group:
        group.sleep("rest", 3_600)
        group.start(ctx.sleep("rest", 3_600))


async def both(ctx: WorkflowContext) -> None:
    await ctx.gather(asyncio_group(ctx), own_group(ctx))


def calls_of_python(work: Callable[[], object]) -> int:
    """How many functions of Python's are called: a clock that other processes don't disturb."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def finish(world: World) -> None:
    """Let everything happen as soon as it can, many things at a time."""
    world.claim()
    while world.execution is not None:
        for tell in world.changes.commit(len(world.changes.waiting)):
            tell()
        for step in world.steps.running:
            if not step.stopped:
                world.steps.end(step)


@pytest.mark.parametrize("program", [gathered, completed, raced, mapped, grouped, failing])
def test_work_grows_with_the_number_of_branches_and_not_with_its_square(program: Callable[[int], Body]) -> None:
    work = []
    for count in (SMALL, LARGE):
        world = World(program(count))
        live = calls_of_python(lambda: finish(world))  # noqa: B023 - called at once
        assert world.memory.transition is not None
        assert (world.memory.transition.status, world.memory.transition.output) == (
            RunStatus.COMPLETED,
            str(sum(range(count))),
        )
        replay = World(program(count)).remember(world.memory.records)
        work.append((live / count, calls_of_python(replay.claim) / count))
        replay.crash()

    (live_small, replay_small), (live_large, replay_large) = work
    # A square would make each branch four times as dear.
    assert live_large < 1.5 * live_small
    assert replay_large < 1.5 * replay_small


def test_a_group_that_has_ended_leaves_nothing_to_the_garbage_collector() -> None:
    kept: list[weakref.ref[asyncio.Future[Any]]] = []

    async def body(ctx: WorkflowContext) -> None:
        async with ctx.parallel("group", max_concurrency=2) as group:
            kept.extend(weakref.ref(group.step("same", same, number)) for number in range(5))
        del group
        await ctx.sleep("rest", 10)
        assert [each() for each in kept] == [None] * 5
        await ctx.map("same", same, range(5))

    gc.disable()
    try:
        assert World(body).finish().status is RunStatus.COMPLETED
    finally:
        gc.enable()


@pytest.mark.parametrize("group", [asyncio_group, own_group, both])
def test_more_branches_than_a_body_has_patience_for_leave_memory_together(
    group: Branch, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A fiftieth, as ten thousand branches take a while.
    monkeypatch.setattr(loop, "_HANDLES_WHILE_LEAVING", 200)
    monkeypatch.setattr(loop, "_REFUSALS", 20)

    async def body(ctx: WorkflowContext) -> None:
        async with ctx.parallel("group") as outer:
            for _ in range(SMALL):
                outer.start(group(ctx))

    world = World(body, park_after=COLD)
    world.claim()
    world.settle()

    assert world.endings == [Ending.PARKED]
    assert caplog.messages == [], "a body that has not ended is named in a warning"


def test_a_run_with_a_long_record_rests_in_memory_for_longer_before_it_parks() -> None:
    async def body(ctx: WorkflowContext) -> None:
        await ctx.map("same", same, range(SMALL))
        await ctx.sleep("short", 0.4)
        await ctx.sleep("long", 0.6)

    world = World(body, park_after=COLD)
    finish_steps(world)

    assert world.endings == [Ending.PARKED]
    assert [record.step_id for record in world.memory.records][-1] == "0/short#1"
    assert world.memory.transition is not None
    assert world.memory.transition.wake_at == world.clock_.store_now + timedelta(seconds=0.6)


def finish_steps(world: World) -> None:
    world.claim()
    world.settle()
