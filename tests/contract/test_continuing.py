"""Runs that continue as new: another takes their place, in the commit that ends them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from kagzi.model.cancelling import CancelOrder, CancelOutcome, Expiry
from kagzi.model.change import Applied, Change, Successor, Transition
from kagzi.model.child import ChildStart, ParentClose
from kagzi.model.claim import Claim
from kagzi.model.message import NewMessage, PostOutcome
from kagzi.model.pausing import PauseOrder, ResumeOrder
from kagzi.model.run import MessageKind, NewRun, RunFilter, RunId, RunOutcome, RunStatus, StoredRun, WorkerKey
from kagzi.model.step import StepKind
from kagzi.store.protocol import Store
from tests.contract.builders import (
    HOSTILE_TEXTS,
    NAMESPACE,
    a_change,
    a_record,
    a_run,
    a_run_id,
    asleep,
    claim_one,
    commit,
    completed,
    kill,
    start,
    start_and_claim,
)

EXPIRY = Expiry(run_error="late", start_error="late to start")
FIND_ALL = RunFilter(namespace=NAMESPACE)
APPLIED, ALREADY, LOST = Applied.APPLIED, Applied.ALREADY, Applied.LOST


def continuing(claim: Claim, *records: Any, text: str = '{"args":[2]}', **fields: Any) -> Change:
    successor = Successor(run_id=a_run_id(), version=claim.version, input=text)
    transition = Transition(status=RunStatus.COMPLETED, continues=successor, **fields)
    return a_change(claim, *records, transition=transition)


def next_of(change: Change) -> RunId:
    assert change.transition is not None
    assert change.transition.continues is not None
    return change.transition.continues.run_id


async def go_on(store: Store, claim: Claim, worker: WorkerKey) -> Claim:
    """Have a run continue as new, and claim its successor."""
    change = continuing(claim)
    assert (await commit(store, change)).outcomes == (APPLIED,)
    successor = await claim_one(store, worker)
    assert successor.run_id == next_of(change)
    return successor


async def stored(store: Store, run_id: RunId) -> StoredRun:
    run = await store.get(run_id)
    assert run is not None
    return run


def a_signal(claim: Claim, **fields: Any) -> NewMessage:
    defaults: dict[str, Any] = {"run_id": claim.run_id, "kind": MessageKind.SIGNAL, "name": "paid", "payload": "1"}
    return NewMessage(namespace=NAMESPACE, **(defaults | fields))


async def test_another_run_takes_the_place_of_one_that_continues(store: Store, worker: WorkerKey) -> None:
    fields = {"id": "order-7", "queue": "default", "priority": 3, "tags": ("a", "b"), "attributes": '{"x":1}'}
    claim = await start_and_claim(store, worker, **fields)
    change = continuing(claim, a_record(1))

    committed = await commit(store, change)

    before, after = await stored(store, claim.run_id), await stored(store, next_of(change))
    successor = await claim_one(store, worker)
    (by_id,) = await store.start([a_run(id="order-7")])
    assert committed.outcomes == (APPLIED,)
    assert (before.status, before.output, before.id) == (RunStatus.COMPLETED, None, "order-7")
    assert (before.continued_to, before.continued_from, before.first_run_id) == (after.run_id, None, None)
    assert before.finished_at is not None
    assert (after.status, after.id, after.input, after.version) == (RunStatus.PENDING, "order-7", '{"args":[2]}', 1)
    assert (after.queue, after.priority, after.tags, after.attributes) == ("default", 3, ("a", "b"), '{"x":1}')
    assert (after.continued_from, after.continued_to, after.first_run_id) == (claim.run_id, None, claim.run_id)
    assert (after.attempts, after.started_at, after.finished_at) == (1, None, None)
    assert (successor.run_id, successor.history, successor.fence) == (after.run_id, (), 1)
    assert (by_id.created, by_id.run_id) == (False, after.run_id)


async def test_a_chain_has_one_end_which_every_member_leads_to(store: Store, worker: WorkerKey) -> None:
    first = await start_and_claim(store, worker, id="loop")
    second = await go_on(store, first, worker)
    third = await go_on(store, second, worker)
    members = [claim.run_id for claim in (first, second, third)]

    latest = [await store.latest(run_id) for run_id in members]
    open_still = await store.outcomes(members)
    await commit(store, a_change(third, transition=completed()))

    ends = await store.outcomes(members)
    assert latest == [third.run_id] * 3
    assert open_still == []
    assert sorted(ends, key=lambda end: end.run_id) == [
        RunOutcome(run_id=run_id, status=RunStatus.COMPLETED, output='"done"', error=None) for run_id in sorted(members)
    ]
    assert (await stored(store, third.run_id)).first_run_id == first.run_id
    unknown = a_run_id()
    assert [await store.latest(unknown), await store.latest(RunId("no id"))] == [unknown, "no id"]


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS.keys())
async def test_a_successor_begins_with_any_input(store: Store, worker: WorkerKey, text: str) -> None:
    claim = await start_and_claim(store, worker)

    await commit(store, continuing(claim, text=text))

    assert (await claim_one(store, worker)).input == text


async def test_what_was_not_received_goes_along_in_its_order(store: Store, worker: WorkerKey) -> None:
    """P19: positions go on, and ends of children are for those who started them."""
    claim = await start_and_claim(store, worker)
    child = a_run(parent_run_id=claim.run_id)
    await commit(store, Change(run_id=claim.run_id, fence=claim.fence, starts=(ChildStart(step_id="c", run=child),)))
    await store.post([a_signal(claim, payload=str(number)) for number in range(4)])
    await store.cancel([CancelOrder(namespace=NAMESPACE, run_id=child.run_id, error="{}")])
    received = a_record(1, kind=StepKind.SIGNAL, message=1)
    await commit(store, Change(run_id=claim.run_id, fence=claim.fence, records=(received,), received=(1,)))
    change = continuing(claim)

    await commit(store, Change(**{**as_fields(change), "returned": (1,)}))  # the last had been received in vain

    successor = await claim_one(store, worker)
    await store.post([a_signal(successor, payload="new")])
    later = await store.undelivered(successor.run_id)
    assert [(each.position, each.payload) for each in successor.mail] == [(1, "0"), (2, "1"), (3, "2"), (4, "3")]
    assert [each.payload for each in later][4:] == ["new"]
    assert successor.inbox == 5
    assert [each.kind for each in await store.undelivered(claim.run_id)] == [MessageKind.CHILD]


def as_fields(change: Change) -> dict[str, Any]:
    return {name: getattr(change, name) for name in change.__struct_fields__}


async def test_nothing_sent_meanwhile_is_lost(store: Store, worker: WorkerKey) -> None:
    """P19: whoever posts while the run continues finds it open, or its successor."""
    for number in range(30):
        claim = await start_and_claim(store, worker, id=f"order-{number}")
        change = continuing(claim)

        _, *posted = await asyncio.gather(
            commit(store, change),
            store.post([a_signal(claim)]),
            store.post([a_signal(claim, run_id=None, id=f"order-{number}")]),
        )

        accepted = sum(answer.outcome is PostOutcome.POSTED for answers in posted for answer in answers)
        kept = await store.undelivered(next_of(change))
        assert len(kept) == accepted
        assert (await stored(store, next_of(change))).inbox >= accepted
        await commit(store, a_change(await claim_one(store, worker), transition=completed()))


async def test_a_message_that_was_received_is_known_to_the_successor_for_a_while(
    store: Store, worker: WorkerKey
) -> None:
    """P4: who got no answer sends it again, maybe to the successor."""
    claim = await start_and_claim(store, worker, id="order-7")
    by_id = a_signal(claim, run_id=None, id="order-7", dedup_key="key")
    await store.post([by_id])
    received = a_record(1, kind=StepKind.SIGNAL, message=1)
    await commit(store, Change(run_id=claim.run_id, fence=claim.fence, records=(received,), received=(1,)))
    successor = await go_on(store, claim, worker)

    (again,) = await store.post([by_id])
    (other,) = await store.post([a_signal(successor, dedup_key="other")])

    assert (again.outcome, again.run_id, again.position) == (PostOutcome.DUPLICATE, successor.run_id, 1)
    assert (other.outcome, other.position) == (PostOutcome.POSTED, 2)
    assert [each.position for each in await store.undelivered(successor.run_id)] == [2]


async def test_an_order_to_end_goes_along(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    order = CancelOrder(namespace=NAMESPACE, run_id=claim.run_id, error="why")
    await store.cancel([order])

    successor = await go_on(store, claim, worker)

    (again,) = await store.cancel([CancelOrder(namespace=NAMESPACE, run_id=successor.run_id, error="why")])
    assert [message.payload for message in successor.mail] == ["why"]
    assert again.outcome is CancelOutcome.ALREADY


async def test_the_deadline_is_that_of_the_chain(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker, timeout_s=3600.0)
    successor = await go_on(store, claim, worker)

    expired = await store.expire(NAMESPACE, EXPIRY)

    assert expired.next_due is not None
    assert expired.next_due <= claim.started_at + timedelta(hours=1)
    assert successor.started_at >= claim.started_at


async def test_a_parent_hears_of_the_end_of_the_chain(store: Store, worker: WorkerKey) -> None:
    """Under the run that it has started; and what is to become of the child when it ends itself is still known."""
    parent = await start_and_claim(store, worker)
    run = a_run(parent_run_id=parent.run_id)
    begun = ChildStart(step_id="c", run=run, parent_close=ParentClose.TERMINATE)
    await commit(store, Change(run_id=parent.run_id, fence=parent.fence, starts=(begun,)))
    child = await claim_one(store, worker)
    successor = await go_on_in(store, child, worker, parent.run_id)
    assert await store.undelivered(parent.run_id) == []
    await commit(store, a_change(parent, transition=asleep()))

    await commit(store, a_change(successor, transition=completed(output='"end"')))

    again = await claim_one(store, worker)
    (told,) = again.mail
    assert (again.run_id, told.kind, told.name) == (parent.run_id, MessageKind.CHILD, run.run_id)
    assert '"end"' in (told.payload or "") or r"\"end\"" in (told.payload or "")


async def go_on_in(store: Store, child: Claim, worker: WorkerKey, parent: RunId) -> Claim:
    change = continuing(child, parent=parent)
    await commit(store, change)
    successor = await claim_one(store, worker)
    assert (successor.run_id, successor.parent_run_id) == (next_of(change), parent)
    return successor


async def test_a_child_that_has_continued_is_left_behind_as_any_other(store: Store, worker: WorkerKey) -> None:
    parent = await start_and_claim(store, worker)
    begun = ChildStart(step_id="c", run=a_run(parent_run_id=parent.run_id), parent_close=ParentClose.TERMINATE)
    await commit(store, Change(run_id=parent.run_id, fence=parent.fence, starts=(begun,)))
    successor = await go_on_in(store, await claim_one(store, worker), worker, parent.run_id)
    await commit(store, a_change(parent, transition=completed()))

    left = await store.forsaken(NAMESPACE, limit=10)

    assert [(each.run_id, each.at_once) for each in left.children] == [(successor.run_id, True)]


async def test_the_same_change_makes_one_successor(store: Store, worker: WorkerKey) -> None:
    """P4: its answer may be lost."""
    claim = await start_and_claim(store, worker, id="order-7")
    change = continuing(claim, a_record(1))

    outcomes = [(await commit(store, change)).outcomes for _ in range(3)]

    assert outcomes == [(APPLIED,), (ALREADY,), (ALREADY,)]
    assert [run.run_id for run in await store.find(FIND_ALL)] == [next_of(change), claim.run_id]


async def test_who_lost_the_run_can_not_hand_it_on(store: Store, worker: WorkerKey) -> None:
    """P6."""
    claim = await start_and_claim(store, worker, id="order-7")
    await kill(store, worker)

    (outcome,) = (await commit(store, change := continuing(claim))).outcomes

    assert outcome is LOST
    assert await store.get(next_of(change)) is None
    assert (await stored(store, claim.run_id)).continued_to is None


async def test_many_continue_in_one_commit(store: Store, worker: WorkerKey) -> None:
    claims = [await start_and_claim(store, worker, id=f"order-{number}") for number in range(5)]
    changes = [continuing(claim, text=f"[{number}]") for number, claim in enumerate(claims)]
    lost = continuing(claims[0])
    done = await start_and_claim(store, worker)

    committed = await commit(
        store,
        *changes,
        Change(run_id=lost.run_id, fence=99, transition=lost.transition),
        a_change(done, transition=completed()),
    )

    assert committed.outcomes == (*[APPLIED] * 5, LOST, APPLIED)
    for number, change in enumerate(changes):
        run = await stored(store, next_of(change))
        assert (run.id, run.input) == (f"order-{number}", f"[{number}]")


async def test_a_run_that_is_paused_continues_paused(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await store.pause([PauseOrder(namespace=NAMESPACE, run_id=claim.run_id, reason="wait")])
    change = continuing(claim)
    await commit(store, change)

    paused = await stored(store, next_of(change))
    await store.resume([ResumeOrder(namespace=NAMESPACE, run_id=paused.run_id)])

    assert (paused.pause_reason, paused.available_at) == ("wait", None)
    assert (await claim_one(store, worker)).run_id == paused.run_id
    assert (await stored(store, claim.run_id)).paused_at is None


async def test_starts_under_the_id_meet_one_run_whenever_they_come(store: Store, worker: WorkerKey) -> None:
    """P1: while the id is handed on, nobody finds it free."""
    for number in range(20):
        claim = await start_and_claim(store, worker, id=f"order-{number}")
        change = continuing(claim)
        others: list[NewRun] = [a_run(id=f"order-{number}") for _ in range(4)]

        handing_on = asyncio.create_task(commit(store, change))
        started = await asyncio.gather(*(store.start([run]) for run in others))
        await handing_on

        assert {answer.created for answers in started for answer in answers} == {False}
        assert {answer.run_id for answers in started for answer in answers} <= {claim.run_id, next_of(change)}
        await commit(store, a_change(await claim_one(store, worker), transition=completed()))


async def test_whoever_waits_hears_of_the_end_of_the_chain(store: Store, worker: WorkerKey) -> None:
    """Those who waited before wait on, without asking again."""
    (run_id,) = await start(store)
    claim = await claim_one(store, worker)
    assert await store.outcomes([run_id]) == []
    heard = asyncio.Event()
    end = store.listen(lambda hint: heard.set())

    successor = await go_on(store, claim, worker)
    async with asyncio.timeout(10):
        await heard.wait()
    await commit(store, a_change(successor, transition=completed()))

    (outcome,) = await store.outcomes([run_id])
    end()
    assert (outcome.run_id, outcome.output) == (run_id, '"done"')
