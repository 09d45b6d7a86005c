"""Errors that can't be told, bodies that can't be begun, tasks nested too deep: no run hangs because of them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from kagzi import Kagzi, WorkflowContext, WorkflowFailed
from kagzi.engine.endings import Ending
from kagzi.testing import Environment
from tests.engine.host import World


class Unspeakable(type):
    """A class whose name can't be asked for."""

    @property
    def __name__(cls) -> str:  # type: ignore[override] # that is the point
        raise RuntimeError("no name")


class UnspeakableError(Exception, metaclass=Unspeakable):
    pass


async def fail_unspeakably() -> None:
    raise UnspeakableError


async def test_an_error_of_which_nothing_can_be_told_fails_its_run() -> None:
    """P14."""
    kagzi = Kagzi("sqlite://")

    @kagzi.workflow
    async def in_step(ctx: WorkflowContext) -> None:
        await ctx.step("fail", fail_unspeakably)

    @kagzi.workflow
    async def in_body(ctx: WorkflowContext) -> None:
        raise UnspeakableError

    async with Environment(kagzi):
        for workflow in (in_step, in_body):
            with pytest.raises(WorkflowFailed):
                await (await workflow.start()).result(timeout=10)


async def test_a_workflow_function_that_raises_when_called_fails_its_run() -> None:
    """P14, P23."""
    kagzi = Kagzi("sqlite://")

    async def body(ctx: WorkflowContext, number: int) -> int:
        return number

    def refuse(*arguments: Any) -> Any:
        raise LookupError("not today")

    # What a decorator may make of an `async def` function: it raises before there is a coroutine.
    workflow = kagzi.register_workflow("picky", body)
    known = kagzi._definitions.get("picky", 1)
    kagzi._definitions._versions["picky"][1] = msgspec.structs.replace(known, fn=refuse)
    async with Environment(kagzi):
        with pytest.raises(WorkflowFailed, match="not today"):
            await (await workflow.start(1)).result(timeout=10)


async def test_a_step_in_tasks_nested_too_deep_is_refused_before_it_is_executed() -> None:
    """P24: an identity that no index holds is refused at the call."""
    kagzi = Kagzi("sqlite://")
    executed = []

    async def note() -> None:
        executed.append(1)

    @kagzi.workflow
    async def deep(ctx: WorkflowContext) -> None:
        async def down(levels: int) -> None:
            if levels:
                await asyncio.create_task(down(levels - 1))
            else:
                await ctx.step("bottom", note)

        await down(1_250)

    async with Environment(kagzi):
        with pytest.raises(WorkflowFailed, match="nested too deep"):
            await (await deep.start()).result(timeout=10)

    assert executed == []


class UnspeakableText(RuntimeError):
    """Of the type that is looked at for what it says about event loops."""

    @property  # type: ignore[misc] # of an object it can be set, too
    def __class__(self) -> type:
        raise SystemExit("no class")

    def __str__(self) -> str:
        raise SystemExit("no text")


async def fail_without_text() -> None:
    raise UnspeakableText


@pytest.mark.parametrize("levels", [1, 3])
async def test_an_error_that_would_end_the_process_when_it_is_looked_at_fails_its_run(levels: int) -> None:
    """P14, P25."""
    kagzi = Kagzi("sqlite://")

    def wrapped(error: Exception) -> Exception:
        for _ in range(levels):
            error = ExceptionGroup("several", [error, error])
        return error

    async def fail_in_groups() -> None:
        raise wrapped(UnspeakableText())

    @kagzi.workflow
    async def in_step(ctx: WorkflowContext) -> None:
        await ctx.step("fail", fail_without_text)

    @kagzi.workflow
    async def in_groups(ctx: WorkflowContext) -> None:
        await ctx.step("fail", fail_in_groups)

    @kagzi.workflow
    async def in_body(ctx: WorkflowContext) -> None:
        raise UnspeakableText

    async with Environment(kagzi):
        for workflow in (in_step, in_groups, in_body):
            with pytest.raises(WorkflowFailed, match=r"can't be told|several"):
                await (await workflow.start()).result(timeout=10)


async def test_a_run_that_no_longer_begins_is_set_aside_whatever_its_error_does() -> None:
    """P14, P16."""

    async def one_step(ctx: WorkflowContext) -> None:
        await ctx.step("first", len, "a")

    def refuse(ctx: WorkflowContext) -> Any:
        raise UnspeakableText

    before = World(one_step)
    before.finish()
    world = World(refuse).remember(before.memory.records)

    world.claim()
    world.settle()

    assert world.endings == [Ending.RELEASED]
    assert world.memory.transition is not None
    assert "can't be told" in (world.memory.transition.error or "")
