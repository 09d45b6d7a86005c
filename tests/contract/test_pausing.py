"""Holding runs: `Store.pause` and `Store.resume`, and whatever would make a paused run due."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from kagzi.model.cancelling import CancelOrder, CancelOutcome, Expiry
from kagzi.model.change import Applied, Transition
from kagzi.model.message import NewMessage
from kagzi.model.pausing import PauseAnswer, PauseOrder, PauseOutcome, ResumeOrder
from kagzi.model.run import MessageKind, RunFilter, RunId, RunStatus, StoredRun, WorkerKey
from kagzi.store.protocol import Store
from tests.contract.builders import (
    FAR_AHEAD,
    HOSTILE_TEXTS,
    NAMESPACE,
    a_change,
    a_request,
    a_run,
    a_run_id,
    a_worker,
    asleep,
    claim_one,
    commit,
    completed,
    given_back,
    ids_of,
    kill,
    start,
    start_and_claim,
)

DONE, ALREADY = PauseOutcome.DONE, PauseOutcome.ALREADY


async def pause(store: Store, run_id: RunId, **fields: Any) -> PauseAnswer:
    (answer,) = await store.pause([PauseOrder(**({"namespace": NAMESPACE, "run_id": run_id} | fields))])
    return answer


async def resume(store: Store, run_id: RunId) -> PauseAnswer:
    (answer,) = await store.resume([ResumeOrder(namespace=NAMESPACE, run_id=run_id)])
    return answer


async def stored(store: Store, run_id: RunId) -> StoredRun:
    run = await store.get(run_id)
    assert run is not None
    return run


async def post(store: Store, run_id: RunId) -> None:
    await store.post([NewMessage(namespace=NAMESPACE, kind=MessageKind.SIGNAL, name="go", run_id=run_id, payload="1")])


async def due(store: Store, worker: WorkerKey) -> list[RunId]:
    """Take what is due."""
    return ids_of((await store.claim(a_request(worker))).claims)


async def test_nobody_takes_a_paused_run_until_it_is_resumed(store: Store) -> None:
    worker = await a_worker(store)
    (run_id,) = await start(store)

    paused = await pause(store, run_id, reason="the bank is closed")
    meanwhile, run = await due(store, worker), await stored(store, run_id)
    resumed = await resume(store, run_id)
    later, again = await due(store, worker), await stored(store, run_id)

    assert (paused.outcome, paused.status, resumed.outcome) == (DONE, RunStatus.PENDING, DONE)
    assert (meanwhile, later) == ([], [run_id])
    assert (run.status, run.available_at, run.pause_reason) == (RunStatus.PENDING, None, "the bank is closed")
    assert run.paused_at is not None
    assert (again.paused_at, again.pause_reason, again.due_at) == (None, None, None)


async def test_a_run_whose_time_has_passed_is_due_from_its_resumption_on(store: Store) -> None:
    """Claims may begin where an earlier one ended, so nothing becomes due in the past."""
    (run_id,) = await start(store)
    await pause(store, run_id)
    held = await stored(store, run_id)

    await resume(store, run_id)

    free = await stored(store, run_id)
    assert held.paused_at is not None
    assert held.due_at is not None
    assert free.available_at is not None
    assert held.due_at < held.paused_at < free.available_at


async def test_the_first_pause_counts(store: Store) -> None:
    (run_id,) = await start(store)

    answers = [await pause(store, run_id, reason=reason) for reason in ("one", "two")]
    first = await stored(store, run_id)
    ends = [await resume(store, run_id) for _ in range(2)]

    assert [each.outcome for each in (*answers, *ends)] == [DONE, ALREADY, DONE, ALREADY]
    assert first.pause_reason == "one"


async def test_orders_for_the_same_run_in_one_commit_count_once(store: Store) -> None:
    (run_id,) = await start(store)
    orders = [PauseOrder(namespace=NAMESPACE, run_id=run_id, reason=reason) for reason in ("one", "two")]

    await store.pause(orders)
    await asyncio.gather(*(pause(store, run_id) for _ in range(5)))

    assert (await stored(store, run_id)).pause_reason == "one"


@pytest.mark.parametrize(
    "transition",
    [
        asleep(FAR_AHEAD, waits='["a"]'),
        asleep(),
        Transition(status=RunStatus.PENDING, wake_at=FAR_AHEAD),
        Transition(status=RunStatus.PENDING, wake_at=FAR_AHEAD, error="failed", reopened_seq=1),
    ],
    ids=["timer", "event", "postponed", "run retry"],
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_times_are_as_they_were_whether_the_run_lets_go_before_or_after(
    store: Store, transition: Transition, when: str
) -> None:
    claim = await start_and_claim(store, await a_worker(store))
    steps = [commit(store, a_change(claim, transition=transition)), pause(store, claim.run_id)]
    for step in steps if when == "after" else reversed(steps):
        await step

    held = await stored(store, claim.run_id)
    await resume(store, claim.run_id)
    free = await stored(store, claim.run_id)

    assert (held.status, held.available_at, held.due_at) == (transition.status, None, transition.wake_at)
    assert (free.status, free.available_at, free.due_at) == (transition.status, transition.wake_at, None)
    assert free.waits == transition.waits


async def test_a_worker_lets_go_of_a_paused_run_and_nobody_takes_it(store: Store) -> None:
    worker = await a_worker(store)
    claim = await start_and_claim(store, worker)

    paused = await pause(store, claim.run_id)
    mail = await store.mail(worker, {claim.run_id: 0})
    (written,) = (await commit(store, a_change(claim, transition=given_back()))).outcomes

    assert (paused.outcome, paused.status, mail.paused) == (DONE, RunStatus.RUNNING, frozenset({claim.run_id}))
    assert (mail.inbox, mail.gone, written) == ({}, (), Applied.APPLIED)
    assert await due(store, worker) == []
    await resume(store, claim.run_id)
    assert await due(store, worker) == [claim.run_id]


async def test_a_run_that_is_resumed_before_its_worker_let_go_is_as_if_nothing_had_been(store: Store) -> None:
    worker = await a_worker(store)
    claim = await start_and_claim(store, worker)

    await pause(store, claim.run_id)
    await resume(store, claim.run_id)

    run = await stored(store, claim.run_id)
    assert (await store.mail(worker, {claim.run_id: 0})).paused == frozenset()
    assert (run.status, run.fence, run.available_at) == (RunStatus.RUNNING, claim.fence, None)


async def test_a_paused_run_of_a_dead_worker_rests(store: Store) -> None:
    """P8, P14: it is brought back, and due once it is resumed."""
    dead, worker = await a_worker(store), await a_worker(store)
    claim = await start_and_claim(store, dead)
    await pause(store, claim.run_id)

    recovery = await kill(store, dead)

    held = await stored(store, claim.run_id)
    assert recovery.released == (claim.run_id,)
    assert (held.status, held.fence, held.paused_at is None) == (RunStatus.PENDING, claim.fence + 1, False)
    assert await due(store, worker) == []
    await resume(store, claim.run_id)
    assert await due(store, worker) == [claim.run_id]


@pytest.mark.parametrize("wake_at", [None, FAR_AHEAD])
async def test_mail_is_kept_and_seen_once_the_run_is_resumed(store: Store, wake_at: Any) -> None:
    """P19."""
    worker = await a_worker(store)
    claim = await start_and_claim(store, worker)
    await commit(store, a_change(claim, transition=asleep(wake_at)))
    await pause(store, claim.run_id)

    await post(store, claim.run_id)

    assert await due(store, worker) == []
    await resume(store, claim.run_id)
    again = await claim_one(store, worker)
    assert [message.name for message in again.mail] == ["go"]


async def test_mail_that_a_paused_run_has_not_seen_when_it_parks_wakes_it_once_it_is_resumed(store: Store) -> None:
    worker = await a_worker(store)
    claim = await start_and_claim(store, worker)
    await pause(store, claim.run_id)
    await post(store, claim.run_id)

    await commit(store, a_change(claim, transition=asleep(inbox=0)))

    assert await due(store, worker) == []
    await resume(store, claim.run_id)
    assert await due(store, worker) == [claim.run_id]


async def test_the_end_of_a_child_waits_for_a_paused_parent(store: Store) -> None:
    worker = await a_worker(store)
    parent = await start_and_claim(store, worker)
    child = await start_and_claim(store, worker, parent_run_id=parent.run_id)
    await commit(store, a_change(parent, transition=asleep()))
    await pause(store, parent.run_id)

    ending = Transition(status=RunStatus.COMPLETED, output="1", parent=parent.run_id)
    await commit(store, a_change(child, transition=ending))

    assert await due(store, worker) == []
    await resume(store, parent.run_id)
    again = await claim_one(store, worker)
    assert [message.kind for message in again.mail] == [MessageKind.CHILD]


async def test_a_paused_run_that_did_not_fit_is_not_reconsidered(store: Store) -> None:
    worker = await a_worker(store)
    claim = await start_and_claim(store, worker)
    soon = claim.started_at + timedelta(seconds=30)
    await commit(store, a_change(claim, transition=asleep(soon, error="{}")))
    await pause(store, claim.run_id)

    found = await store.reconsider(a_request(worker), within=timedelta(minutes=1))

    assert (found, await due(store, worker)) == (0, [])


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("state", ["queued", "asleep", "running"])
async def test_who_is_asked_to_end_is_paused_no_more(store: Store, state: str, at_once: bool) -> None:
    worker = await a_worker(store)
    if state == "queued":
        (run_id,) = await start(store, a_run(delay_s=60.0))
    else:
        claim = await start_and_claim(store, worker)
        run_id = claim.run_id
        if state == "asleep":
            await commit(store, a_change(claim, transition=asleep(FAR_AHEAD)))
    await pause(store, run_id, reason="why")

    order = CancelOrder(namespace=NAMESPACE, run_id=run_id, error='{"kind":"CANCELLED"}', at_once=at_once)
    (answer,) = await store.cancel([order])

    run = await stored(store, run_id)
    assert (run.paused_at, run.pause_reason, run.due_at) == (None, None, None)
    if at_once or state == "queued":
        assert (answer.outcome, run.status) == (CancelOutcome.ENDED, RunStatus.CANCELLED)
    elif state == "asleep":
        again = await claim_one(store, worker)
        assert [message.kind for message in again.mail] == [MessageKind.CANCEL]
    else:
        assert (await store.mail(worker, {run_id: 0})).paused == frozenset()


async def test_timeouts_go_on_counting_while_a_run_is_paused(store: Store) -> None:
    worker = await a_worker(store)
    begun = await start_and_claim(store, worker, timeout_s=0.0)
    (queued,) = await start(store, a_run(start_timeout_s=0.0))
    await commit(store, a_change(begun, transition=asleep()))
    await pause(store, begun.run_id)
    await pause(store, queued)

    expired = await store.expire(NAMESPACE, Expiry(run_error='{"kind":"TIMEOUT"}', start_error='{"kind":"TIMEOUT"}'))

    assert (expired.failed, expired.asked) == ((queued,), (begun.run_id,))
    assert [(await stored(store, run_id)).paused_at for run_id in (queued, begun.run_id)] == [None, None]
    assert await due(store, worker) == [begun.run_id]


async def test_what_was_asked_to_end_is_not_paused(store: Store) -> None:
    claim = await start_and_claim(store, await a_worker(store))
    await store.cancel([CancelOrder(namespace=NAMESPACE, run_id=claim.run_id, error='{"kind":"CANCELLED"}')])

    answer = await pause(store, claim.run_id)

    assert (answer.outcome, answer.status) == (PauseOutcome.ENDING, RunStatus.RUNNING)
    assert (await stored(store, claim.run_id)).paused_at is None


async def test_a_run_that_has_ended_is_left_as_it_is(store: Store) -> None:
    """P13. A run that ends while it is to rest is paused no more."""
    worker = await a_worker(store)
    claim = await start_and_claim(store, worker)
    await pause(store, claim.run_id)
    await commit(store, a_change(claim, transition=completed()))

    ended = await stored(store, claim.run_id)
    answers = [await pause(store, claim.run_id), await resume(store, claim.run_id)]

    assert (ended.paused_at, ended.status) == (None, RunStatus.COMPLETED)
    assert [(each.outcome, each.status) for each in answers] == [(PauseOutcome.CLOSED, RunStatus.COMPLETED)] * 2
    assert await stored(store, claim.run_id) == ended


async def test_other_runs_and_runs_of_other_namespaces_are_left_alone(store: Store) -> None:
    worker = await a_worker(store)
    (run_id,) = await start(store)

    answers = [
        await pause(store, a_run_id()),
        await pause(store, RunId("no id")),
        await pause(store, run_id, namespace="other"),
    ]

    assert {each.outcome for each in answers} == {PauseOutcome.NOT_FOUND}
    assert await store.resume([]) == await store.pause([]) == []
    assert await due(store, worker) == [run_id]


async def test_many_orders_are_answered_in_order(store: Store) -> None:
    runs = await start(store, *[a_run() for _ in range(3)])
    unknown = a_run_id()

    answers = await store.pause([PauseOrder(namespace=NAMESPACE, run_id=each) for each in (runs[2], unknown, runs[0])])

    assert [each.outcome for each in answers] == [DONE, PauseOutcome.NOT_FOUND, DONE]
    assert await due(store, await a_worker(store)) == [runs[1]]


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
async def test_a_reason_is_kept_as_it_is(store: Store, text: str) -> None:
    (run_id,) = await start(store)

    await pause(store, run_id, reason=text)

    assert (await stored(store, run_id)).pause_reason == text


async def test_paused_and_open_runs_can_be_listed(store: Store) -> None:
    paused, queued, ended = await start(store, *[a_run() for _ in range(3)])
    await pause(store, paused)
    await store.cancel([CancelOrder(namespace=NAMESPACE, run_id=ended, error="{}", at_once=True)])

    async def found(**wanted: Any) -> set[RunId]:
        return {run.run_id for run in await store.find(RunFilter(namespace=NAMESPACE, **wanted))}

    assert await found(paused=True) == {paused}
    assert await found(paused=False, is_open=True) == {queued}
    assert await found(is_open=True) == {paused, queued}
