"""Updates and published values in the engine: each reply and each value is a record, and a replay makes none again."""

from __future__ import annotations

import asyncio

import pytest

from kagzi import PayloadError, Update, WorkflowContext
from kagzi.model.run import MessageKind
from kagzi.model.step import StepKind
from tests.engine.host import World, survive

ADD = Update("add", int, int)


async def counting(ctx: WorkflowContext) -> int:
    total = 0
    for _ in range(2):
        request = await ctx.wait_for(ADD)
        total += request.value
        await ctx.publish("total", total)
        await request.reply(total)
    return total


def a_world_with_updates(records: int = 0) -> World:
    world = World(counting)
    for value in ("3", "4"):
        world.memory.post("add", value, world.clock_.store_now, kind=MessageKind.UPDATE)
    return world


def test_each_update_is_answered_in_order() -> None:
    world = a_world_with_updates()

    outcome = world.finish()

    assert outcome.value == 7
    assert world.memory.replies == {1: "3", 2: "7"}
    assert world.memory.values == {"total": "7"}
    kinds = [record.kind for record in world.memory.records]
    assert kinds == [StepKind.UPDATE, StepKind.VALUE, StepKind.REPLY] * 2


@pytest.mark.parametrize("length", range(7))
def test_after_a_crash_at_any_record_nothing_is_answered_or_shown_again(length: int) -> None:
    """P11."""
    first = a_world_with_updates()
    outcome = first.finish()
    resumed = a_world_with_updates().remember(first.memory.records[:length])
    resumed.memory.received = {at: seq for at, seq in first.memory.received.items() if seq <= length}

    assert resumed.finish() == outcome

    repeated = {at: reply for at, reply in first.memory.replies.items() if at * 3 > length}
    assert resumed.memory.replies == repeated


def test_values_published_side_by_side_survive_crashes() -> None:
    async def body(ctx: WorkflowContext) -> str:
        await asyncio.gather(*(ctx.publish(f"part {number}", number) for number in range(5)))
        await ctx.publish("part 1", "again")
        return "done"

    assert survive(body).value == "done"


def test_a_value_that_can_not_be_kept_is_refused_at_the_call() -> None:
    """P24."""

    async def body(ctx: WorkflowContext) -> list[str]:
        told = []
        for value in (object(), float("nan")):
            try:
                await ctx.publish("progress", value)
            except PayloadError as error:
                told.append(str(error))
        return told

    told = survive(body).value or []

    assert len(told) == 2
    assert all("progress" in text for text in told)
