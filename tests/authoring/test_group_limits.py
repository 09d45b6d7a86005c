"""`max_concurrency`: how many branches are under way, and which comes next."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kagzi import ParallelErrorStrategy, StepFailed, WorkflowContext
from tests.engine.host import COLD, World, survive

COLLECT_ALL = ParallelErrorStrategy.COLLECT_ALL


def double(number: int) -> int:
    return 2 * number


def fail() -> int:
    raise ValueError("no")


def running(world: World) -> list[str]:
    return [step.call.step_id for step in world.steps.running]


def commit(world: World) -> None:
    for tell in world.changes.commit(len(world.changes.waiting)):
        tell()


def test_no_more_steps_than_the_limit_are_under_way_and_the_next_is_the_oldest() -> None:
    async def body(ctx: WorkflowContext) -> None:
        async with ctx.parallel("group", max_concurrency=2) as group:
            for number in range(5):
                group.step("double", double, number)

    world = World(body)
    world.claim()
    assert running(world) == ["0.group#1/double#1", "0.group#1/double#2"]

    world.steps.end(world.steps.running[1])
    assert running(world) == ["0.group#1/double#1"], "its place is free once its result is durable"
    commit(world)
    assert running(world) == ["0.group#1/double#1", "0.group#1/double#3"]

    world.steps.end(world.steps.running[0])
    world.steps.end(world.steps.running[0])
    commit(world)
    assert running(world) == ["0.group#1/double#4", "0.group#1/double#5"]
    world.crash()


def test_a_call_of_the_context_that_is_started_as_a_branch_waits_for_its_turn() -> None:
    async def body(ctx: WorkflowContext) -> None:
        async with ctx.parallel("group", max_concurrency=1) as group:
            group.start(ctx.step("first", double, 1))
            group.start(ctx.step("second", double, 1))

    world = World(body)
    world.claim()

    assert running(world) == ["0/first#1"]
    world.crash()


def test_all_sorts_of_branches_take_turns() -> None:
    async def work(ctx: WorkflowContext, under_way: list[int], most: list[int], number: int) -> int:
        under_way.append(number)
        most.append(len(under_way))
        await ctx.sleep("rest", 10)
        value = await ctx.step("double", double, number)
        under_way.remove(number)
        return value

    async def body(ctx: WorkflowContext) -> list[Any]:
        under_way: list[int] = []
        most: list[int] = []
        async with ctx.parallel("group", max_concurrency=3) as group:
            for number in range(4):
                group.start(work(ctx, under_way, most, number))
                group.sleep("rest", 10)
                group.start(ctx.step("double", double, 100 + number))
        return [max(most), str(ctx.now()), [result.unwrap() for result in group.results]]

    value: Any = survive(body, park_after=COLD).value

    most, ended, values = value
    assert most <= 3
    # Four coroutines and four sleeps of ten seconds each, at most three at a time.
    assert ended == "2026-01-01 00:00:30+00:00"
    assert values == [0, None, 200, 2, None, 202, 4, None, 204, 6, None, 206]


def test_a_sleep_counts_from_its_turn_on() -> None:
    async def body(ctx: WorkflowContext) -> str:
        async with ctx.parallel("group", max_concurrency=1) as group:
            group.sleep("rest", 10)
            group.sleep("rest", 10)
        return str(ctx.now())

    assert survive(body, park_after=COLD).value == "2026-01-01 00:00:20+00:00"


def test_a_branch_that_waits_for_its_turn_can_be_awaited_and_cancelled() -> None:
    async def never(ctx: WorkflowContext) -> int:
        raise AssertionError("its turn never comes")

    async def body(ctx: WorkflowContext) -> list[Any]:
        async with ctx.parallel("group", COLLECT_ALL, max_concurrency=1) as group:
            group.sleep("rest", 10)
            branches: list[asyncio.Future[Any]] = [
                group.step("double", double, 1),
                group.sleep("rest", 10),
                group.start(never(ctx)),
                group.start(ctx.step("double", double, 1)),
            ]
            last = group.step("double", double, 3)
            for branch in branches:
                branch.cancel()
            value = await last
        return [value, str(ctx.now()), [result.is_ok for result in group.results]]

    assert survive(body).value == [6, "2026-01-01 00:00:10+00:00", [True, False, False, False, False, True]]


def test_a_failure_reaches_those_that_wait_for_their_turn() -> None:
    async def never(ctx: WorkflowContext) -> int:
        raise AssertionError("its turn never comes")

    async def body(ctx: WorkflowContext) -> str:
        try:
            async with ctx.parallel("group", max_concurrency=1) as group:
                group.step("fail", fail)
                group.step("double", double, 1)
                group.start(never(ctx))
                group.sleep("rest", 10)
        except StepFailed as error:
            return error.step
        return ""

    world = World(body)
    world.finish()
    assert survive(body).value == "fail"
    assert world.steps.executed == ["0.group#1/fail#1"]


def test_a_timeout_frees_the_place_of_the_branch_it_gives_up() -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        async with ctx.parallel("group", COLLECT_ALL, max_concurrency=1) as group:
            slow = group.sleep("long", 5_000)
            group.step("double", double, 2)
            try:
                async with asyncio.timeout(10):
                    await slow
            except TimeoutError:
                pass
        return [str(ctx.now()), group.results[1].unwrap()]

    assert survive(body).value == ["2026-01-01 00:00:10+00:00", 4]


@pytest.mark.parametrize("park_after", [COLD])
def test_a_parked_group_comes_back_with_the_same_branches_under_way(park_after: Any) -> None:
    async def work(ctx: WorkflowContext, number: int) -> int:
        await ctx.sleep("rest", 10 * (number + 1))
        return await ctx.step("double", double, number)

    async def body(ctx: WorkflowContext) -> list[Any]:
        async with ctx.parallel("group", max_concurrency=2) as group:
            for number in range(6):
                group.start(work(ctx, number))
        return [str(ctx.now()), [result.unwrap() for result in group.results]]

    assert survive(body, park_after=park_after).value == ["2026-01-01 00:02:00+00:00", [0, 2, 4, 6, 8, 10]]
