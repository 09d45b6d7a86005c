"""What branches are called: after the group and the source text, whatever finishes first (P15)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kagzi import ParallelExecutor, StepBuilder, WorkflowContext
from kagzi.model.step import step_name
from tests.engine.host import World, survive

Body = Callable[[WorkflowContext], Coroutine[Any, Any, Any]]


def double(number: int) -> int:
    return 2 * number


def asked(body: Body) -> list[str]:
    """The identity of each operation in the order of the record, steps ending first come, first served."""
    world = World(body)
    world.finish()
    return [record.step_id for record in world.memory.records]


def test_branches_are_named_in_their_group_and_groups_by_name_and_occurrence() -> None:
    async def body(ctx: WorkflowContext) -> None:
        for _ in range(2):
            async with ctx.parallel("sums") as group:
                group.step("double", double, 1)
                group.step("double", double, 2)
                group.options(timeout=5).step("double", double, 3)
                StepBuilder("built").execute(group, double, 4)

    assert asked(body) == [
        f"0.sums#{group}/{name}" for group in (1, 2) for name in ("double#1", "double#2", "double#3", "built#1")
    ]


def test_branches_that_are_coroutines_have_scopes_of_their_own() -> None:
    async def work(ctx: WorkflowContext) -> None:
        await ctx.step("double", double, 1)
        async with ctx.parallel("inner") as inner:
            inner.step("double", double, 1)

    async def body(ctx: WorkflowContext) -> None:
        async with ctx.parallel("outer") as outer:
            outer.start(work(ctx))
            outer.sleep("rest", 0)
            outer.start(work(ctx))
            async with outer.parallel("nested") as nested:
                nested.step("double", double, 1)

    assert sorted(asked(body)) == [
        "0.outer#1.1.inner#1/double#1",
        "0.outer#1.1/double#1",
        "0.outer#1.2.inner#1/double#1",
        "0.outer#1.2/double#1",
        "0.outer#1.nested#1/double#1",
        "0.outer#1/rest#1",
    ]


async def plain(ctx: WorkflowContext) -> None:
    await ctx.step("double", double, 1)
    await asyncio.gather(asyncio.ensure_future(after(ctx)), ctx.step("double", double, 2))


async def after(ctx: WorkflowContext) -> None:
    await ctx.step("double", double, 3)


async def with_group(ctx: WorkflowContext) -> None:
    async with ctx.parallel("double") as group:
        group.step("double", double, 9)
        group.start(after(ctx))
    await plain(ctx)


async def with_map(ctx: WorkflowContext) -> None:
    await ctx.map("double", double, [1, 2, 3])
    await plain(ctx)


async def with_gather(ctx: WorkflowContext) -> None:
    await ctx.gather(ctx.step("other", double, 1), ctx.step("other", double, 1))
    await ctx.race(ctx.step("other", double, 1), ctx.step("other", double, 1))
    await plain(ctx)


@pytest.mark.parametrize("body", [with_group, with_map, with_gather])
def test_a_group_in_front_moves_nothing_that_follows(body: Body) -> None:
    assert asked(body)[-3:] == asked(plain)


def test_two_maps_of_one_name_are_apart() -> None:
    async def body(ctx: WorkflowContext) -> None:
        await ctx.map("double", double, [1, 2])
        await ctx.map("double", double, [1])

    assert asked(body) == ["0.double#1/double#1", "0.double#1/double#2", "0.double#2/double#1"]


@pytest.mark.parametrize("limit", [None, 1, 2])
def test_identities_do_not_depend_on_what_finishes_first(limit: int | None) -> None:
    async def work(ctx: WorkflowContext, group: ParallelExecutor, number: int) -> int:
        first = await ctx.step("first", double, number)
        # In a branch's own task: named there, or the branch that comes first would decide.
        return await group.options(timeout=9).step("second", double, first) if limit is None else first

    async def body(ctx: WorkflowContext) -> list[int]:
        async with ctx.parallel("group", max_concurrency=limit) as group:
            branches = [group.start(work(ctx, group, number)) for number in range(3)]
            branches += [group.step("double", double, number) for number in range(3)]
        return [branch.result() for branch in branches]

    outcomes = []
    for order in itertools.permutations(range(3)):
        world = World(body)
        world.claim()
        for place in order * 3:
            if world.steps.running:
                world.steps.end(world.steps.running[place % len(world.steps.running)])
                for tell in world.changes.commit(1):
                    tell()
        world.settle()
        assert world.memory.transition is not None
        outcomes.append(({(record.step_id, record.output) for record in world.memory.records}, world.memory.transition))

    assert all(outcome == outcomes[0] for outcome in outcomes)


@pytest.mark.parametrize("name", ["a.b", "a/b#1", "100%", "1", "1#1", "größer", "a#1.b", "x" * 255])
def test_a_group_can_have_any_name_and_its_steps_keep_theirs(name: str) -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        async with ctx.parallel(name) as group:
            call = group.step("a/b#c", double, 1)
            started = group.start(after(ctx))
        await started
        return [await call]

    assert survive(body).value == [2]
    assert sorted(step_name(step_id) for step_id in asked(body)) == ["a/b#c", "double"]


def test_groups_whose_names_look_like_paths_are_not_mistaken_for_one_another() -> None:
    async def body(ctx: WorkflowContext) -> None:
        async with ctx.parallel("a#1.b") as group:
            group.step("double", double, 1)
        async with ctx.parallel("a") as outer, outer.parallel("b") as inner:
            inner.step("double", double, 1)
        async with ctx.parallel("1") as group:
            group.step("double", double, 1)
        await asyncio.ensure_future(after(ctx))

    assert len(set(asked(body))) == 4


def test_groups_nested_too_deep_are_refused_with_the_cure() -> None:
    async def nest(ctx: WorkflowContext, depth: int) -> int:
        async with ctx.parallel("ü" * 255) as group:
            if depth:
                return await group.start(nest(ctx, depth - 1))
            return await group.step("double", double, 1)

    async def deep(ctx: WorkflowContext) -> int:
        return await nest(ctx, 6)

    async def less_deep(ctx: WorkflowContext) -> int:
        return await nest(ctx, 2)

    assert survive(less_deep).value == 2
    assert "nested too deep" in str(survive(deep).error)
