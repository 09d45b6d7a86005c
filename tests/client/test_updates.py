"""Updates and published values: answers that outlive whoever waits for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from kagzi import (
    Kagzi,
    PayloadError,
    RunClosed,
    RunNotFound,
    SyncWorkflowContext,
    Update,
    WorkflowContext,
)
from tests.app.watched_store import WatchedStore


@dataclass
class Decision:
    by: str
    agreed: bool


@dataclass
class Receipt:
    number: int


APPROVE = Update("approve", Decision, Receipt)


async def test_an_update_is_answered_and_a_value_is_seen(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def approval(ctx: WorkflowContext) -> str:
        await ctx.publish("state", "waiting")
        request = await ctx.wait_for(APPROVE)
        await ctx.publish("decision", request.value, type=Decision)
        await request.reply(Receipt(7))
        await ctx.sleep("rest", 3600)
        return "done"

    async with kagzi.create_worker():
        handle = await approval.start()
        receipt = await handle.update(APPROVE, Decision("Ada", True), timeout=30)

    assert receipt == Receipt(7)
    assert await handle.value("state") == "waiting"  # nobody executes the run
    assert await handle.value("decision", type=Decision) == Decision("Ada", True)
    assert await handle.value("nothing") is None
    with pytest.raises(PayloadError, match="decision"):
        await handle.value("decision", type=int)


async def test_a_def_workflow_answers_and_publishes(kagzi: Kagzi) -> None:
    @kagzi.workflow
    def approval(ctx: SyncWorkflowContext) -> str:
        request = ctx.wait_for(APPROVE)
        ctx.publish("by", request.value.by)
        request.reply(Receipt(8))
        return request.value.by

    async with kagzi.create_worker():
        handle = await approval.start()
        assert await handle.update(APPROVE, Decision("Ada", True), timeout=30) == Receipt(8)
        assert await handle.result(timeout=30) == "Ada"
    assert await handle.value("by") == "Ada"


async def test_a_run_that_ends_without_a_reply_closes_the_update(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def deaf(ctx: WorkflowContext) -> None:
        await ctx.wait_for(APPROVE)

    handle = await deaf.start()
    waiting = asyncio.create_task(handle.update(APPROVE, Decision("Ada", True)))
    async with kagzi.create_worker():
        with pytest.raises(RunClosed, match=r"ended \(COMPLETED\) without a reply") as unanswered:
            await waiting
        with pytest.raises(RunClosed, match=r"ended \(COMPLETED\) and takes no more") as closed:
            await handle.update(APPROVE, Decision("Ada", True))
    assert (unanswered.value.is_unanswered, closed.value.is_unanswered) == (True, False)
    with pytest.raises(RunNotFound):
        await kagzi.handle("01997e00-0000-7000-8000-00000000c0de").update(APPROVE, Decision("Ada", True))
    with pytest.raises(RunNotFound):
        await kagzi.handle("01997e00-0000-7000-8000-00000000c0de").value("state")


async def test_a_reply_that_came_too_late_is_there_for_who_asks_again(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def slow(ctx: WorkflowContext) -> None:
        request = await ctx.wait_for(APPROVE)
        await request.reply(Receipt(9))

    handle = await slow.start()
    with pytest.raises(TimeoutError, match="dedup_key"):
        await handle.update(APPROVE, Decision("Ada", True), timeout=0.2, dedup_key="click-1")
    async with kagzi.create_worker():
        await handle.result(timeout=30)

    assert await handle.update(APPROVE, Decision("Ada", True), timeout=30, dedup_key="click-1") == Receipt(9)


async def test_a_reply_is_found_where_every_hint_is_lost(kagzi: Kagzi, store: WatchedStore) -> None:
    """P14: polling alone finds it, and a database that is away for a while is waited for."""

    @kagzi.workflow
    async def approval(ctx: WorkflowContext) -> None:
        await (await ctx.wait_for(APPROVE)).reply(Receipt(10))

    kagzi._open_link().replies.hinted = lambda hint: None  # type: ignore[method-assign] # hints that get lost
    handle = await approval.start()
    with store.unreachable("answers"):
        waiting = asyncio.create_task(handle.update(APPROVE, Decision("Ada", True), timeout=30))
        async with asyncio.timeout(30):
            while not store.trips["answers"]:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
    async with kagzi.create_worker():
        assert await waiting == Receipt(10)
