"""The mailboxes of runs: `Store.post`, `Store.mail`, and what claims and commits know of messages."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kagzi.model.change import Applied, Change, Published
from kagzi.model.claim import Claim
from kagzi.model.message import NewMessage, PostOutcome, Reply
from kagzi.model.run import FirstMessage, MessageKind, RunId, RunStatus, WorkerKey
from kagzi.model.step import StepKind, StepRecord
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
    kill,
    start,
    start_and_claim,
)

POSTED, DUPLICATE = PostOutcome.POSTED, PostOutcome.DUPLICATE


def a_message(run_id: RunId | None = None, **fields: Any) -> NewMessage:
    defaults: dict[str, Any] = {
        "namespace": NAMESPACE,
        "kind": MessageKind.SIGNAL,
        "name": "opened",
        "run_id": run_id,
        "payload": "true",
    }
    return NewMessage(**(defaults | fields))


def receiving(claim: Claim, position: int, *, seq: int = 1, payload: str = "true") -> Change:
    record = StepRecord(step_id=f"0/opened#{seq}", seq=seq, kind=StepKind.SIGNAL, output=payload, message=position)
    return Change(run_id=claim.run_id, fence=claim.fence, records=(record,), received=(position,))


async def test_messages_have_places_in_the_order_of_their_commits(store: Store) -> None:
    """P19."""
    (run_id,) = await start(store)

    first = await store.post([a_message(run_id), a_message(run_id, name="closed")])
    (second,) = await store.post([a_message(run_id)])

    assert [(posted.outcome, posted.position, posted.run_id) for posted in [*first, second]] == [
        (POSTED, 1, run_id),
        (POSTED, 2, run_id),
        (POSTED, 3, run_id),
    ]
    assert [(message.position, message.name) for message in await store.undelivered(run_id)] == [
        (1, "opened"),
        (2, "closed"),
        (3, "opened"),
    ]


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS.keys())
async def test_a_message_comes_back_as_it_was_given(store: Store, text: str) -> None:
    """P24."""
    (run_id,) = await start(store)

    await store.post([a_message(run_id, payload=text, name=text[:200], dedup_key=text[:200])])

    (message,) = await store.undelivered(run_id)
    assert (message.payload, message.name, message.kind) == (text, text[:200], MessageKind.SIGNAL)


async def test_a_run_is_found_by_its_own_id(store: Store) -> None:
    (run_id,) = await start(store, a_run(id="order-7"))

    posted = await store.post([a_message(id="order-7"), a_message(id="order-8"), a_message(a_run_id())])
    strange = await store.post([a_message(run_id, namespace="elsewhere"), a_message(RunId("no id at all"))])

    assert [each.outcome for each in posted] == [POSTED, PostOutcome.NOT_FOUND, PostOutcome.NOT_FOUND]
    assert posted[0].run_id == run_id
    assert [each.outcome for each in strange] == [PostOutcome.NOT_FOUND, PostOutcome.NOT_FOUND]


async def test_a_run_keeps_one_message_for_each_key(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    keyed = a_message(claim.run_id, dedup_key="click-1")

    first, second = await store.post([keyed, keyed])
    (third,) = await store.post([keyed])
    await commit(store, receiving(claim, 1))
    (late,) = await store.post([keyed])

    assert (first.outcome, first.position) == (POSTED, 1)
    assert [each.outcome for each in (second, third, late)] == [DUPLICATE] * 3
    assert (third.position, late.position) == (1, 1)


async def test_a_key_that_another_message_has_is_no_duplicate(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await store.post([a_message(claim.run_id, name="added", dedup_key="7")])

    posted = await store.post(
        [
            a_message(claim.run_id, name="paid", dedup_key="7"),
            a_message(claim.run_id, name="added", kind=MessageKind.UPDATE, dedup_key="7"),
            a_message(claim.run_id, name="added", dedup_key="8"),
            a_message(claim.run_id, name="paid", dedup_key="8"),
        ]
    )

    assert [each.outcome for each in posted] == [PostOutcome.TAKEN, PostOutcome.TAKEN, POSTED, PostOutcome.TAKEN]
    assert [each.position for each in posted[:3]] == [1, 1, 2]
    assert [message.name for message in await store.undelivered(claim.run_id)] == ["added", "added"]


async def test_a_run_that_has_ended_takes_no_message(store: Store, worker: WorkerKey) -> None:
    """P19."""
    claim = await start_and_claim(store, worker)
    await store.post([a_message(claim.run_id, dedup_key="in time")])
    await commit(store, a_change(claim, transition=completed()))

    late, again = await store.post([a_message(claim.run_id), a_message(claim.run_id, dedup_key="in time")])

    assert (late.outcome, late.status) == (PostOutcome.CLOSED, RunStatus.COMPLETED)
    assert again.outcome is DUPLICATE
    assert [message.position for message in await store.undelivered(claim.run_id)] == [1]


async def test_a_run_that_sleeps_is_due_at_once(store: Store, worker: WorkerKey) -> None:
    sleeper, waiter = await start_and_claim(store, worker), await start_and_claim(store, worker)
    await commit(store, a_change(sleeper, transition=asleep(FAR_AHEAD)), a_change(waiter, transition=asleep(None)))
    assert (await store.claim(a_request(worker))).claims == ()

    await store.post([a_message(sleeper.run_id), a_message(waiter.run_id)])

    claims = (await store.claim(a_request(worker))).claims
    assert {claim.run_id for claim in claims} == {sleeper.run_id, waiter.run_id}
    assert [(claim.inbox, [message.position for message in claim.mail]) for claim in claims] == [(1, [1])] * 2


async def test_a_run_that_is_for_later_is_not_due_before(store: Store, worker: WorkerKey) -> None:
    """P18."""
    (run_id,) = await start(store, a_run(available_at=FAR_AHEAD))

    await store.post([a_message(run_id)])

    assert (await store.claim(a_request(worker))).claims == ()


async def test_mail_that_a_parking_run_has_not_seen_makes_it_due(store: Store, worker: WorkerKey) -> None:
    """No wake-up is lost between the last look and the sleep."""
    claim = await start_and_claim(store, worker)
    await store.post([a_message(claim.run_id)])

    await commit(store, a_change(claim, transition=asleep(FAR_AHEAD, inbox=0)))

    (again,) = (await store.claim(a_request(worker))).claims
    assert [message.position for message in again.mail] == [1]
    await commit(store, a_change(again, transition=asleep(FAR_AHEAD, inbox=1)))
    assert (await store.claim(a_request(worker))).claims == ()


async def test_a_worker_finds_what_came_for_the_runs_that_it_has(store: Store, worker: WorkerKey) -> None:
    first, second = await start_and_claim(store, worker), await start_and_claim(store, worker)
    other = await start_and_claim(store, await a_worker(store))
    await store.post([a_message(first.run_id), a_message(other.run_id), a_message(first.run_id, name="closed")])

    mail = await store.mail(worker, {first.run_id: 0, second.run_id: 0})
    seen = await store.mail(worker, {first.run_id: 2, second.run_id: 0})

    assert mail.inbox == {first.run_id: 2}
    assert [message.name for message in mail.messages[first.run_id]] == ["opened", "closed"]
    assert (seen.inbox, seen.messages) == ({}, {})


async def test_a_message_is_received_by_one_record(store: Store, worker: WorkerKey) -> None:
    """P19."""
    claim = await start_and_claim(store, worker)
    await store.post([a_message(claim.run_id), a_message(claim.run_id, payload="false")])

    committed = await commit(store, receiving(claim, 1))

    await kill(store, worker)
    again = await claim_one(store, await a_worker(store))
    assert committed.outcomes == (Applied.APPLIED,)
    assert [message.position for message in again.mail] == [2]
    assert [(record.kind, record.output, record.message) for record in again.history] == [(StepKind.SIGNAL, "true", 1)]


async def test_who_lost_the_run_receives_nothing(store: Store, worker: WorkerKey) -> None:
    """P6."""
    claim = await start_and_claim(store, worker)
    await store.post([a_message(claim.run_id)])
    await commit(store, a_change(claim, transition=given_back()))

    committed = await commit(store, receiving(claim, 1))

    assert committed.outcomes == (Applied.LOST,)
    assert [message.position for message in await store.undelivered(claim.run_id)] == [1]


async def test_a_receipt_that_is_written_again_is_there_once(store: Store, worker: WorkerKey) -> None:
    """P4."""
    claim = await start_and_claim(store, worker)
    await store.post([a_message(claim.run_id)])
    await commit(store, receiving(claim, 1))

    committed = await commit(store, receiving(claim, 1))

    assert committed.outcomes == (Applied.ALREADY,)
    assert await store.undelivered(claim.run_id) == []


async def test_a_message_that_was_received_in_vain_is_there_again(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await store.post([a_message(claim.run_id)])
    await commit(store, receiving(claim, 1))

    await commit(store, Change(run_id=claim.run_id, fence=claim.fence, returned=(1,)))

    assert [message.position for message in await store.undelivered(claim.run_id)] == [1]


async def test_many_who_post_at_once_get_places_of_their_own(store: Store) -> None:
    (run_id,) = await start(store)

    answers = await asyncio.gather(*(store.post([a_message(run_id)]) for _ in range(50)))

    assert sorted(posted.position or 0 for (posted,) in answers) == list(range(1, 51))


FIRST = FirstMessage(kind=MessageKind.SIGNAL, name="opened", payload="true")


async def test_a_run_can_be_born_with_a_message(store: Store, worker: WorkerKey) -> None:
    runs = [a_run(message=FIRST), a_run(), a_run(message=FIRST, id="cart-1")]

    answers = await store.start(runs)
    await store.post([a_message(runs[0].run_id, name="closed")])

    claims = {claim.run_id: claim for claim in (await store.claim(a_request(worker))).claims}
    assert all(answer.created for answer in answers)
    mail = [[(each.position, each.name, each.payload) for each in claims[run.run_id].mail] for run in runs]
    assert mail == [[(1, "opened", "true"), (2, "closed", "true")], [], [(1, "opened", "true")]]
    assert [claims[run.run_id].inbox for run in runs] == [2, 0, 1]


async def test_a_start_that_is_made_again_leaves_one_message(store: Store) -> None:
    """P4."""
    run = a_run(message=FIRST, id="cart-1")
    await store.start([run])

    (again,) = await store.start([run])

    assert again.created
    assert [message.position for message in await store.undelivered(run.run_id)] == [1]


async def test_a_start_that_finds_its_run_there_leaves_no_message(store: Store) -> None:
    """P1: whoever finds another run posts to that, once it knows that it is the one that it wants."""
    (first,) = await start(store, a_run(id="cart-1"))
    others = [a_run(message=FIRST, id="cart-1") for _ in range(5)]

    answers = await asyncio.gather(*(store.start([other]) for other in others))

    assert {answer.run_id for (answer,) in answers} == {first}
    assert await store.undelivered(first) == []


async def test_what_a_run_receives_and_gives_back_in_one_batch_is_there_again(store: Store, worker: WorkerKey) -> None:
    """P19: it was being received when the body ended."""
    claim = await start_and_claim(store, worker)
    await store.post([a_message(claim.run_id), a_message(claim.run_id, name="closed")])
    ending = Change(run_id=claim.run_id, fence=claim.fence, returned=(1,), transition=completed())

    committed = await commit(store, receiving(claim, 1), ending)
    again = await commit(store, receiving(claim, 1), ending)

    assert committed.outcomes == (Applied.APPLIED, Applied.APPLIED)
    assert again.outcomes == (Applied.ALREADY, Applied.ALREADY)
    assert [message.position for message in await store.undelivered(claim.run_id)] == [1, 2]


def an_update(run_id: RunId, **fields: Any) -> NewMessage:
    return a_message(run_id, kind=MessageKind.UPDATE, name="approve", **fields)


async def test_an_update_is_answered_once(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await store.post([an_update(claim.run_id), an_update(claim.run_id)])
    answer = Change(run_id=claim.run_id, fence=claim.fence, replies=(Reply(position=2, reply='"yes"'),))
    again = Change(run_id=claim.run_id, fence=claim.fence, replies=(Reply(position=2, reply='"no"'),))

    await commit(store, answer, again)
    await commit(store, again)

    answers = await store.answers([(claim.run_id, 1), (claim.run_id, 2), (claim.run_id, 3), (a_run_id(), 1)])
    assert sorted((each.position, each.reply, each.status) for each in answers) == [
        (1, None, RunStatus.RUNNING),
        (2, '"yes"', RunStatus.RUNNING),
    ]
    await commit(store, a_change(claim, transition=completed()))
    assert [each.status for each in await store.answers([(claim.run_id, 1)])] == [RunStatus.COMPLETED]


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS.keys())
async def test_a_run_shows_the_last_value_under_each_key(store: Store, worker: WorkerKey, text: str) -> None:
    claim, other = await start_and_claim(store, worker), await start_and_claim(store, worker)

    await commit(store, publishing(claim, "progress", "1"), publishing(claim, "progress", text))
    await commit(store, publishing(claim, text[:200], "2"))
    await commit(store, publishing(claim, text[:200], "3"))

    assert await store.value(claim.run_id, "progress") == text
    assert await store.value(claim.run_id, text[:200]) == "3"
    assert await store.value(other.run_id, "progress") is None
    assert await store.value(RunId("no id at all"), "progress") is None


async def test_who_lost_the_run_neither_answers_nor_shows_anything(store: Store, worker: WorkerKey) -> None:
    """P6."""
    claim = await start_and_claim(store, worker)
    await store.post([an_update(claim.run_id)])
    await commit(store, a_change(claim, transition=given_back()))

    answer = Change(run_id=claim.run_id, fence=claim.fence, replies=(Reply(position=1, reply='"yes"'),))
    committed = await commit(store, answer, publishing(claim, "progress", "1"))

    assert committed.outcomes == (Applied.LOST, Applied.LOST)
    assert [each.reply for each in await store.answers([(claim.run_id, 1)])] == [None]
    assert await store.value(claim.run_id, "progress") is None


def publishing(claim: Claim, key: str, value: str) -> Change:
    return Change(run_id=claim.run_id, fence=claim.fence, published=(Published(key=key, value=value),))
