"""Undoing in an environment: at a crash at every write, and with stand-ins for undos."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from kagzi import Kagzi, RetryPolicy, Signal, SyncWorkflowContext, WorkflowContext, WorkflowFailed, step_info
from kagzi.testing import Environment

GO = Signal("go", int)


def _do(name: str) -> str:
    return f"receipt of {name}"


async def _undo(receipt: str, name: str) -> None:
    assert receipt == f"receipt of {name}"


async def _undo_at_the_third_try(receipt: str, name: str) -> None:
    if step_info().attempt < 3:
        raise ConnectionError("no answer")


async def _never_undo(receipt: str, name: str) -> None:
    raise LookupError("nothing to undo")


async def _fail() -> None:
    raise LookupError("not there")


async def test_undoing_survives_a_crash_at_every_write(kagzi: Kagzi) -> None:
    """P10, P14: with branches whose results are on their way when the body fails, retries, and undos that fail."""

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        undoable = ctx.options(undo=_undo)
        await undoable.step("one", _do, "one")
        await ctx.options(undo=_undo_at_the_third_try, retry=RetryPolicy.fixed(3600, max_attempts=5)).step(
            "two", _do, "two"
        )
        if ctx.patched("newly"):
            await ctx.options(undo=_never_undo).step("three", _do, "three")
        async with undoable.parallel("group") as group:
            for name in "abc":
                group.step(name, _do, name)
        await asyncio.gather(*(undoable.step("again", _do, "again") for _ in range(2)), ctx.step("fail", _fail))

    async with Environment(kagzi) as env:
        handle = await order.start()
        await env.advance(timedelta(hours=3))
        with pytest.raises(WorkflowFailed, match="not there") as failed:
            await handle.result(timeout=30)
        assert [each["step"] for each in failed.value.error.context["failed_undos"]] == ["undo three"]
        undone = [each.name for each in await handle.history() if each.name.startswith("undo ")]
        assert undone[-3:] == ["undo three", "undo two", "undo one"]
        report = await env.crash_everywhere(order)

    assert "end of the body" in report.writes
    assert "checkpoint of step 'undo one'" in report.writes


async def test_what_was_done_although_nobody_waited_any_more_is_undone(kagzi: Kagzi) -> None:
    """The record of the loser is on its way when the winner is delivered: the work is done all the same."""
    undone: set[str] = set()

    async def undo(receipt: str, name: str) -> None:
        undone.add(name)

    async def do(name: str) -> str:
        return f"receipt of {name}"

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        undoable = ctx.options(undo=undo)
        await ctx.race(undoable.step("one", do, "one"), undoable.step("two", do, "two"))
        raise LookupError("not there")

    async with Environment(kagzi) as env:
        with pytest.raises(WorkflowFailed):
            await (await order.start()).result(timeout=30)
        assert undone == {"one", "two"}
        await env.crash_everywhere(order)


async def test_undoing_in_the_last_attempt_survives_a_crash_at_every_write(kagzi: Kagzi) -> None:
    @kagzi.workflow(retry=RetryPolicy.fixed(3600, max_attempts=3))
    async def order(ctx: WorkflowContext) -> None:
        undoable = ctx.options(undo=_undo)
        await undoable.step("one", _do, "one")
        await ctx.sleep("nap", 7)
        await ctx.gather(undoable.step("two", _do, "two"), undoable.step("three", _do, "three"))
        await ctx.publish("state", ctx.attempt)
        raise ConnectionError("again later")

    async with Environment(kagzi) as env:
        await env.crash_everywhere(order)


async def test_a_def_workflow_is_undone_through_a_crash_at_every_write(kagzi: Kagzi) -> None:
    @kagzi.workflow
    def order(ctx: SyncWorkflowContext) -> None:
        ctx.options(undo=_undo).step("one", _do, "one")
        ctx.options(undo=_undo).submit("two", _do, "two").result()
        ctx.step("fail", _fail)

    async with Environment(kagzi) as env:
        await env.crash_everywhere(order)


async def test_an_undo_has_a_stand_in_by_its_name(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.options(undo=_never_undo).step("charge", _do, "charge")
        await ctx.wait_for(GO)

    async with Environment(kagzi) as env:
        mock = env.mock("undo charge", None)
        handle = await order.start()
        await env.settle()
        await handle.cancel()
        await env.settle()
        steps = Counter(each.status for each in await handle.history())

    assert mock.calls == [(("receipt of charge", "charge"), {})]
    assert steps == {"COMPLETED": 4}
