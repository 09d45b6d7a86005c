"""Runs that begin with the history of another: `Store.fork`, and what the next claim then finds."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from kagzi.model.cancelling import Expiry
from kagzi.model.change import Change, Published, Transition
from kagzi.model.claim import Claim
from kagzi.model.forking import Cut, Forked, ForkOrder, ForkOutcome, Replaced
from kagzi.model.message import NewMessage
from kagzi.model.run import FirstMessage, MessageKind, RunId, RunStatus, StoredRun, WorkerKey
from kagzi.model.step import FailedAttempt, StepKind, StepRecord, StepStatus
from kagzi.store.protocol import Store
from tests.contract.builders import (
    HOSTILE_TEXTS,
    LONG_AGO,
    NAMESPACE,
    a_change,
    a_record,
    a_request,
    a_run,
    a_run_id,
    asleep,
    claim_one,
    commit,
    completed,
    start,
    start_and_claim,
)

EXPIRY = Expiry(run_error="late", start_error="late to start")
FORKED, TAKEN, CHANGED = ForkOutcome.FORKED, ForkOutcome.TAKEN, ForkOutcome.CHANGED


def an_order(source: RunId, **fields: Any) -> ForkOrder:
    defaults: dict[str, Any] = {
        "namespace": NAMESPACE,
        "source": source,
        "attempt": 1,
        "cut": Cut(),
        "run_id": a_run_id(),
        "version": 1,
    }
    return ForkOrder(**(defaults | fields))


async def stored(store: Store, run_id: RunId) -> StoredRun:
    run = await store.get(run_id)
    assert run is not None
    return run


async def with_records(store: Store, worker: WorkerKey, *records: StepRecord, **fields: Any) -> Claim:
    claim = await start_and_claim(store, worker, **fields)
    await commit(store, a_change(claim, *records))
    return claim


async def claim_fork(store: Store, worker: WorkerKey, order: ForkOrder) -> Claim:
    forked = await store.fork(order)
    assert forked == Forked(outcome=FORKED, run_id=order.run_id)
    (claim,) = (claim for claim in (await store.claim(a_request(worker))).claims if claim.run_id == order.run_id)
    return claim


async def test_a_fork_has_the_records_before_the_cut_as_they_are(store: Store, worker: WorkerKey) -> None:
    records = [
        a_record(1, started_at=LONG_AGO, attempts=3),
        a_record(2, kind=StepKind.TIMER, output=None),
        a_record(3, kind=StepKind.CHILD, child_run_id=a_run_id(), output='"of a child"'),
        a_record(4, status=StepStatus.FAILED, output=None, error='{"why":1}'),
        a_record(5),
    ]
    claim = await with_records(store, worker, *records)

    fork = await claim_fork(store, worker, an_order(claim.run_id, cut=Cut(before_seq=5)))

    (source,) = await store.recall([claim.run_id])
    assert fork.history == source.history[:4]
    assert (fork.run_id, fork.fence, fork.attempts, fork.seed) == (fork.run_id, 2, 1, claim.run_id)
    assert (fork.input, fork.started_at, fork.parked) == (source.input, source.started_at, None)
    assert (await stored(store, fork.run_id)).forked_from == claim.run_id
    assert len(source.history) == 5


async def test_a_fork_is_like_its_source_but_for_what_is_given(store: Store, worker: WorkerKey) -> None:
    fields = {"id": "order-7", "priority": 3, "tags": ("a", "b"), "attributes": '{"x":1}'}
    claim = await with_records(store, worker, a_record(1), **fields)
    given = an_order(claim.run_id, id="fork-7", version=2, input='{"args":[2]}', parked='{"seq":0}')

    await store.fork(given)
    await store.fork(plain := an_order(claim.run_id))

    fork, other, source = [await stored(store, run_id) for run_id in (given.run_id, plain.run_id, claim.run_id)]
    assert (fork.id, fork.version, fork.input) == ("fork-7", 2, '{"args":[2]}')
    assert (other.id, other.version, other.input) == (None, 1, source.input)
    for each in (fork, other):
        assert (each.status, each.queue, each.workflow) == (RunStatus.PENDING, source.queue, source.workflow)
        assert (each.priority, each.tags, each.attributes) == (3, ("a", "b"), '{"x":1}')
        assert (each.parent_run_id, each.worker_key, each.finished_at) == (None, None, None)
        assert each.created_at > source.created_at
    (recalled,) = await store.recall([given.run_id])
    assert recalled.parked == '{"seq":0}'


async def test_a_fork_without_records_has_never_been_begun(store: Store, worker: WorkerKey) -> None:
    claim = await with_records(store, worker, a_record(1))

    fork = await claim_fork(store, worker, an_order(claim.run_id, cut=Cut(before_seq=1)))

    assert (fork.history, fork.fence) == ((), 1)


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS.keys())
async def test_results_are_replaced_whatever_they_hold(store: Store, worker: WorkerKey, text: str) -> None:
    failed = a_record(2, status=StepStatus.FAILED, output=None, error='{"why":1}')
    claim = await with_records(store, worker, a_record(1), failed, a_record(3))
    replaced = tuple(Replaced(step_id=f"0/step-{seq}#0", output=text) for seq in (1, 2))

    fork = await claim_fork(store, worker, an_order(claim.run_id, replaced=replaced))

    first, second, third = fork.history
    assert [each.output for each in fork.history] == [text, text, '"result 3"']
    assert (first.status, second.status, second.error) == (StepStatus.COMPLETED, StepStatus.COMPLETED, None)
    assert third.status is StepStatus.COMPLETED


async def test_a_fork_of_a_later_attempt_is_in_that_attempt(store: Store, worker: WorkerKey) -> None:
    """What the earlier attempts made goes along as far as the cut says."""
    claim = await with_records(store, worker, a_record(1), a_record(2))
    again = Transition(status=RunStatus.PENDING, error="failed", reopened_seq=3)
    await commit(store, a_change(claim, transition=again))
    second = await claim_one(store, worker)
    await commit(
        store,
        Change(run_id=second.run_id, fence=second.fence, records=(a_record(4), a_record(5)), replaces=True),
    )

    cut = Cut(after_seq=3, earlier_before=2)
    fork = await claim_fork(store, worker, an_order(claim.run_id, attempt=2, cut=cut))

    assert (fork.attempts, fork.reopened_seq, fork.started_at) == (2, 3, second.started_at)
    assert ([each.seq for each in fork.history], list(fork.earlier)) == ([4, 5], ["0/step-1#0"])


async def test_open_operations_stay_with_the_source(store: Store, worker: WorkerKey) -> None:
    claim = await with_records(store, worker, a_record(1))
    waits = FailedAttempt(
        step_id="0/b#1", attempt=1, kind="", message="", error="{}", started_at=LONG_AGO, wake_at=LONG_AGO
    )
    await commit(store, Change(run_id=claim.run_id, fence=claim.fence, failed=(waits,)))

    fork = await claim_fork(store, worker, an_order(claim.run_id))

    assert (len(fork.history), fork.tries) == (1, {})


async def test_what_a_fork_hears_comes_after_all_that_its_source_was_sent(store: Store, worker: WorkerKey) -> None:
    """The positions of messages are in the records; new ones must have others (P19)."""
    claim = await start_and_claim(store, worker)
    signal = NewMessage(namespace=NAMESPACE, kind=MessageKind.SIGNAL, name="paid", run_id=claim.run_id, payload="1")
    await store.post([signal, signal])
    received = a_record(1, kind=StepKind.SIGNAL, message=1)
    await commit(store, Change(run_id=claim.run_id, fence=claim.fence, records=(received,), received=(1,)))
    heard = FirstMessage(kind=MessageKind.CHILD, name="a-child", payload='{"status":"COMPLETED"}')
    order = an_order(claim.run_id, messages=(heard,), published=(Published(key="at", value="7"),))

    fork = await claim_fork(store, worker, order)
    (posted,) = await store.post(
        [NewMessage(namespace=NAMESPACE, kind=MessageKind.SIGNAL, name="x", run_id=fork.run_id)]
    )

    assert [(each.position, each.kind, each.name) for each in fork.mail] == [(3, MessageKind.CHILD, "a-child")]
    assert (fork.inbox, fork.history[0].message, posted.position) == (3, 1, 4)
    assert await store.value(fork.run_id, "at") == "7"
    assert [each.position for each in await store.undelivered(claim.run_id)] == [2]


async def test_the_timeout_of_a_fork_counts_anew(store: Store, worker: WorkerKey) -> None:
    claim = await with_records(store, worker, a_record(1), timeout_s=3600.0)
    await commit(store, a_change(claim, transition=completed()))

    await claim_fork(store, worker, order := an_order(claim.run_id))

    expiry = await store.expire(NAMESPACE, EXPIRY)
    fork = await stored(store, order.run_id)
    assert expiry.next_due is not None
    assert timedelta(minutes=59) < expiry.next_due - fork.created_at <= timedelta(hours=1)


@pytest.mark.parametrize("transition", [completed(), asleep(), Transition(status=RunStatus.FAILED, error="{}"), None])
async def test_a_source_is_left_as_it_is(store: Store, worker: WorkerKey, transition: Transition | None) -> None:
    claim = await with_records(store, worker, a_record(1))
    if transition is not None:
        await commit(store, a_change(claim, transition=transition))
    before = await stored(store, claim.run_id)

    await store.fork(an_order(claim.run_id))

    assert await stored(store, claim.run_id) == before
    assert len(await store.steps(claim.run_id)) == 1


async def test_the_same_order_makes_one_fork(store: Store, worker: WorkerKey) -> None:
    """P4: its answer may be lost."""
    claim = await with_records(store, worker, a_record(1))
    order = an_order(claim.run_id, id="fork")

    answers = await asyncio.gather(*(store.fork(order) for _ in range(10)))
    again = Transition(status=RunStatus.PENDING, reopened_seq=2)
    await commit(store, a_change(claim, transition=again))

    assert {*answers, await store.fork(order)} == {Forked(outcome=FORKED, run_id=order.run_id)}


async def test_an_id_that_another_run_has_is_refused(store: Store, worker: WorkerKey) -> None:
    claim = await with_records(store, worker, a_record(1))
    (other,) = await start(store, a_run(id="taken"))
    orders = [an_order(claim.run_id, id="shared") for _ in range(5)]

    answer = await store.fork(an_order(claim.run_id, id="taken"))
    many = await asyncio.gather(*map(store.fork, orders))

    assert answer == Forked(outcome=TAKEN, run_id=other)
    assert sorted(each.outcome.name for each in many) == ["FORKED", *["TAKEN"] * 4]
    assert len({each.run_id for each in many}) == 1


async def test_a_source_in_another_attempt_or_nowhere_is_not_forked(store: Store, worker: WorkerKey) -> None:
    claim = await with_records(store, worker, a_record(1))
    orders = [
        an_order(claim.run_id, attempt=2),
        an_order(claim.run_id, namespace="other"),
        an_order(a_run_id()),
        an_order(RunId("no id")),
    ]

    answers = [await store.fork(order) for order in orders]

    assert answers == [Forked(outcome=CHANGED)] * 4
    assert await store.existing([order.run_id for order in orders]) == set()
