"""Signals in the engine: none is lost or received twice, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest

from kagzi import RetryPolicy, Signal, WorkflowContext
from kagzi.authoring.options import workflow_options
from tests.engine.host import World
from tests.engine.signal_programs import check

WORD = Signal("word", str)
THRICE = workflow_options(retry=RetryPolicy.fixed(1, max_attempts=3))


@pytest.mark.parametrize("first", range(0, 800, 100))
def test_random_programs_receive_every_signal_once_in_order_or_leave_it(first: int) -> None:
    """P19, P20."""
    assert check(range(first, first + 100)) > 0


def test_a_look_that_is_older_than_a_receipt_brings_nothing_twice() -> None:
    """P19: the mailbox was read before a receipt was durable, and the answer came after."""

    async def listen(ctx: WorkflowContext) -> list[str]:
        return [await ctx.wait_for(WORD) for _ in range(3)]

    world = World(listen)
    world.signal("word", "one")
    world.claim()
    world.signal("word", "two")
    bring = world.look_for_mail()  # with "one", which is on its way to the body
    world.settle()
    bring()
    world.settle()
    world.claim()
    world.signal("word", "three")
    world.bring_mail()
    world.settle()

    assert world.memory.transition is not None
    assert world.memory.transition.output == '["one","two","three"]'


def test_a_signal_that_was_being_received_when_the_body_ended_is_undelivered() -> None:
    """P19."""

    async def brief(ctx: WorkflowContext) -> str:
        tasks = [asyncio.create_task(_of(ctx, WORD)), asyncio.create_task(_of(ctx, Signal("stop", str)))]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()

    world = World(brief)
    world.signal("stop", "now")
    world.signal("word", "too late")
    world.claim()

    tellings = world.changes.commit(2)
    assert len(tellings) == 2
    for tell in tellings:
        tell()
    world.settle()

    assert world.memory.transition is not None
    received = world.memory.transition.output
    assert [message.payload for message in world.memory.mail] == ['"now"' if received == '"too late"' else '"too late"']


@pytest.mark.parametrize("park_after", [timedelta(0), timedelta(days=365)])
def test_a_later_attempt_of_the_run_gets_what_was_received(park_after: timedelta) -> None:
    """Decision 0016: nobody sends a signal again because the run is executed again."""
    failures = iter([True, False])

    async def listen(ctx: WorkflowContext) -> list[str]:
        words = [await ctx.wait_for(WORD)]
        if next(failures, False):
            raise ConnectionError("once")
        return [*words, await ctx.wait_for(WORD)]

    world = World(listen, park_after=park_after)
    world.definition = msgspec.structs.replace(world.definition, options=THRICE)
    world.signal("word", "first")
    world.claim()
    world.settle()
    world.signal("word", "second")

    outcome = world.finish()

    assert outcome.value == ["first", "second"]
    assert world.memory.mail == []


def test_what_was_received_in_vain_belongs_to_the_wait_that_got_it_after() -> None:
    """P19: of two records that name one message, the last has received it, in a later attempt too."""

    async def listen(ctx: WorkflowContext) -> tuple[str, bool]:
        first = asyncio.create_task(_of(ctx, WORD))
        await ctx.step("step", lambda: "step")
        if ctx.attempt == 1:
            first.cancel()
        word = await ctx.wait_for(WORD)
        if ctx.attempt == 1:
            raise ConnectionError("once")
        return word, first.done()

    world = World(listen)
    world.definition = msgspec.structs.replace(world.definition, options=THRICE)
    world.claim()
    world.steps.end(world.steps.running[0])
    world.signal("word", "only")
    world.bring_mail()
    for tell in world.changes.commit(2):  # the step's result, then a receipt that is in vain
        tell()
    world.settle()

    outcome = world.finish()

    assert [record.message for record in world.memory.records] == [None, 1]
    assert outcome.value == ["only", False]


async def _of(ctx: WorkflowContext, signal: Signal[str]) -> str:
    return await ctx.wait_for(signal)
