"""`ctx.patched`: code changes under running runs, each run goes on as it began, and every replay is the same (P16)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from kagzi import WorkflowContext
from kagzi.engine.endings import Ending
from kagzi.errors import KagziError
from kagzi.model.step import StepKind, Tries
from tests.engine.host import COLD, World, survive

Body = Callable[[WorkflowContext], Coroutine[Any, Any, Any]]


def name_of(letter: str) -> str:
    return letter.upper()


async def old(ctx: WorkflowContext) -> str:
    first = await ctx.step("a", name_of, "a")
    second = await ctx.step("old", name_of, "old")
    await ctx.sleep("rest", 5_000)
    return first + second + await ctx.step("z", name_of, "z")


async def new(ctx: WorkflowContext) -> str:
    first = await ctx.step("a", name_of, "a")
    if ctx.patched("change"):
        second = await ctx.step("new", name_of, "new")
    else:
        second = await ctx.step("old", name_of, "old")
    await ctx.sleep("rest", 5_000)
    return first + second + await ctx.step("z", name_of, "z")


async def without_the_old_path(ctx: WorkflowContext) -> str:
    first = await ctx.step("a", name_of, "a")
    ctx.deprecate_patch("change")
    second = await ctx.step("new", name_of, "new")
    await ctx.sleep("rest", 5_000)
    return first + second + await ctx.step("z", name_of, "z")


async def without_the_call(ctx: WorkflowContext) -> str:
    first = await ctx.step("a", name_of, "a")
    second = await ctx.step("new", name_of, "new")
    await ctx.sleep("rest", 5_000)
    return first + second + await ctx.step("z", name_of, "z")


def markers(world: World) -> list[str]:
    return [record.step_id for record in world.memory.records if record.kind is StepKind.MARKER]


def come_so_far(body: Body, records: int) -> World:
    """A run of `body` whose process was killed when so many of its operations were durable."""
    world = World(body)
    world.claim()
    while len(world.memory.records) < records:
        if world.changes.waiting:
            (tell,) = world.changes.commit(1)
            tell()
        elif world.steps.running:
            world.steps.end(world.steps.running[0])
        else:
            world.clock_.ring()
    world.crash()
    return world


def test_a_new_run_takes_the_changed_path_and_has_it_in_its_record() -> None:
    world = World(new)

    outcome = world.finish()

    assert outcome.value == "ANEWZ"
    assert [record.step_id for record in world.memory.records] == [
        "0/a#1",
        "patch/change#1",
        "0/new#1",
        "0/rest#1",
        "0/z#1",
    ]


@pytest.mark.parametrize("park_after", [COLD, timedelta(days=1)])
def test_a_run_on_the_changed_path_stays_on_it_through_every_crash(park_after: timedelta) -> None:
    outcome = survive(new, park_after=park_after)

    assert outcome.value == "ANEWZ"


def test_a_run_that_was_further_before_the_change_stays_on_the_old_path() -> None:
    for records in (2, 3):
        world = come_so_far(old, records)

        world.become(new)

        assert world.finish().value == "AOLDZ"
        assert markers(world) == []


def test_a_run_that_had_not_come_to_the_change_takes_the_changed_path() -> None:
    for records in (0, 1):
        world = come_so_far(old, records)

        world.become(new)

        assert world.finish().value == "ANEWZ"


def test_a_run_that_parked_behind_the_change_stays_on_the_old_path_although_nothing_was_recorded_there() -> None:
    async def sleepy(ctx: WorkflowContext) -> str:
        await ctx.sleep("rest", 5_000)
        return await ctx.step("z", name_of, "z")

    async def changed(ctx: WorkflowContext) -> str:
        if ctx.patched("change"):
            await ctx.step("new", name_of, "new")
        await ctx.sleep("rest", 5_000)
        return await ctx.step("z", name_of, "z") + str(ctx.patched("change"))

    world = World(sleepy, park_after=COLD)
    world.claim()
    world.settle()
    assert world.endings == [Ending.PARKED]
    slept_since = world.clock_.store_now

    world.become(changed)
    world.claim()  # too early: it parks again, as it was
    world.settle()
    outcome = world.finish()

    assert outcome.value == "ZFalse"
    assert world.memory.records[0].finished_at == slept_since + timedelta(seconds=5_000)


def test_a_park_in_front_of_the_change_does_not_count() -> None:
    async def changed(ctx: WorkflowContext) -> str:
        first = await ctx.step("a", name_of, "a")
        await ctx.sleep("rest", 5_000)
        return first + ("new" if ctx.patched("change") else "old")

    async def before(ctx: WorkflowContext) -> str:
        first = await ctx.step("a", name_of, "a")
        await ctx.sleep("rest", 5_000)
        return first + "old"

    world = World(before, park_after=COLD)
    world.claim()
    world.settle()

    world.become(changed)

    assert world.finish().value == "Anew"


def test_an_answer_that_was_lost_with_its_marker_is_given_again_p16() -> None:
    """Another task's step was durable and not delivered when the marker was lost: a record that goes on, but with
    nothing that was asked for after the call."""

    async def body(ctx: WorkflowContext) -> list[Any]:
        async def asks() -> bool:
            await ctx.step("a", name_of, "a")
            return ctx.patched("change")

        return [*await asyncio.gather(asks(), ctx.step("b", name_of, "b"))]

    world = World(body)
    world.claim()
    for step in sorted(world.steps.running, key=lambda step: step.call.name):
        world.steps.end(step)
    tell_a, _ = world.changes.commit(2)  # both durable at once
    tell_a()  # the body has asked, and was told True; the marker is on its way
    assert [change.records[0].kind for change, _ in world.changes.waiting] == [StepKind.MARKER]

    world.crash()
    assert markers(world) == []

    assert world.finish().value == [True, "B"]


def test_attempts_of_a_step_on_the_old_path_keep_a_run_on_it() -> None:
    world = come_so_far(old, 1)
    world.memory.tries = {"0/old#1": Tries(used=1)}

    world.become(new)

    assert world.finish().value == "AOLDZ"


def test_an_execution_on_the_old_path_that_was_only_begun_keeps_a_run_on_it() -> None:
    """It is marked, as it is to happen at most once: nobody knows what it did, but that the run was there."""
    world = come_so_far(old, 1)
    world.memory.tries = {"0/old#1": Tries(used=0, in_doubt=True)}

    world.become(new)

    assert world.finish().value == "AOLDZ"


def test_a_step_that_was_tried_before_the_change_says_nothing_once_it_is_over() -> None:
    """The process was lost between two executions of it; the run itself never was where the change is."""
    world = come_so_far(new, 0)
    world.memory.tries = {"0/a#1": Tries(used=1)}

    outcome = world.finish()

    assert outcome.value == "ANEWZ"
    assert markers(world) == ["patch/change#1"]


def test_what_an_earlier_attempt_of_the_run_has_tried_says_nothing_of_where_this_one_is() -> None:
    async def body(ctx: WorkflowContext) -> str:
        if ctx.attempt == 2 and ctx.patched("change"):
            return "new"
        return await ctx.step("old", name_of, "old")

    world = World(body)
    world.memory.attempts, world.memory.reopened_seq, world.memory.fence = 2, 1, 1
    world.memory.tries = {"0/old#1": Tries(used=1, earlier=1)}

    assert world.finish().value == "new"


def test_one_id_has_one_answer_in_a_run() -> None:
    async def loop(ctx: WorkflowContext) -> list[str]:
        return [await ctx.step("old", name_of, "old") for _ in range(4)]

    async def changed(ctx: WorkflowContext) -> list[str]:
        return [
            await (ctx.step("new", name_of, "new") if ctx.patched("change") else ctx.step("old", name_of, "old"))
            for _ in range(4)
        ]

    begun_before = come_so_far(loop, 2)
    begun_before.become(changed)
    assert begun_before.finish().value == ["OLD"] * 4

    begun_after = World(changed)
    assert begun_after.finish().value == ["NEW"] * 4
    assert markers(begun_after) == ["patch/change#1"]


def test_two_ids_have_two_answers() -> None:
    async def changed_again(ctx: WorkflowContext) -> list[bool]:
        await ctx.step("a", name_of, "a")
        first = ctx.patched("first")
        await ctx.step("b", name_of, "b")
        return [first, ctx.patched("second")]

    async def before(ctx: WorkflowContext) -> list[bool]:
        await ctx.step("a", name_of, "a")
        await ctx.step("b", name_of, "b")
        return []

    world = come_so_far(before, 2)
    world.become(changed_again)

    assert world.finish().value == [False, True]


def test_concurrent_tasks_get_the_same_answer_in_every_replay() -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        async def task(letter: str) -> str:
            first = await ctx.step(letter, name_of, letter)
            if ctx.patched(f"change-{letter}"):
                return first + await ctx.step("new", name_of, "new")
            return first + await ctx.step("old", name_of, "old")

        return await asyncio.gather(*map(task, "abc"))

    assert survive(body).value == ["ANEW", "BNEW", "CNEW"]


@pytest.mark.parametrize("later", [without_the_old_path, without_the_call], ids=lambda body: body.__name__)
def test_a_marker_whose_call_is_gone_is_no_divergence(later: Body) -> None:
    for records in range(6):
        world = come_so_far(new, records)

        world.become(later)

        assert world.finish().value == "ANEWZ"


def test_deprecate_patch_marks_as_patched_does() -> None:
    world = come_so_far(without_the_old_path, 2)

    world.become(new)

    assert world.finish().value == "ANEWZ"
    assert markers(world) == ["patch/change#1"]


def test_a_run_on_the_old_path_stops_before_anything_where_the_old_path_is_gone() -> None:
    world = come_so_far(old, 2)
    world.become(without_the_old_path)
    world.claim()
    world.settle()
    assert world.endings[-1] is Ending.RELEASED
    assert len(world.memory.records) == 2  # no marker either

    world.become(new)

    assert world.finish().value == "AOLDZ"


def test_code_that_does_not_fit_records_no_marker() -> None:
    async def marked_and_wrong(ctx: WorkflowContext) -> str:
        ctx.patched("change")
        return await ctx.step("other", name_of, "other")

    world = come_so_far(old, 1)
    world.become(marked_and_wrong)
    world.claim()
    world.settle()

    assert markers(world) == []


def test_a_marker_does_not_move_the_workflow_s_time() -> None:
    async def body(ctx: WorkflowContext) -> list[str]:
        await ctx.step("a", name_of, "a")
        before = ctx.now()
        ctx.patched("change")
        step = ctx.step("b", name_of, "b")
        await asyncio.sleep(0)
        after = ctx.now()
        await step
        return [str(before), str(after)]

    times = survive(body).value

    assert times is not None
    assert times[0] == times[1]


def test_a_run_that_ends_right_after_its_first_call_has_its_marker() -> None:
    async def body(ctx: WorkflowContext) -> bool:
        return ctx.patched("change")

    world = World(body)

    assert world.finish().value is True
    assert markers(world) == ["patch/change#1"]


def test_a_worker_that_drains_makes_the_marker_durable_before_it_gives_the_run_back() -> None:
    world = World(new)
    execution = world.claim()
    world.steps.end(world.steps.running[0])
    execution.drain()
    world.settle()

    assert world.endings == [Ending.RELEASED]
    assert markers(world) == ["patch/change#1"]
    assert world.finish().value == "ANEWZ"


async def test_patched_is_refused_outside_of_the_body() -> None:
    kept: list[WorkflowContext] = []

    async def body(ctx: WorkflowContext) -> None:
        kept.append(ctx)

    World(body).finish()

    with pytest.raises(KagziError, match="outside of the workflow's body"):
        kept[0].patched("change")


def test_an_id_that_can_not_be_kept_is_refused() -> None:
    async def body(ctx: WorkflowContext) -> list[str]:
        refused = []
        for change_id in ("", "x" * 256, "a\0b", "\ud800"):
            try:
                ctx.patched(change_id)
            except ValueError as error:
                refused.append(str(error))
        return refused

    refused = World(body).finish().value

    assert refused is not None
    assert len(refused) == 4
