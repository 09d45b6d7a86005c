"""Errors that can't be told, bodies that can't be begun, tasks nested too deep: no run hangs because of them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from kagzi import Kagzi, WorkflowContext, WorkflowFailed
from kagzi.testing import Environment


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
