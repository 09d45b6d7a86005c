"""Doing something with every run that filters find."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kagzi import (
    BulkOutcome,
    Kagzi,
    OutcomeUnknown,
    RunStatus,
    Signal,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowHandle,
)
from kagzi.client import bulk
from kagzi.model.bulk import RunsWanted
from tests.app.applications import until, within
from tests.app.watched_store import WatchedStore

VERBS = ["cancel_runs", "terminate_runs", "pause_runs", "resume_runs", "retry_runs"]
LONG_AGO = datetime(2001, 2, 3, tzinfo=UTC)


async def order(ctx: WorkflowContext, number: int) -> int:
    if number < 0:
        raise ValueError("negative")
    return number


@pytest.fixture(params=[1, 2, 500], ids="pages of {}".format)
def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many runs go into a transaction."""
    monkeypatch.setattr(bulk, "BATCH", request.param)
    return int(request.param)


@pytest.fixture
async def queued(kagzi: Kagzi) -> list[str]:
    """The run_ids of five queued runs of `order`, newest first, beside one of `other` and one of another namespace."""
    orders, others = kagzi.register_workflow("order", order), kagzi.register_workflow("other", order)
    handles: list[WorkflowHandle[Any]] = [await orders.options(tags=["t", f"n{n}"]).start(n) for n in range(5)]
    await others.start(1)
    await orders.options(namespace="elsewhere").start(1)
    return [handle.run_id for handle in reversed(handles)]


async def statuses(kagzi: Kagzi, run_ids: Sequence[str]) -> list[str]:
    return [(await kagzi.handle(run_id).status()).value for run_id in run_ids]


async def the_end_of(kagzi: Kagzi, run_ids: Sequence[str]) -> None:
    for run_id in run_ids:
        async with asyncio.timeout(30):
            while not (await kagzi.handle(run_id).status()).is_terminal:  # noqa: ASYNC110 - others are told by result
                await asyncio.sleep(0.01)


@pytest.mark.usefixtures("page")
async def test_every_run_that_is_found_is_done_and_no_other(kagzi: Kagzi, queued: list[str]) -> None:
    outcome = await kagzi.cancel_runs(workflow="order", reason="sold out")
    again = await kagzi.cancel_runs(workflow="order")

    run = await kagzi.handle(queued[0]).describe()
    assert outcome == BulkOutcome(done=tuple(queued))
    assert again == BulkOutcome()
    assert set(await statuses(kagzi, queued)) == {"CANCELLED"}
    assert run.error is not None
    assert run.error.message == "sold out"
    assert [each.workflow for each in await kagzi.find_runs(status="PENDING")] == ["other"]


@pytest.mark.usefixtures("page")
async def test_a_dry_run_names_what_would_be_done_and_does_nothing(kagzi: Kagzi, queued: list[str]) -> None:
    await kagzi.handle(queued[1]).pause()

    cancelled = await kagzi.cancel_runs(workflow="order", dry_run=True)
    paused = await kagzi.pause_runs(workflow="order", dry_run=True)
    resumed = await kagzi.resume_runs(workflow="order", dry_run=True)

    others = tuple(run_id for run_id in queued if run_id != queued[1])
    assert cancelled == BulkOutcome(done=tuple(queued), dry_run=True)
    assert paused == BulkOutcome(done=others, unchanged=(queued[1],), dry_run=True)
    assert resumed == BulkOutcome(done=(queued[1],), dry_run=True)
    assert set(await statuses(kagzi, queued)) == {"PENDING"}


@pytest.mark.parametrize("verb", ["cancel_runs", "terminate_runs", "pause_runs", "resume_runs"])
async def test_a_dry_run_foresees_what_becomes_of_runs_in_every_state(kagzi: Kagzi, verb: str) -> None:
    go = Signal("go", int)

    @kagzi.workflow
    async def slow(ctx: WorkflowContext) -> None:
        try:
            await ctx.wait_for(go)
        finally:
            await ctx.sleep("cleaning up", timedelta(seconds=30))

    async def wait_for(*what: str) -> bool:
        waits = [each.waiting_for for each in [await handle.describe() for handle in begun]]
        return all(any(word in text for text in texts) for texts, word in zip(waits, what, strict=True))

    async with kagzi.create_worker():
        begun = [await slow.start() for _ in range(3)]
        for _ in range(2):
            await slow.options(delay=60).start()
        await until(lambda: wait_for("go", "go", "go"))
        await begun[0].cancel()
        await until(lambda: wait_for("cancellation", "go", "go"))
        await begun[1].pause()
        await (await slow.options(delay=60).start()).pause()

        foreseen = await getattr(kagzi, verb)(workflow="slow", tags=None, dry_run=True)
        done = await getattr(kagzi, verb)(workflow="slow")

    assert foreseen == dataclasses.replace(done, dry_run=True)
    assert len(done.done) == {"cancel_runs": 5, "terminate_runs": 6, "pause_runs": 3, "resume_runs": 2}[verb]


@pytest.mark.usefixtures("page")
async def test_runs_are_paused_and_resumed(kagzi: Kagzi, queued: list[str]) -> None:
    await kagzi.handle(queued[0]).pause("by hand")

    paused = await kagzi.pause_runs(tags=["t"], reason="the bank is closed")
    found = await kagzi.find_runs(paused=True)
    resumed = await kagzi.resume_runs(all=True)

    assert paused == BulkOutcome(done=tuple(queued[1:]), unchanged=(queued[0],))
    assert [(run.run_id, run.pause_reason) for run in found] == [
        (queued[0], "by hand"),
        *((run_id, "the bank is closed") for run_id in queued[1:]),
    ]
    assert resumed == BulkOutcome(done=tuple(queued))
    assert await kagzi.find_runs(paused=True) == []


@pytest.mark.usefixtures("page")
async def test_failed_runs_are_retried_and_cancelled_ones_only_where_they_are_asked_for(
    kagzi: Kagzi, queued: list[str]
) -> None:
    failing = kagzi.register_workflow("failing", order)
    failed = [(await failing.start(-1)).run_id for _ in range(3)]
    await kagzi.terminate_runs(tags=["n0"])
    async with kagzi.create_worker():
        await within(the_end_of(kagzi, [*failed, *queued]))

    retried = await kagzi.retry_runs(all=True)
    cancelled = await kagzi.retry_runs(status="CANCELLED", workflow="order")

    assert retried == BulkOutcome(done=tuple(reversed(failed)))
    assert cancelled == BulkOutcome(done=(queued[-1],))
    assert set(await statuses(kagzi, [*failed, queued[-1]])) == {"PENDING"}


async def test_each_filter_narrows(kagzi: Kagzi, queued: list[str]) -> None:
    found: dict[str, int] = {}
    filters: dict[str, RunsWanted] = {
        "status": {"status": RunStatus.PENDING},
        "status that none has": {"status": "sleeping"},
        "workflow": {"workflow": "other"},
        "queue": {"queue": "none"},
        "tags": {"tags": ["t", "n3"]},
        "id": {"id": queued[0]},
        "created_after": {"created_after": LONG_AGO},
        "later": {"created_after": datetime.now(UTC) + timedelta(days=1)},
        "paused": {"paused": False},
    }
    for name, which in filters.items():
        found[name] = len((await kagzi.terminate_runs(dry_run=True, **which)).done)

    assert found == {
        "status": 6,
        "status that none has": 0,
        "workflow": 1,
        "queue": 0,
        "tags": 1,
        "id": 0,
        "created_after": 6,
        "later": 0,
        "paused": 6,
    }


def test_the_filters_are_those_of_find_runs() -> None:
    parameters = set(inspect.signature(Kagzi.find_runs).parameters)

    assert set(RunsWanted.__annotations__) == parameters - {"self", "cursor", "limit"}


@pytest.mark.parametrize("verb", VERBS)
async def test_all_runs_are_never_meant_by_oversight(kagzi: Kagzi, verb: str) -> None:
    call: Any = getattr(kagzi, verb)

    nothings: list[dict[str, Any]] = [{}, {"tags": []}, {"workflow": None, "paused": None}, {"dry_run": True}]
    for nothing in nothings:
        with pytest.raises(ValueError, match=f"{verb} got no filter"):
            await call(**nothing)
    with pytest.raises(ValueError, match="all=True and filters"):
        await call(all=True, workflow="order")
    with pytest.raises(TypeError, match="has no filter 'worflow'"):
        await call(worflow="order")
    with pytest.raises(ValueError, match="status is 'DONE'"):
        await call(status="DONE")
    with pytest.raises(ValueError, match="does nothing with runs that are COMPLETED"):
        await call(status="COMPLETED")
    with pytest.raises(TypeError, match="tags must be a list"):
        await call(tags="t")


async def test_what_a_verb_can_do_nothing_with_is_refused(kagzi: Kagzi) -> None:
    with pytest.raises(ValueError, match="FAILED; give one of PENDING, RUNNING, SLEEPING"):
        await kagzi.cancel_runs(status="FAILED")
    with pytest.raises(ValueError, match="PENDING; give one of FAILED, CANCELLED"):
        await kagzi.retry_runs(status="PENDING")
    with pytest.raises(ValueError, match="that are not paused"):
        await kagzi.resume_runs(paused=False)
    with pytest.raises(TypeError, match="reason of a cancellation"):
        await kagzi.cancel_runs(all=True, reason=7)  # type: ignore[arg-type]  # what the call refuses


async def test_a_run_that_ends_between_the_look_and_the_deed_is_refused_with_the_reason(
    kagzi: Kagzi, store: WatchedStore, queued: list[str]
) -> None:
    """P13."""
    held = store.hold("pause")

    pausing = asyncio.ensure_future(kagzi.pause_runs(workflow="order"))
    await until(lambda: store.waiting["pause"] == 1, what="the runs were looked at")
    await kagzi.terminate_runs(tags=["n2"])
    held.set()
    outcome = await pausing

    assert outcome.refused == {queued[2]: "it had ended before (CANCELLED)"}
    assert outcome.done == tuple(run_id for run_id in queued if run_id != queued[2])


async def test_a_run_that_continues_as_new_between_the_look_and_the_deed_is_met_in_its_successor(
    kagzi: Kagzi, store: WatchedStore
) -> None:
    """P14: it goes on under another run_id, which no page would come to."""

    @kagzi.workflow
    async def looping(ctx: WorkflowContext, turn: int) -> None:
        if turn < 3:
            ctx.continue_as_new(turn + 1)
        await ctx.sleep("long", timedelta(days=1))

    handle = await looping.start(0)
    held = store.hold("cancel")

    cancelling = asyncio.ensure_future(kagzi.cancel_runs(workflow="looping"))
    await until(lambda: store.waiting["cancel"] == 1, what="the run was looked at")
    async with kagzi.create_worker():
        async with asyncio.timeout(30):
            while not await kagzi.find_runs(status="SLEEPING"):  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)
        held.set()
        outcome = await cancelling
        with pytest.raises(WorkflowCancelled):
            await handle.result(timeout=30)

    assert outcome == BulkOutcome(done=(handle.run_id,))


async def test_what_a_lost_answer_had_done_is_done(kagzi: Kagzi, store: WatchedStore, queued: list[str]) -> None:
    """P4."""
    store.mute.add("cancel")

    cancelling = asyncio.ensure_future(kagzi.cancel_runs(workflow="order"))
    await until(lambda: store.trips["cancel"] > 1, what="the first answer was lost")
    store.mute.clear()

    assert await cancelling == BulkOutcome(done=tuple(queued))


async def test_what_was_broken_off_goes_on_where_it_is_called_again(
    kagzi: Kagzi, store: WatchedStore, queued: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 2)
    link = kagzi._open_link()
    link.settings = dataclasses.replace(link.settings, store_timeout=timedelta(seconds=0.2))
    store.mute.add("cancel")

    with pytest.raises(OutcomeUnknown, match="broke off after 0 runs, and of the next 2 it is unknown"):
        await kagzi.cancel_runs(workflow="order")
    store.mute.clear()
    rest = await kagzi.cancel_runs(workflow="order")

    assert rest == BulkOutcome(done=tuple(queued[2:]))
    assert set(await statuses(kagzi, queued)) == {"CANCELLED"}
