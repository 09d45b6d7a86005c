"""Runs that ended and go on by hand: `Store.reopen`, and what the next claim then finds."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from kagzi.model.cancelling import CancelOrder, CancelOutcome, Expiry
from kagzi.model.change import Applied, Change, Transition
from kagzi.model.child import ChildStart, ParentClose
from kagzi.model.claim import Claim
from kagzi.model.message import NewMessage
from kagzi.model.reopening import ReopenAnswer, ReopenOrder, ReopenOutcome
from kagzi.model.run import MessageKind, RunId, RunStatus, StoredRun, WorkerKey
from kagzi.model.step import FailedAttempt, StepStatus, Tries
from kagzi.store.protocol import Store
from tests.contract.builders import (
    FAR_AHEAD,
    LONG_AGO,
    NAMESPACE,
    a_change,
    a_policy,
    a_record,
    a_run,
    a_run_id,
    a_worker,
    asleep,
    claim_one,
    commit,
    completed,
    given_back,
    kill,
    start,
    start_and_claim,
)

REOPENED, ALREADY = ReopenOutcome.REOPENED, ReopenOutcome.ALREADY
FAILED = Transition(status=RunStatus.FAILED, error='{"why":"it failed"}')


def an_order(run_id: RunId, **fields: Any) -> ReopenOrder:
    defaults: dict[str, Any] = {"namespace": NAMESPACE, "run_id": run_id, "attempt": 1}
    return ReopenOrder(**(defaults | fields))


async def reopen(store: Store, run_id: RunId, **fields: Any) -> ReopenAnswer:
    (answer,) = await store.reopen([an_order(run_id, **fields)])
    return answer


async def stored(store: Store, run_id: RunId) -> StoredRun:
    run = await store.get(run_id)
    assert run is not None
    return run


async def start_and_fail(store: Store, worker: WorkerKey, **fields: Any) -> Claim:
    """A run with a finished step, one that failed and one that waits for its next execution."""
    claim = await start_and_claim(store, worker, **fields)
    last = FailedAttempt(
        step_id="0/b#1", attempt=3, kind="TIMEOUT", message="", error='{"b":3}', started_at=LONG_AGO, wake_at=None
    )
    waits = FailedAttempt(
        step_id="0/c#1", attempt=2, kind="TIMEOUT", message="", error='{"c":2}', started_at=LONG_AGO, wake_at=FAR_AHEAD
    )
    failed = a_record(2, step_id="0/b#1", status=StepStatus.FAILED, output=None, error='{"b":3}', attempts=3)
    await commit(store, a_change(claim, a_record(1, step_id="0/a#1")))
    await commit(store, Change(run_id=claim.run_id, fence=claim.fence, records=(failed,), failed=(last, waits)))
    await commit(store, a_change(claim, transition=FAILED))
    return claim


async def test_a_failed_run_goes_on_with_what_it_has(store: Store, worker: WorkerKey) -> None:
    """What was completed is handed out; what failed, or waited, is executed anew and has not used any try."""
    claim = await start_and_fail(store, worker)

    answer = await reopen(store, claim.run_id)

    run = await stored(store, claim.run_id)
    again = await claim_one(store, worker)
    assert (answer.outcome, answer.status) == (REOPENED, RunStatus.FAILED)
    assert (run.status, run.attempts, run.output, run.error) == (RunStatus.PENDING, 2, None, None)
    assert (run.finished_at, run.waits, run.worker_key) == (None, None, None)
    assert (again.run_id, again.attempts, again.history, again.reopened_seq) == (claim.run_id, 2, (), 3)
    assert list(again.earlier) == ["0/a#1"]
    assert again.tries == {"0/b#1": Tries(used=3, earlier=3), "0/c#1": Tries(used=2, earlier=2)}
    assert again.started_at > claim.started_at
    assert [attempt.attempt for attempt in await store.attempts(claim.run_id)] == [3, 2]


async def test_a_new_attempt_begins_behind_all_earlier_ones(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_fail(store, worker)
    await reopen(store, claim.run_id)
    second = await claim_one(store, worker)
    await commit(store, a_change(second, transition=FAILED))

    answer = await reopen(store, claim.run_id, attempt=2)

    third = await claim_one(store, worker)
    assert answer.outcome is REOPENED
    assert (third.attempts, third.reopened_seq, list(third.earlier)) == (3, 4, ["0/a#1"])


async def test_a_run_that_was_cancelled_before_it_began_goes_on(store: Store, worker: WorkerKey) -> None:
    (run_id,) = await start(store, a_run(delay_s=60.0))
    await store.cancel([CancelOrder(namespace=NAMESPACE, run_id=run_id, error="why")])

    answer = await reopen(store, run_id)

    again = await claim_one(store, worker)
    assert (answer.outcome, answer.status) == (REOPENED, RunStatus.CANCELLED)
    assert (again.run_id, again.attempts, again.mail) == (run_id, 2, ())


async def test_an_order_to_end_that_nobody_heard_is_not_for_the_new_attempt(store: Store, worker: WorkerKey) -> None:
    """It can be cancelled anew; signals that were not received still are there (P19)."""
    claim = await start_and_claim(store, worker)
    order = CancelOrder(namespace=NAMESPACE, run_id=claim.run_id, error="why")
    signal = NewMessage(namespace=NAMESPACE, kind=MessageKind.SIGNAL, name="paid", run_id=claim.run_id, payload="1")
    await store.cancel([order])
    await store.post([signal])
    await commit(store, a_change(claim, transition=FAILED))

    await reopen(store, claim.run_id)

    again = await claim_one(store, worker)
    (cancelled,) = await store.cancel([order])
    assert [message.kind for message in again.mail] == [MessageKind.SIGNAL]
    assert cancelled.outcome is CancelOutcome.ASKED


async def test_the_timeout_counts_anew_and_the_wait_for_a_worker_has_none(store: Store, worker: WorkerKey) -> None:
    expiry = Expiry(run_error="late", start_error="late to start")
    (run_id,) = await start(store, a_run(timeout_s=3600.0, start_timeout_s=0.0))
    await store.expire(NAMESPACE, expiry)

    await reopen(store, run_id)

    later = await store.expire(NAMESPACE, expiry)
    again = await claim_one(store, worker)
    assert (later.failed, later.asked, again.run_id) == ((), (), run_id)
    assert later.next_due is not None
    assert timedelta(minutes=59) < later.next_due - again.started_at <= timedelta(hours=1)


async def test_a_poisoned_run_counts_its_crashes_anew(store: Store) -> None:
    """P22."""
    claim = await start_and_claim(store, first := await a_worker(store))
    await kill(store, first, a_policy(poison_after=1))
    assert (await stored(store, claim.run_id)).status is RunStatus.FAILED

    answer = await reopen(store, claim.run_id)
    again = await claim_one(store, second := await a_worker(store))
    recovery = await kill(store, second, a_policy(poison_after=2))

    assert (answer.outcome, again.crashes) == (REOPENED, 0)
    assert (recovery.released, recovery.poisoned) == ((claim.run_id,), ())


async def test_the_last_owner_can_write_no_more(store: Store, worker: WorkerKey) -> None:
    """P6: a run that was ended under its worker, and goes on."""
    claim = await start_and_claim(store, worker)
    await store.cancel([CancelOrder(namespace=NAMESPACE, run_id=claim.run_id, error="why", at_once=True)])
    await reopen(store, claim.run_id)

    (late,) = (await commit(store, a_change(claim, a_record(1)))).outcomes
    again = await claim_one(store, worker)
    (later,) = (await commit(store, a_change(claim, transition=completed()))).outcomes

    assert (late, later) == (Applied.LOST, Applied.LOST)
    assert again.fence == claim.fence + 3


async def test_an_order_counts_once(store: Store, worker: WorkerKey) -> None:
    """P4: its answer may be lost, and others may give the same."""
    claim = await start_and_fail(store, worker)

    answers = await asyncio.gather(*(reopen(store, claim.run_id) for _ in range(10)))
    again = await claim_one(store, worker)
    await commit(store, a_change(again, transition=FAILED))
    late = await reopen(store, claim.run_id)

    assert sorted(answer.outcome.name for answer in answers) == ["ALREADY"] * 9 + ["REOPENED"]
    assert late.outcome is ALREADY
    assert (await stored(store, claim.run_id)).attempts == 2


async def test_many_are_answered_in_order(store: Store, worker: WorkerKey) -> None:
    failed = await start_and_fail(store, worker)
    done = await start_and_claim(store, worker)
    await commit(store, a_change(done, transition=completed()))
    running = await start_and_claim(store, worker)
    asleep_ = await start_and_claim(store, worker)
    await commit(store, a_change(asleep_, transition=asleep()))
    (pending,) = await start(store)
    elsewhere = an_order(failed.run_id, namespace="other")
    orders = [
        *map(an_order, (done.run_id, running.run_id, asleep_.run_id, pending, a_run_id(), RunId("no id"))),
        elsewhere,
        an_order(failed.run_id),
    ]

    answers = await store.reopen(orders)

    assert [answer.outcome.name for answer in answers] == [
        "COMPLETED",
        *["OPEN"] * 3,
        *["NOT_FOUND"] * 3,
        "REOPENED",
    ]
    assert (await stored(store, done.run_id)).output == '"done"'
    assert await store.reopen([]) == []


async def test_one_run_twice_in_one_call_goes_on_once(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_fail(store, worker)

    answers = await store.reopen([an_order(claim.run_id), an_order(claim.run_id)])

    assert REOPENED in [answer.outcome for answer in answers]
    assert (await stored(store, claim.run_id)).attempts == 2


@pytest.mark.parametrize("last", [FAILED, completed()])
async def test_a_run_that_ends_meanwhile_goes_on_whole(store: Store, worker: WorkerKey, last: Transition) -> None:
    """Who ends a run and who has it go on may meet; what the last attempt recorded belongs to it in any case."""
    for _ in range(20):
        claim = await start_and_claim(store, worker)

        _, answer = await asyncio.gather(
            commit(store, a_change(claim, a_record(1), transition=last)), reopen(store, claim.run_id)
        )

        if answer.outcome is REOPENED:
            again = await claim_one(store, worker)
            assert (again.history, list(again.earlier)) == ((), ["0/step-1#0"])
            await commit(store, a_change(again, transition=completed()))


# -- families ----------------------------------------------------------------------------------------------------


async def a_family(store: Store, worker: WorkerKey, **fields: Any) -> tuple[Claim, Claim]:
    """A parent and its child, both claimed."""
    parent = await start_and_claim(store, worker)
    run = a_run(parent_run_id=parent.run_id)
    started = ChildStart(step_id="0/child#1", run=run, **fields)
    await commit(store, Change(run_id=parent.run_id, fence=parent.fence, starts=(started,)))
    return parent, await claim_one(store, worker)


async def test_a_child_that_goes_on_ends_with_its_open_parent(store: Store, worker: WorkerKey) -> None:
    parent, child = await a_family(store, worker)
    await commit(store, a_change(child, transition=FAILED))
    await reopen(store, child.run_id)

    await commit(store, a_change(parent, transition=completed()))

    left = await store.forsaken(NAMESPACE, limit=10)
    assert [each.run_id for each in left.children] == [child.run_id]


async def test_a_child_that_goes_on_after_its_parent_is_left_alone(store: Store, worker: WorkerKey) -> None:
    parent, child = await a_family(store, worker)
    await commit(store, a_change(child, transition=FAILED))
    await commit(store, a_change(parent, transition=FAILED))

    await reopen(store, child.run_id)

    assert (await store.forsaken(NAMESPACE, limit=10)).children == ()


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_child_whose_parent_goes_on_is_not_told_to_end_any_more(
    store: Store, worker: WorkerKey, at_once: bool
) -> None:
    """Who looks after children that were left behind may come late."""
    parent, child = await a_family(store, worker)
    await commit(store, a_change(parent, transition=FAILED))
    order = CancelOrder(namespace=NAMESPACE, run_id=child.run_id, error="{}", at_once=at_once, left_by=parent.run_id)
    await reopen(store, parent.run_id)

    (late,) = await store.cancel([order])
    again = await claim_one(store, worker)
    await commit(store, a_change(again, transition=FAILED))
    (later,) = await store.cancel([order])

    assert late.outcome is CancelOutcome.ALREADY
    assert again.children == {"0/child#1": child.run_id}
    assert later.outcome is (CancelOutcome.ENDED if at_once else CancelOutcome.ASKED)


async def test_a_family_that_goes_on_stays_one(store: Store, worker: WorkerKey) -> None:
    parent, child = await a_family(store, worker)
    await commit(store, a_change(child, transition=FAILED))
    await commit(store, a_change(parent, transition=FAILED))
    await store.forsaken(NAMESPACE, limit=10)

    await store.reopen([an_order(child.run_id), an_order(parent.run_id)])

    again = await claim_one(store, worker)
    other = await claim_one(store, worker)
    parent_again = again if again.run_id == parent.run_id else other
    await commit(store, a_change(parent_again, transition=completed()))
    left = await store.forsaken(NAMESPACE, limit=10)
    assert [each.run_id for each in left.children] == [child.run_id]


async def test_a_child_that_was_asked_to_end_is_not_waited_for(store: Store, worker: WorkerKey) -> None:
    """The parent's new attempt starts one of its own; a child that nobody has asked is awaited."""
    parent, child = await a_family(store, worker)
    abandoned = ChildStart(step_id="0/other#1", run=a_run(), parent_close=ParentClose.ABANDON)
    await commit(store, Change(run_id=parent.run_id, fence=parent.fence, starts=(abandoned,)))
    other = await claim_one(store, worker)
    await commit(store, a_change(other, transition=given_back()))
    await commit(store, a_change(parent, transition=FAILED))
    await store.cancel([CancelOrder(namespace=NAMESPACE, run_id=child.run_id, error="its parent has ended")])

    await reopen(store, parent.run_id)

    claims = {claim.run_id: claim for claim in [await claim_one(store, worker), await claim_one(store, worker)]}
    assert claims[parent.run_id].children == {"0/other#1": other.run_id}


async def test_a_parent_hears_of_the_second_end_too(store: Store, worker: WorkerKey) -> None:
    parent, child = await a_family(store, worker)
    await commit(store, a_change(child, transition=FAILED))
    await reopen(store, child.run_id)
    again = await claim_one(store, worker)

    await commit(store, a_change(again, transition=completed()))

    told = [message.payload or "" for message in await store.undelivered(parent.run_id)]
    assert ["FAILED" in text for text in told] == [True, False]
