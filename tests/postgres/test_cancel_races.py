"""Cancelling against what an execution writes: a lock on the run makes each order certain, and one outcome is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from kagzi.model.cancelling import CancelOrder, CancelOutcome
from kagzi.model.change import Applied, Change, Transition
from kagzi.model.claim import Claim
from kagzi.model.run import RunId, RunStatus, StoredRun
from kagzi.store.postgres.store import PostgresStore
from tests.postgres.builders import NAMESPACE, a_checkpoint, a_request, a_run, a_worker

_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""

Verb = Callable[[], Awaitable[Any]]


async def in_this_order(postgres_url: str, run_id: RunId, *verbs: Verb) -> list[Any]:
    """Call the verbs while the run's row is locked, each once the one before waits for it, and let them go on."""
    holder, watcher = await asyncpg.connect(postgres_url), await asyncpg.connect(postgres_url)
    tasks = []
    async with holder.transaction():
        await holder.execute("SELECT FROM kagzi.workflow_runs WHERE run_id = $1 FOR UPDATE", run_id)
        for number, verb in enumerate(verbs, start=1):
            tasks.append(asyncio.ensure_future(verb()))
            async with asyncio.timeout(10):
                while await watcher.fetchval(_WAITING) < number:  # noqa: ASYNC110 - nobody tells who waits
                    await asyncio.sleep(0.005)
    answers = await asyncio.gather(*tasks)
    await holder.close()
    await watcher.close()
    return answers


async def a_running(store: PostgresStore) -> Claim:
    worker = await a_worker(store)
    await store.start([a_run()])
    (claim,) = (await store.claim(a_request(worker))).claims
    return claim


async def stored(store: PostgresStore, claim: Claim) -> StoredRun:
    run = await store.get(claim.run_id)
    assert run is not None
    return run


def ordering(store: PostgresStore, claim: Claim, *, at_once: bool = False) -> Verb:
    order = CancelOrder(namespace=NAMESPACE, run_id=claim.run_id, error="cancelled", at_once=at_once)
    return lambda: store.cancel([order])


def writing(store: PostgresStore, claim: Claim, transition: Transition | None) -> Verb:
    if transition is None:
        change = a_checkpoint(claim.run_id, fence=claim.fence)
    else:
        change = Change(run_id=claim.run_id, fence=claim.fence, transition=transition)
    return lambda: store.commit([change])


COMPLETED = Transition(status=RunStatus.COMPLETED, output="1")
PARKED = Transition(status=RunStatus.SLEEPING, waits="[]", inbox=0)


@pytest.mark.parametrize("first", ["the order", "the completion"])
async def test_an_order_and_a_completion_leave_one_outcome(store: PostgresStore, postgres_url: str, first: str) -> None:
    """P13, P20."""
    claim = await a_running(store)
    order, complete = ordering(store, claim), writing(store, claim, COMPLETED)

    if first == "the order":
        (asked,), committed = await in_this_order(postgres_url, claim.run_id, order, complete)
        assert asked.outcome is CancelOutcome.ASKED
    else:
        committed, (closed,) = await in_this_order(postgres_url, claim.run_id, complete, order)
        assert closed.outcome is CancelOutcome.CLOSED

    run = await stored(store, claim)
    assert committed.outcomes == (Applied.APPLIED,)
    assert (run.status, run.output, run.error) == (RunStatus.COMPLETED, "1", None)


@pytest.mark.parametrize("first", ["the end", "the completion"])
async def test_ending_at_once_and_a_completion_leave_one_outcome(
    store: PostgresStore, postgres_url: str, first: str
) -> None:
    """P6, P13, P20."""
    claim = await a_running(store)
    end, complete = ordering(store, claim, at_once=True), writing(store, claim, COMPLETED)

    if first == "the end":
        (ended,), committed = await in_this_order(postgres_url, claim.run_id, end, complete)
        expected: tuple[Any, ...] = (CancelOutcome.ENDED, Applied.LOST, RunStatus.CANCELLED, None, "cancelled")
    else:
        committed, (ended,) = await in_this_order(postgres_url, claim.run_id, complete, end)
        expected = (CancelOutcome.CLOSED, Applied.APPLIED, RunStatus.COMPLETED, "1", None)

    run = await stored(store, claim)
    assert (ended.outcome, committed.outcomes[0], run.status, run.output, run.error) == expected


@pytest.mark.parametrize("first", ["the order", "the checkpoint"])
async def test_an_order_and_a_checkpoint_are_both_kept(store: PostgresStore, postgres_url: str, first: str) -> None:
    """P10, P14."""
    claim = await a_running(store)
    verbs = [ordering(store, claim), writing(store, claim, None)]

    await in_this_order(postgres_url, claim.run_id, *(verbs if first == "the order" else reversed(verbs)))

    assert [step.seq for step in await store.steps(claim.run_id)] == [1]
    assert [message.payload for message in await store.undelivered(claim.run_id)] == ["cancelled"]


@pytest.mark.parametrize("first", ["the order", "the park"])
async def test_an_order_wakes_a_run_that_parks_without_having_seen_it(
    store: PostgresStore, postgres_url: str, first: str
) -> None:
    """P14: no wake-up is lost, whichever comes first."""
    claim = await a_running(store)
    verbs = [ordering(store, claim), writing(store, claim, PARKED)]

    await in_this_order(postgres_url, claim.run_id, *(verbs if first == "the order" else reversed(verbs)))

    (again,) = (await store.claim(a_request(await a_worker(store)))).claims
    assert [message.payload for message in again.mail] == ["cancelled"]


async def test_many_orders_that_wait_for_the_same_run_leave_one_message(
    store: PostgresStore, postgres_url: str
) -> None:
    claim = await a_running(store)

    answers = await in_this_order(postgres_url, claim.run_id, *[ordering(store, claim)] * 3)

    assert [answer.outcome.name for (answer,) in answers] == ["ASKED", "ALREADY", "ALREADY"]
    assert len(await store.undelivered(claim.run_id)) == 1


async def test_an_order_and_a_claim_leave_a_run_cancelled_or_told(store: PostgresStore) -> None:
    """P5, P20: claims pass over locked rows, so here they meet by chance, a thousand times."""
    worker = await a_worker(store)
    seen = set()
    for _ in range(20):
        runs = [a_run() for _ in range(50)]
        await store.start(runs)
        orders = [CancelOrder(namespace=NAMESPACE, run_id=run.run_id, error="cancelled") for run in runs]

        claiming = asyncio.ensure_future(store.claim(a_request(worker, slots=25)))
        answers = await asyncio.gather(*(store.cancel([order]) for order in orders))
        claimed = await claiming

        taken = {claim.run_id: claim for claim in claimed.claims}
        for order, (answer,) in zip(orders, answers, strict=True):
            run = await store.get(order.run_id)
            assert run is not None
            seen.add(answer.outcome)
            if answer.outcome is CancelOutcome.ENDED:
                assert order.run_id not in taken
                assert run.status is RunStatus.CANCELLED
            else:
                assert order.run_id in taken
                assert (run.status, run.inbox) == (RunStatus.RUNNING, 1)
        await store.cancel(
            [CancelOrder(namespace=NAMESPACE, run_id=run_id, error="", at_once=True) for run_id in taken]
        )

    assert CancelOutcome.ENDED in seen
