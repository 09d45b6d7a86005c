"""Events: `emit`, `await_events`, `distribute`, and who handles them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from kagzi.model.change import Change
from kagzi.model.claim import Claim
from kagzi.model.event import Awaiting, Enrolment, EventHandler, EventWait, Forgetting, KeyTaken, PendingEvent
from kagzi.model.message import Message
from kagzi.model.run import MessageKind, WorkerKey
from kagzi.model.step import StepKind, StepRecord
from kagzi.store.protocol import Store
from tests.contract.builders import (
    FAR_AHEAD,
    HOSTILE_TEXTS,
    NAMESPACE,
    a_change,
    a_request,
    a_worker,
    an_event,
    asleep,
    claim_one,
    commit,
    completed,
    eventually,
    given_back,
    start_and_claim,
)

LONG_S = 3600.0


def a_wait(step: str = "first", name: str = "paid", **fields: Any) -> EventWait:
    return EventWait(step_id=f"0/{name}#{step}", name=name, **fields)


async def await_events(store: Store, claim: Claim, *waits: EventWait) -> int:
    return await store.await_events([Awaiting(run_id=claim.run_id, fence=claim.fence, waits=waits)])


async def pending(store: Store, namespace: str = NAMESPACE) -> list[PendingEvent]:
    return await store.pending_events(namespace, limit=1000)


async def distribute(store: Store, *, limit: int = 1000) -> int:
    """Give every event to all who wait for it, and say how many got one; a run may be locked for a moment."""
    given = 0

    async def until_done() -> int | None:
        nonlocal given
        waiting = [event.event_id for event in await pending(store)]
        given += (await store.distribute(waiting, limit=limit)).given
        return None if await pending(store) else given

    return await eventually(until_done)


async def came_to(store: Store, claim: Claim) -> list[Message]:
    messages = await store.undelivered(claim.run_id)
    assert all(message.kind is MessageKind.EVENT for message in messages)
    return messages


def receiving(claim: Claim, message: Message, *, seq: int = 1) -> Change:
    record = StepRecord(
        step_id=message.name, seq=seq, kind=StepKind.EVENT, output=message.payload, message=message.position
    )
    return Change(run_id=claim.run_id, fence=claim.fence, records=(record,), received=(message.position,))


async def test_an_event_comes_to_every_run_that_waits_for_it(store: Store, worker: WorkerKey) -> None:
    claims = [await start_and_claim(store, worker) for _ in range(5)]
    for claim in claims:
        assert await await_events(store, claim, a_wait()) == 0

    await store.emit([an_event()])
    given = await distribute(store)

    assert given == 5
    for claim in claims:
        assert [(each.position, each.name, each.payload) for each in await came_to(store, claim)] == [
            (1, "0/paid#first", "1")
        ]


async def test_a_wait_gets_one_event_however_often_they_are_distributed(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await await_events(store, claim, a_wait())
    events = [an_event(payload="1"), an_event(payload="2")]
    await store.emit(events)

    await asyncio.gather(*(store.distribute([event.event_id], limit=10) for event in events * 3))
    await distribute(store)
    await await_events(store, claim, a_wait())

    assert len(await came_to(store, claim)) == 1
    assert await pending(store) == []


@pytest.mark.parametrize(
    ("emitted", "waited", "fits"),
    [("", "", True), ("7", "", True), ("7", "7", True), ("7", "8", False), ("", "7", False)],
)
@pytest.mark.parametrize("looks_back", [False, True])
async def test_a_wait_with_a_key_gets_events_with_this_key(
    store: Store, worker: WorkerKey, emitted: str, waited: str, fits: bool, looks_back: bool
) -> None:
    claim = await start_and_claim(store, worker)
    wait = a_wait(key=waited, lookback_s=LONG_S if looks_back else 0.0)
    events = [an_event(key=emitted), an_event("other", key=emitted), an_event(key=emitted, namespace="elsewhere")]

    if looks_back:
        await store.emit(events)
        assert await await_events(store, claim, wait) == fits
    else:
        await await_events(store, claim, wait)
        await store.emit(events)
        assert await distribute(store) == fits

    assert len(await came_to(store, claim)) == fits


async def test_an_event_of_before_counts_for_who_looks_back(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await store.emit([an_event(payload="1")])
    await store.emit([an_event(payload="2")])
    await distribute(store)

    assert await await_events(store, claim, a_wait("blind")) == 0
    assert await await_events(store, claim, a_wait("blind"), a_wait("brief", lookback_s=1e-6)) == 0
    assert await await_events(store, claim, a_wait("blind"), a_wait("long", lookback_s=LONG_S)) == 1

    assert [(each.name, each.payload) for each in await came_to(store, claim)] == [("0/paid#long", "1")]


async def test_an_event_that_is_not_distributed_yet_counts_only_for_who_looks_back(
    store: Store, worker: WorkerKey
) -> None:
    early, late = await start_and_claim(store, worker), await start_and_claim(store, worker)
    await store.emit([an_event()])

    await await_events(store, late, a_wait())
    await await_events(store, early, a_wait(lookback_s=LONG_S))
    await distribute(store)

    assert (len(await came_to(store, late)), len(await came_to(store, early))) == (0, 1)


async def test_the_first_event_is_the_one_that_came_first_whoever_has_emitted_it(
    store: Store, worker: WorkerKey
) -> None:
    """P7: the clock of who emits is in the event's id, and decides nothing."""
    claim = await start_and_claim(store, worker)
    await await_events(store, claim, a_wait())
    by_a_slow_clock, by_a_fast_clock = an_event(payload="late"), an_event(payload="early")

    await store.emit([by_a_fast_clock])
    await store.emit([by_a_slow_clock])
    await distribute(store)

    assert [each.payload for each in await came_to(store, claim)] == ["early"]


async def test_waits_that_look_back_get_each_event_once(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    for number in range(3):
        await store.emit([an_event(payload=str(number))])

    got = []
    for number in range(4):
        await await_events(store, claim, a_wait(str(number), lookback_s=LONG_S))
        for message in await came_to(store, claim):
            got.append(message.payload)
            await commit(store, receiving(claim, message, seq=len(got)))
    await distribute(store)

    assert got == ["0", "1", "2"]


async def test_an_event_that_was_received_in_vain_is_there_for_the_next_who_looks_back(
    store: Store, worker: WorkerKey
) -> None:
    claim = await start_and_claim(store, worker)
    await store.emit([an_event()])
    await await_events(store, claim, a_wait("given up", lookback_s=LONG_S))
    (message,) = await came_to(store, claim)
    await commit(store, receiving(claim, message))
    await commit(store, Change(run_id=claim.run_id, fence=claim.fence, returned=(message.position,)))

    given = await await_events(store, claim, a_wait("next", lookback_s=LONG_S))

    assert given == 1


async def test_branches_of_one_run_get_the_same_event(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await await_events(store, claim, a_wait("left"), a_wait("right"))

    await store.emit([an_event()])

    assert await distribute(store, limit=1) == 2
    assert [each.position for each in await came_to(store, claim)] == [1, 2]


async def test_what_a_run_no_longer_waits_for_does_not_come(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await await_events(store, claim, a_wait("first"), a_wait("second", "sent"))
    await await_events(store, claim, a_wait("second", "sent"))

    await store.emit([an_event("paid"), an_event("sent")])
    await distribute(store)

    assert [each.name for each in await came_to(store, claim)] == ["0/sent#second"]


async def test_who_lost_the_run_waits_for_nothing(store: Store, worker: WorkerKey) -> None:
    """P6."""
    claim = await start_and_claim(store, worker)
    await await_events(store, claim, a_wait())
    await commit(store, a_change(claim, transition=given_back()))
    again = await claim_one(store, worker)

    await await_events(store, claim)
    await await_events(store, claim, a_wait("other", "sent"))
    await store.emit([an_event(), an_event("sent")])
    await distribute(store)

    assert [each.name for each in await came_to(store, again)] == ["0/paid#first"]


async def test_an_event_makes_a_run_that_sleeps_due(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await await_events(store, claim, a_wait())
    await commit(store, a_change(claim, transition=asleep(FAR_AHEAD)))

    await store.emit([an_event()])
    await distribute(store)

    (again,) = (await store.claim(a_request(worker))).claims
    assert [message.payload for message in again.mail] == ["1"]


async def test_a_run_that_has_ended_gets_no_event_and_holds_none_up(store: Store, worker: WorkerKey) -> None:
    claim, other = await start_and_claim(store, worker), await start_and_claim(store, worker)
    await await_events(store, claim, a_wait())
    await await_events(store, other, a_wait())
    await commit(store, a_change(claim, transition=completed()))

    await store.emit([an_event()])

    assert await distribute(store, limit=1) == 1
    assert (len(await came_to(store, claim)), len(await came_to(store, other))) == (0, 1)


async def test_an_event_for_many_is_distributed_bit_by_bit(store: Store, worker: WorkerKey) -> None:
    claims = [await start_and_claim(store, worker) for _ in range(7)]
    for claim in claims:
        await await_events(store, claim, a_wait())
    event = an_event()
    await store.emit([event])

    first = await store.distribute([event.event_id], limit=3)
    still = await pending(store)
    rest = await distribute(store, limit=3)

    assert (first.given, first.left) == (3, 1)
    assert [each.event_id for each in still] == [event.event_id]
    assert rest == 4


async def test_there_is_one_event_for_each_key(store: Store) -> None:
    """P4."""
    event = an_event(dedup_key="click")

    await asyncio.gather(*(store.emit([each]) for each in (event, event, an_event(dedup_key="click"))))
    await store.emit([an_event(dedup_key="click", namespace="elsewhere")])

    assert len(await pending(store)) == 1
    assert len(await pending(store, "elsewhere")) == 1


async def test_a_key_that_another_event_has_is_told(store: Store) -> None:
    await store.emit([an_event(key="7", dedup_key="click")])
    another = an_event("sent", key="7", dedup_key="click")
    other_key = an_event(key="8", dedup_key="click")

    same = await store.emit([an_event(key="7", dedup_key="click")])
    taken = await store.emit([another, an_event("sent"), other_key])

    assert same == []
    assert sorted(taken, key=lambda each: each.event_id) == [
        KeyTaken(event_id=each.event_id, name="paid", key="7")
        for each in sorted((another, other_key), key=lambda each: each.event_id)
    ]
    assert [each.name for each in await pending(store)] == ["paid", "sent"]


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS.keys())
async def test_an_event_comes_as_it_was_emitted(store: Store, worker: WorkerKey, text: str) -> None:
    """P24."""
    claim = await start_and_claim(store, worker)
    name = text[:200]
    await await_events(store, claim, a_wait(name=name, key=name))
    await store.enroll(NAMESPACE, Enrolment(handlers=(EventHandler(event=name, workflow="order", version=1),)))

    await store.emit([an_event(name, key=name, payload=text, call=text, dedup_key=name)])

    (event,) = await pending(store)
    await distribute(store)
    assert [message.payload for message in await came_to(store, claim)] == [text]
    assert (event.name, event.key, event.call) == (name, name, text)


# -- who handles them ----------------------------------------------------------------------------------------------

WELCOME = EventHandler(event="created", workflow="welcome", version=2, queue="mails")


async def handlers(store: Store) -> list[EventHandler]:
    event = an_event("created")
    await store.emit([event])
    found = [each for each in await pending(store) if each.event_id == event.event_id]
    await distribute(store)
    return list(found[0].handlers)


async def test_an_event_tells_who_handles_it(store: Store) -> None:
    other = EventHandler(event="created", workflow="count", version=1)
    strange = EventHandler(event="deleted", workflow="count", version=1)
    await store.enroll(NAMESPACE, Enrolment(handlers=(WELCOME, other, strange)))
    await store.enroll("elsewhere", Enrolment(handlers=(EventHandler(event="created", workflow="no", version=1),)))

    await store.emit([an_event("created", call="[7]"), an_event("nobody", call="[8]")])

    created, nobody = await pending(store)
    assert sorted(created.handlers, key=lambda each: each.workflow) == [other, WELCOME]
    assert (created.call, nobody.call, nobody.handlers) == ("[7]", None, ())


async def test_of_several_versions_of_a_handler_the_highest_counts(store: Store) -> None:
    await store.enroll(NAMESPACE, Enrolment(handlers=(WELCOME,)))
    older = EventHandler(event="created", workflow="welcome", version=1)
    await store.enroll(NAMESPACE, Enrolment(handlers=(older,)))

    assert await handlers(store) == [WELCOME]


async def test_a_handler_that_nobody_has_any_more_is_forgotten(store: Store) -> None:
    at_once = timedelta(0)
    await store.enroll(NAMESPACE, Enrolment(handlers=(WELCOME,)))

    await store.enroll(NAMESPACE, Enrolment(workflows=(("welcome", 2),)))
    assert await handlers(store) == [WELCOME], "somebody said so a moment ago"
    await store.enroll(NAMESPACE, Enrolment(stale_after=at_once))
    await store.enroll(NAMESPACE, Enrolment(workflows=(("welcome", 1), ("other", 9)), stale_after=at_once))
    await store.enroll(NAMESPACE, Enrolment(handlers=(WELCOME,), workflows=(("welcome", 2),), stale_after=at_once))
    assert await handlers(store) == [WELCOME]
    await store.enroll(NAMESPACE, Enrolment(workflows=(("welcome", 2),), stale_after=at_once))
    assert await handlers(store) == []


# -- forgetting ----------------------------------------------------------------------------------------------------


async def test_old_events_are_forgotten_once_they_are_distributed(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await store.emit([an_event()])
    await distribute(store)
    await store.emit([an_event("sent")])

    await store.forget_events(NAMESPACE, Forgetting(older_than=timedelta(hours=1)))
    assert await await_events(store, claim, a_wait(lookback_s=LONG_S)) == 1
    await store.forget_events(NAMESPACE, Forgetting(older_than=timedelta(seconds=-1)))

    assert await await_events(store, claim, a_wait("again", lookback_s=LONG_S)) == 0
    assert [each.name for each in await pending(store)] == ["sent"]


async def test_waits_of_runs_that_have_ended_are_forgotten_page_by_page(store: Store) -> None:
    worker = await a_worker(store)
    claims = [await start_and_claim(store, worker) for _ in range(5)]
    for claim in claims:
        await await_events(store, claim, a_wait())
    for claim in claims[:3]:
        await commit(store, a_change(claim, transition=completed()))
    forgetting = Forgetting(older_than=timedelta(hours=1), batch=2)

    cursors = []
    for _ in range(3):
        forgotten = await store.forget_events(NAMESPACE, forgetting)
        forgetting = Forgetting(older_than=timedelta(hours=1), batch=2, cursor=forgotten.cursor)
        cursors.append(forgotten.cursor is None)

    await store.emit([an_event()])
    event_ids = [event.event_id for event in await pending(store)]
    assert cursors == [False, False, True]
    assert (await store.distribute(event_ids, limit=10)).given == 2
