"""Children: born with a commit of their parent, and telling it of their end in the transaction that ends them."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from kagzi.model.cancelling import CancelOrder
from kagzi.model.change import Applied, Change, Transition
from kagzi.model.child import ChildOutcome, ChildStart, ParentClose
from kagzi.model.claim import Claim
from kagzi.model.run import MessageKind, RunId, RunStatus, WorkerKey
from kagzi.model.step import StepKind, StepRecord, StepStatus
from kagzi.store.protocol import Store
from tests.contract.builders import (
    HOSTILE_TEXTS,
    NAMESPACE,
    POISON_ERROR,
    a_change,
    a_policy,
    a_request,
    a_run,
    a_run_id,
    asleep,
    claim_one,
    commit,
    completed,
    expire,
    given_back,
    kill,
    recover,
    start,
    start_and_claim,
)


def a_start(parent: Claim, *, step_id: str = "0/child#1", own_id: str | None = None, **fields: object) -> ChildStart:
    run = a_run(parent_run_id=parent.run_id, id=own_id, **fields)
    return ChildStart(step_id=step_id, run=run, parent_close=ParentClose.TERMINATE)


def starting(parent: Claim, *starts: ChildStart) -> Change:
    return Change(run_id=parent.run_id, fence=parent.fence, starts=starts)


def ending(child: Claim, transition: Transition) -> Change:
    parent = msgspec.structs.replace(transition, parent=child.parent_run_id)
    return Change(run_id=child.run_id, fence=child.fence, transition=parent)


async def test_a_child_is_born_with_the_commit_of_its_parent(store: Store, worker: WorkerKey) -> None:
    parent = await start_and_claim(store, worker)
    start = a_start(parent)

    committed = await commit(store, starting(parent, start))
    child = await claim_one(store, worker)
    (step,) = await store.steps(parent.run_id)

    assert committed.outcomes == (Applied.APPLIED,)
    assert (child.run_id, child.parent_run_id) == (start.run.run_id, parent.run_id)
    assert (step.kind, step.status, step.child_run_id) == (StepKind.CHILD, StepStatus.RUNNING, child.run_id)


async def test_a_start_whose_answer_was_lost_starts_no_other(store: Store, worker: WorkerKey) -> None:
    """P4."""
    parent = await start_and_claim(store, worker)
    change = starting(parent, a_start(parent))

    first = await commit(store, change)
    again = await commit(store, change)

    assert (first.outcomes, again.outcomes) == ((Applied.APPLIED,), (Applied.APPLIED,))
    assert len(await store.steps(parent.run_id)) == 1


async def test_who_has_lost_the_parent_starts_nothing(store: Store, worker: WorkerKey) -> None:
    """P6."""
    parent = await start_and_claim(store, worker)
    await kill(store, worker)
    await recover(store)
    start = a_start(parent)

    committed = await commit(store, starting(parent, start))

    assert committed.outcomes == (Applied.LOST,)
    assert await store.get(start.run.run_id) is None


async def test_a_start_under_an_id_that_is_taken_is_told(store: Store, worker: WorkerKey) -> None:
    """P1."""
    parent = await start_and_claim(store, worker)
    await start(store, a_run(id="taken"))
    taken, free = a_start(parent, own_id="taken"), a_start(parent, step_id="0/child#2", own_id="free")

    committed = await commit(store, starting(parent, taken), starting(parent, free))

    assert committed.outcomes[0] is Applied.TAKEN
    assert await store.get(taken.run.run_id) is None
    assert [step.child_run_id for step in await store.steps(parent.run_id)] == [free.run.run_id]


async def test_a_claim_brings_the_children_that_are_awaited(store: Store, worker: WorkerKey) -> None:
    parent = await start_and_claim(store, worker)
    first, second = a_start(parent, queue="elsewhere"), a_start(parent, step_id="0/other#1", queue="elsewhere")
    await commit(store, starting(parent, first), starting(parent, second))
    record = StepRecord(step_id="0/child#1", seq=1, kind=StepKind.CHILD, child_run_id=first.run.run_id)
    await commit(store, a_change(parent, record), Change(run_id=parent.run_id, fence=1, transition=given_back()))

    again = await claim_one(store, worker)

    assert again.children == {"0/other#1": second.run.run_id}
    assert [(each.step_id, each.child_run_id) for each in again.history] == [("0/child#1", first.run.run_id)]


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS.keys())
async def test_the_end_of_a_child_comes_by_mail_and_wakes_its_parent(
    store: Store, worker: WorkerKey, text: str
) -> None:
    parent, child = await a_family(store, worker)
    await commit(store, Change(run_id=parent.run_id, fence=parent.fence, transition=asleep(inbox=0)))
    output = msgspec.json.encode(text).decode()

    await commit(store, ending(child, completed(output)))
    woken = await claim_one(store, worker)
    (message,) = woken.mail

    assert (woken.run_id, woken.inbox) == (parent.run_id, 1)
    assert (message.position, message.kind, message.name) == (1, MessageKind.CHILD, child.run_id)
    assert msgspec.json.decode(message.payload or "", type=ChildOutcome) == ChildOutcome(
        status=RunStatus.COMPLETED, output=output
    )


async def test_a_parent_that_parks_in_the_same_commit_is_due(store: Store, worker: WorkerKey) -> None:
    """P14."""
    for turned in (False, True):
        parent, child = await a_family(store, worker)
        park = Change(run_id=parent.run_id, fence=parent.fence, transition=asleep(inbox=0))
        end = ending(child, completed())

        committed = await store.commit([end, park] if turned else [park, end])
        woken = await claim_one(store, worker)

        assert committed.outcomes == (Applied.APPLIED, Applied.APPLIED)
        assert (woken.run_id, len(woken.mail)) == (parent.run_id, 1)


async def test_an_end_and_a_park_at_the_same_time_lose_no_wake_up(store: Store, worker: WorkerKey) -> None:
    """P14, 1,000 times: whichever commit comes first, the parent is due and has its mail."""
    for _ in range(10):
        parents = [await start_and_claim(store, worker) for _ in range(100)]
        starts = {parent.run_id: a_start(parent) for parent in parents}
        await store.commit([starting(parent, starts[parent.run_id]) for parent in parents])
        children = (await store.claim(a_request(worker, slots=100))).claims
        changes = [
            *(Change(run_id=parent.run_id, fence=parent.fence, transition=asleep(inbox=0)) for parent in parents),
            *(ending(child, completed()) for child in children),
        ]
        random.shuffle(changes)

        committed = await asyncio.gather(*(store.commit([change]) for change in changes))
        woken = (await store.claim(a_request(worker, slots=1000))).claims
        for claim in woken:
            await commit(store, Change(run_id=claim.run_id, fence=claim.fence, transition=completed()))

        assert {answer.outcomes for answer in committed} == {(Applied.APPLIED,)}
        assert {claim.run_id: [message.name for message in claim.mail] for claim in woken} == {
            run_id: [start.run.run_id] for run_id, start in starts.items()
        }


async def test_many_children_that_end_at_once_are_all_told(store: Store, worker: WorkerKey) -> None:
    parent = await start_and_claim(store, worker)
    starts = [a_start(parent, step_id=f"0/child#{number}") for number in range(1, 31)]
    await store.commit([starting(parent, start) for start in starts])
    children = [await claim_one(store, worker) for _ in starts]

    await store.commit([ending(child, completed()) for child in children])
    mail = await store.mail(worker, {parent.run_id: 0})

    assert [message.position for message in mail.messages[parent.run_id]] == list(range(1, 31))
    assert {message.name for message in mail.messages[parent.run_id]} == {child.run_id for child in children}


async def test_an_end_whose_answer_was_lost_is_told_once(store: Store, worker: WorkerKey) -> None:
    """P4."""
    parent, child = await a_family(store, worker)

    await commit(store, ending(child, completed()))
    again = await commit(store, ending(child, completed()))
    mail = await store.mail(worker, {parent.run_id: 0})

    assert again.outcomes == (Applied.ALREADY,)
    assert len(mail.messages[parent.run_id]) == 1


async def test_a_child_that_kills_its_workers_is_told_too(store: Store, worker: WorkerKey) -> None:
    """P22."""
    parent, child = await a_family(store, worker)
    await commit(store, Change(run_id=parent.run_id, fence=parent.fence, transition=asleep(inbox=0)))
    await expire(store, worker)

    await recover(store, a_policy(poison_after=1))
    (message,) = await store.undelivered(parent.run_id)

    assert message.name == child.run_id
    assert msgspec.json.decode(message.payload or "", type=ChildOutcome).status is RunStatus.FAILED


async def test_a_parent_that_has_completed_is_told_nothing(store: Store, worker: WorkerKey) -> None:
    parent, child = await a_family(store, worker)
    await commit(store, Change(run_id=parent.run_id, fence=parent.fence, transition=completed()))

    committed = await commit(store, ending(child, completed()))

    assert committed.outcomes == (Applied.APPLIED,)
    assert await store.undelivered(parent.run_id) == []


async def test_a_parent_that_is_not_there_harms_nobody(store: Store, worker: WorkerKey) -> None:
    """P23."""
    child = await start_and_claim(store, worker, parent_run_id=a_run_id())

    committed = await commit(store, ending(child, completed()))

    assert committed.outcomes == (Applied.APPLIED,)


async def test_a_record_receives_the_end_of_a_child(store: Store, worker: WorkerKey) -> None:
    parent, child = await a_family(store, worker)
    await commit(store, ending(child, completed()))
    record = StepRecord(
        step_id="0/child#1", seq=1, kind=StepKind.CHILD, output='"done"', child_run_id=child.run_id, message=1
    )

    await commit(store, Change(run_id=parent.run_id, fence=parent.fence, records=(record,), received=(1,)))
    (step,) = await store.steps(parent.run_id)

    assert await store.undelivered(parent.run_id) == []
    assert (step.status, step.seq, step.child_run_id) == (StepStatus.COMPLETED, 1, child.run_id)


async def a_family(store: Store, worker: WorkerKey) -> tuple[Claim, Claim]:
    """A parent and its child, both in the worker's hands."""
    parent = await start_and_claim(store, worker)
    change = starting(parent, a_start(parent))
    await commit(store, change)
    child = await claim_one(store, worker)
    assert child.run_id == RunId(change.starts[0].run.run_id)
    return parent, child


async def test_children_that_are_left_behind_are_found_until_they_are_told(store: Store, worker: WorkerKey) -> None:
    """P14: what a worker died over, the next one finds."""
    parent = await start_and_claim(store, worker)
    ways = {way: a_start(parent, step_id=f"0/{way}#1", queue="elsewhere") for way in ParentClose}
    starts = [msgspec.structs.replace(start, parent_close=way) for way, start in ways.items()]
    await commit(store, starting(parent, *starts))
    before = (await store.forsaken(NAMESPACE, limit=10)).children
    await commit(store, Change(run_id=parent.run_id, fence=parent.fence, transition=completed()))

    found, again = [(await store.forsaken(NAMESPACE, limit=10)).children for _ in range(2)]
    one = (await store.forsaken(NAMESPACE, limit=1)).children
    await store.cancel(
        [
            CancelOrder(namespace=NAMESPACE, run_id=child.run_id, error=POISON_ERROR, at_once=child.at_once)
            for child in found
        ]
    )
    after, at_last = [(await store.forsaken(NAMESPACE, limit=10)).children for _ in range(2)]
    abandoned = await store.get(ways[ParentClose.ABANDON].run.run_id)

    assert before == ()
    assert {(child.run_id, child.at_once) for child in found} == {
        (ways[ParentClose.TERMINATE].run.run_id, True),
        (ways[ParentClose.CANCEL].run.run_id, False),
    }
    assert (len(again), len(one), after, at_last) == (2, 1, (), ())
    assert abandoned is not None
    assert abandoned.status is RunStatus.PENDING


async def test_the_children_of_many_parents_are_all_found(store: Store, worker: WorkerKey) -> None:
    for _ in range(5):
        parent = await start_and_claim(store, worker)
        await commit(
            store, starting(parent, *(a_start(parent, step_id=f"0/{n}#1", queue="elsewhere") for n in range(3)))
        )
        await commit(store, Change(run_id=parent.run_id, fence=parent.fence, transition=completed()))

    told: set[RunId] = set()
    more = True
    while more:
        left = await store.forsaken(NAMESPACE, limit=4)
        more = left.more
        told |= {child.run_id for child in left.children}
        await store.cancel(
            [
                CancelOrder(namespace=NAMESPACE, run_id=child.run_id, error=POISON_ERROR, at_once=True)
                for child in left.children
            ]
        )

    assert len(told) == 15
