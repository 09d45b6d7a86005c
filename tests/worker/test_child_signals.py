"""Signals from a parent to its child."""

from __future__ import annotations

import pytest

from kagzi import Kagzi, RunClosed, Signal, SyncWorkflowContext, WorkflowContext, WorkflowFailed

GO = Signal("go", int)


@pytest.fixture
def kagzi(any_database_url: str) -> Kagzi:
    return Kagzi(any_database_url)


async def test_a_parent_signals_its_child(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def child(ctx: WorkflowContext) -> int:
        return await ctx.wait_for(GO) + await ctx.wait_for(GO)

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> int:
        handle = await ctx.start_child("child", child)
        await handle.signal(GO, 3)
        await handle.signal(GO, 4)
        return await handle.result()

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        assert await handle.result(timeout=30) == 7
        names = [step.name for step in await handle.history()]

    assert names == ["child", "signal go", "signal go", "child"]


async def test_a_def_workflow_signals_its_child(kagzi: Kagzi) -> None:
    @kagzi.workflow
    def child(ctx: SyncWorkflowContext) -> int:
        return ctx.wait_for(GO)

    @kagzi.workflow
    def parent(ctx: SyncWorkflowContext) -> int:
        handle = ctx.start_child("child", child)
        handle.signal(GO, 3)
        return handle.result()

    async with kagzi, kagzi.create_worker():
        assert await (await parent.start()).result(timeout=30) == 3


async def test_a_child_that_has_ended_takes_no_signal(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def child(ctx: WorkflowContext) -> None:
        return None

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> str:
        handle = await ctx.start_child("child", child)
        await handle.result()
        try:
            await handle.signal(GO, 3)
        except RunClosed as closed:
            await ctx.sleep("nap", 0.01)
            return closed.status
        return "sent"

    async with kagzi, kagzi.create_worker():
        assert await (await parent.start()).result(timeout=30) == "COMPLETED"


@pytest.mark.parametrize(("sent", "value", "told"), [(GO, "three", "PayloadError"), ("go", 3, "TypeError")])
async def test_what_can_not_be_sent_is_refused_at_the_call(
    kagzi: Kagzi, sent: object, value: object, told: str
) -> None:
    @kagzi.workflow
    async def child(ctx: WorkflowContext) -> None:
        return None

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> None:
        handle = await ctx.start_child("child", child)
        await handle.signal(sent, value)  # type: ignore[arg-type] # the point of the test

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        with pytest.raises(WorkflowFailed) as failed:
            await handle.result(timeout=30)
        names = [step.name for step in await handle.history()]

    assert failed.value.error.type == told
    assert names == ["child"]
