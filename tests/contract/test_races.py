"""Two who write to the same run at the same moment, in either order, with a gate that makes it certain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kagzi.model.cancelling import CancelOrder, CancelOutcome, Expiry
from kagzi.model.change import Applied, Change, Transition
from kagzi.model.claim import Claim
from kagzi.model.message import NewMessage, PostOutcome
from kagzi.model.pausing import PauseOrder, PauseOutcome, ResumeOrder
from kagzi.model.run import MessageKind, RunId, RunStatus, StoredRun, WorkerKey
from kagzi.model.step import StepKind, StepRecord
from kagzi.settings import Settings
from kagzi.store.protocol import Store
from kagzi.store.urls import open_store
from tests.contract.builders import (
    FAR_AHEAD,
    NAMESPACE,
    a_change,
    a_record,
    a_request,
    a_run,
    a_worker,
    asleep,
    claim_one,
    commit,
    completed,
    given_back,
    ids_of,
    kill,
    recover,
    start,
    start_and_claim,
)
from tests.contract.gates import Gate, Verb, a_gate

CANCELLED = '{"kind":"CANCELLED"}'
EITHER = pytest.mark.parametrize("turned", [False, True], ids=["as named", "turned"])


@pytest.fixture
async def store(any_database_url: str) -> AsyncIterator[Store]:
    """A store that is open and migrated."""
    store = open_store(any_database_url, Settings())
    await store.open()
    await store.migrate()
    yield store
    await store.close()


@pytest.fixture
async def gate(any_database_url: str, store: Store) -> AsyncIterator[Gate]:
    """A gate in the store's database."""
    async with a_gate(any_database_url) as gate:
        yield gate


async def meet(gate: Gate, one: Verb, other: Verb, *, turned: bool) -> tuple[Any, Any]:
    """Let them meet; the answers of `one` and `other`, whichever was first."""
    if not turned:
        return await gate.meet(one, other)
    second, first = await gate.meet(other, one)
    return first, second


# -- verbs -------------------------------------------------------------------------------------------------------


def writing(store: Store, claim: Claim, *records: StepRecord, transition: Transition | None = None) -> Verb:
    async def verb() -> Applied:
        return (await commit(store, a_change(claim, *records, transition=transition))).outcomes[0]

    return verb


def signalling(store: Store, run_id: RunId) -> Verb:
    message = NewMessage(namespace=NAMESPACE, kind=MessageKind.SIGNAL, name="go", run_id=run_id, payload="1")

    async def verb() -> PostOutcome:
        return (await store.post([message]))[0].outcome

    return verb


def cancelling(store: Store, run_id: RunId, *, at_once: bool = False) -> Verb:
    order = CancelOrder(namespace=NAMESPACE, run_id=run_id, error=CANCELLED, at_once=at_once)

    async def verb() -> CancelOutcome:
        return (await store.cancel([order]))[0].outcome

    return verb


def pausing(store: Store, run_id: RunId) -> Verb:
    async def verb() -> PauseOutcome:
        return (await store.pause([PauseOrder(namespace=NAMESPACE, run_id=run_id)]))[0].outcome

    return verb


def resuming(store: Store, run_id: RunId) -> Verb:
    async def verb() -> PauseOutcome:
        return (await store.resume([ResumeOrder(namespace=NAMESPACE, run_id=run_id)]))[0].outcome

    return verb


def expiring(store: Store) -> Verb:
    async def verb() -> tuple[RunId, ...]:
        return (await store.expire(NAMESPACE, Expiry(run_error=CANCELLED, start_error=CANCELLED))).asked

    return verb


def claiming(store: Store, worker: WorkerKey) -> Verb:
    async def verb() -> list[RunId]:
        return ids_of((await store.claim(a_request(worker))).claims)

    return verb


async def stored(store: Store, run_id: RunId) -> StoredRun:
    run = await store.get(run_id)
    assert run is not None
    return run


# -- signals -----------------------------------------------------------------------------------------------------


@EITHER
async def test_a_signal_and_the_completion(store: Store, gate: Gate, turned: bool) -> None:
    """P13, P19, P20: it is listed as undelivered, or its sender is told."""
    claim = await start_and_claim(store, await a_worker(store))

    posted, written = await meet(
        gate, signalling(store, claim.run_id), writing(store, claim, transition=completed()), turned=turned
    )

    left = [message.name for message in await store.undelivered(claim.run_id)]
    assert written is Applied.APPLIED
    assert (await stored(store, claim.run_id)).status is RunStatus.COMPLETED
    assert (posted, left) == ((PostOutcome.CLOSED, []) if turned else (PostOutcome.POSTED, ["go"]))


@EITHER
async def test_a_signal_and_the_parking(store: Store, gate: Gate, turned: bool) -> None:
    """P14, P19: the run is due, whichever was first."""
    worker = await a_worker(store)
    claim = await start_and_claim(store, worker)

    await meet(gate, signalling(store, claim.run_id), writing(store, claim, transition=asleep(inbox=0)), turned=turned)

    assert [message.name for message in (await claim_one(store, worker)).mail] == ["go"]


@EITHER
async def test_a_signal_and_the_timeout_of_its_wait(store: Store, gate: Gate, turned: bool) -> None:
    """P20: the timer's record stands, and the signal is there for the next wait."""
    worker = await a_worker(store)
    claim = await start_and_claim(store, worker)
    fired = a_record(kind=StepKind.TIMER, step_id="0/timer#1", output=None)

    await meet(gate, signalling(store, claim.run_id), writing(store, claim, fired), turned=turned)
    await commit(store, a_change(claim, transition=asleep(FAR_AHEAD, inbox=0)))

    again = await claim_one(store, worker)
    assert [record.step_id for record in again.history] == ["0/timer#1"]
    assert [message.name for message in again.mail] == ["go"]


@EITHER
async def test_a_signal_and_the_timeout_of_the_run(store: Store, gate: Gate, turned: bool) -> None:
    """P19, P20: both are in the mailbox, each in its place; a run that somebody writes to is looked at again."""
    claim = await start_and_claim(store, await a_worker(store), timeout_s=0.0)

    posted, asked = await meet(gate, signalling(store, claim.run_id), expiring(store), turned=turned)
    later = await expiring(store)()

    kinds = [message.kind for message in await store.undelivered(claim.run_id)]
    assert posted is PostOutcome.POSTED
    assert [*asked, *later] == [claim.run_id]
    assert kinds == ([MessageKind.CANCEL, MessageKind.SIGNAL] if turned else [MessageKind.SIGNAL, MessageKind.CANCEL])


# -- cancellations -----------------------------------------------------------------------------------------------


@EITHER
@pytest.mark.parametrize("at_once", [False, True], ids=["cancel", "terminate"])
async def test_an_order_to_end_and_the_last_step(store: Store, gate: Gate, turned: bool, at_once: bool) -> None:
    """P6, P10, P13: the step's record is there before the order, or not at all where the run was ended at once."""
    claim = await start_and_claim(store, await a_worker(store))
    order = cancelling(store, claim.run_id, at_once=at_once)

    ordered, written = await meet(gate, order, writing(store, claim, a_record()), turned=turned)

    recorded = [step.seq for step in await store.steps(claim.run_id)]
    lost = at_once and not turned
    assert ordered is (CancelOutcome.ENDED if at_once else CancelOutcome.ASKED)
    assert (written, recorded) == ((Applied.LOST, []) if lost else (Applied.APPLIED, [1]))


@EITHER
@pytest.mark.parametrize("at_once", [False, True], ids=["cancel", "terminate"])
async def test_an_order_to_end_and_the_completion(store: Store, gate: Gate, turned: bool, at_once: bool) -> None:
    """P13, P20: the first commit counts."""
    claim = await start_and_claim(store, await a_worker(store))
    order = cancelling(store, claim.run_id, at_once=at_once)

    ordered, written = await meet(gate, order, writing(store, claim, transition=completed()), turned=turned)

    status = (await stored(store, claim.run_id)).status
    if turned:
        expected = (CancelOutcome.CLOSED, Applied.APPLIED, RunStatus.COMPLETED)
    elif at_once:
        expected = (CancelOutcome.ENDED, Applied.LOST, RunStatus.CANCELLED)
    else:
        expected = (CancelOutcome.ASKED, Applied.APPLIED, RunStatus.COMPLETED)
    assert (ordered, written, status) == expected
    assert await cancelling(store, claim.run_id)() is (CancelOutcome.CLOSED if turned else CancelOutcome.ALREADY)


# -- children ----------------------------------------------------------------------------------------------------


@EITHER
@pytest.mark.parametrize("how", ["completes", "is ended"])
async def test_the_end_of_a_child_and_the_parking_of_its_parent(
    store: Store, gate: Gate, turned: bool, how: str
) -> None:
    """P14: the parent is due and has its mail, whichever was first."""
    worker = await a_worker(store)
    parent = await start_and_claim(store, worker)
    child = await start_and_claim(store, worker, parent_run_id=parent.run_id)
    if how == "completes":
        transition = Transition(status=RunStatus.COMPLETED, output="1", parent=parent.run_id)
        end: Verb = writing(store, child, transition=transition)
    else:
        end = cancelling(store, child.run_id, at_once=True)

    await meet(gate, end, writing(store, parent, transition=asleep(inbox=0)), turned=turned)

    again = await claim_one(store, worker)
    assert (again.run_id, [message.name for message in again.mail]) == (parent.run_id, [child.run_id])


# -- pauses ------------------------------------------------------------------------------------------------------


async def assert_rests(store: Store, worker: WorkerKey, run_id: RunId) -> None:
    """Nobody takes the run, and once it is resumed somebody does."""
    assert await claiming(store, worker)() == []
    assert await resuming(store, run_id)() is PauseOutcome.DONE
    assert await claiming(store, worker)() == [run_id]


@EITHER
async def test_a_pause_and_a_claim(store: Store, gate: Gate, turned: bool) -> None:
    """P5, P14: the run is not taken, or whoever has taken it is told."""
    worker = await a_worker(store)
    (run_id,) = await start(store)

    paused, taken = await meet(gate, pausing(store, run_id), claiming(store, worker), turned=turned)

    run = await stored(store, run_id)
    assert paused is PauseOutcome.DONE
    assert (taken, run.status) == (([run_id], RunStatus.RUNNING) if turned else ([], RunStatus.PENDING))
    if turned:
        assert (await store.mail(worker, {run_id: 0})).paused == frozenset({run_id})
        await commit(store, Change(run_id=run_id, fence=run.fence, transition=given_back()))
    await assert_rests(store, worker, run_id)


@EITHER
async def test_a_resumption_and_a_claim(store: Store, gate: Gate, turned: bool) -> None:
    """P14: who looked too early finds the run with its next look."""
    worker = await a_worker(store)
    (run_id,) = await start(store)
    (other,) = await start(store)
    await pausing(store, run_id)()

    resumed, taken = await meet(gate, resuming(store, run_id), claiming(store, worker), turned=turned)
    later = await claiming(store, worker)()

    assert resumed is PauseOutcome.DONE
    assert sorted([*taken, *later]) == sorted([run_id, other])


@EITHER
@pytest.mark.parametrize("how", ["parks", "gives back"])
async def test_a_pause_and_a_worker_that_lets_go(store: Store, gate: Gate, turned: bool, how: str) -> None:
    """P14."""
    worker = await a_worker(store)
    claim = await start_and_claim(store, worker)
    # With mail that it has not seen, so that it would be due.
    await signalling(store, claim.run_id)()
    transition = asleep(FAR_AHEAD, inbox=0) if how == "parks" else given_back()

    await meet(gate, pausing(store, claim.run_id), writing(store, claim, transition=transition), turned=turned)

    await assert_rests(store, worker, claim.run_id)


@EITHER
async def test_a_pause_and_a_signal(store: Store, gate: Gate, turned: bool) -> None:
    """P19."""
    worker = await a_worker(store)
    claim = await start_and_claim(store, worker)
    await commit(store, a_change(claim, transition=asleep()))

    await meet(gate, pausing(store, claim.run_id), signalling(store, claim.run_id), turned=turned)

    await assert_rests(store, worker, claim.run_id)


@EITHER
async def test_a_pause_and_the_completion(store: Store, gate: Gate, turned: bool) -> None:
    """P13."""
    claim = await start_and_claim(store, await a_worker(store))

    paused, written = await meet(
        gate, pausing(store, claim.run_id), writing(store, claim, transition=completed()), turned=turned
    )

    run = await stored(store, claim.run_id)
    assert (written, run.status, run.paused_at) == (Applied.APPLIED, RunStatus.COMPLETED, None)
    assert paused is (PauseOutcome.CLOSED if turned else PauseOutcome.DONE)


@EITHER
@pytest.mark.parametrize("at_once", [False, True], ids=["cancel", "terminate"])
async def test_a_pause_and_an_order_to_end(store: Store, gate: Gate, turned: bool, at_once: bool) -> None:
    """P13, P14: whichever is first, the run hears of its end."""
    worker = await a_worker(store)
    claim = await start_and_claim(store, worker)
    await commit(store, a_change(claim, transition=asleep()))

    paused, ordered = await meet(
        gate, pausing(store, claim.run_id), cancelling(store, claim.run_id, at_once=at_once), turned=turned
    )

    run = await stored(store, claim.run_id)
    late = PauseOutcome.CLOSED if at_once else PauseOutcome.ENDING
    assert paused is (late if turned else PauseOutcome.DONE)
    assert ordered is (CancelOutcome.ENDED if at_once else CancelOutcome.ASKED)
    assert run.paused_at is None
    assert await claiming(store, worker)() == ([] if at_once else [claim.run_id])


@EITHER
async def test_a_pause_and_the_recovery_of_a_dead_worker(store: Store, gate: Gate, turned: bool) -> None:
    """P8, P14."""
    dead, worker = await a_worker(store), await a_worker(store)
    claim = await start_and_claim(store, dead)

    await meet(gate, pausing(store, claim.run_id), lambda: kill(store, dead), turned=turned)
    await recover(store)  # what was locked at the first look is brought back by the next

    await assert_rests(store, worker, claim.run_id)


async def test_pauses_and_claims_by_chance_leave_each_run_taken_or_at_rest(store: Store) -> None:
    """P5, P14: a claim passes over locked rows and takes many at once, so here they meet a thousand times by chance."""
    worker = await a_worker(store, slots=1000)
    seen = set[bool]()
    for _ in range(20):
        runs = await start(store, *[a_run() for _ in range(50)])
        orders = [pausing(store, run_id) for run_id in runs]

        claims = [store.claim(a_request(worker, slots=15)) for _ in range(2)]
        claimed, *paused = await asyncio.gather(claims[0], *(order() for order in orders))
        both = [*claimed.claims, *(await claims[1]).claims]

        taken = {claim.run_id: claim for claim in both}
        mail = await store.mail(worker, {})
        assert set(paused) == {PauseOutcome.DONE}
        assert mail.paused == frozenset(taken)
        seen |= {run_id in taken for run_id in runs}
        await store.commit([a_change(claim, transition=given_back()) for claim in both])
        assert (await store.claim(a_request(worker))).claims == ()
        await asyncio.gather(*(resuming(store, run_id)() for run_id in runs))
        everybody = (await store.claim(a_request(worker, slots=1000))).claims
        assert sorted(ids_of(everybody)) == sorted(runs)
        await store.commit([a_change(claim, transition=completed()) for claim in everybody])

    assert True in seen
