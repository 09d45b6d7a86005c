"""Ending runs before their time: `Store.cancel`, and what others then find."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kagzi.model.cancelling import CancelAnswer, CancelOrder, CancelOutcome, Expired, Expiry
from kagzi.model.change import Applied, Transition
from kagzi.model.run import MessageKind, RunId, RunStatus
from kagzi.store.protocol import Store
from tests.contract.builders import (
    FAR_AHEAD,
    HOSTILE_TEXTS,
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
    start,
    start_and_claim,
)

ENDED, ASKED, ALREADY = CancelOutcome.ENDED, CancelOutcome.ASKED, CancelOutcome.ALREADY


async def cancel(store: Store, run_id: RunId, **fields: Any) -> CancelAnswer:
    defaults: dict[str, Any] = {"namespace": "default", "run_id": run_id, "error": '{"kind":"CANCELLED"}'}
    (answer,) = await store.cancel([CancelOrder(**(defaults | fields))])
    return answer


async def test_a_run_that_nobody_has_begun_is_cancelled_at_once(store: Store) -> None:
    (run_id,) = await start(store, a_run(delay_s=60.0))
    worker = await a_worker(store)

    answer = await cancel(store, run_id, error="why")

    run = await store.get(run_id)
    assert run is not None
    assert (answer.outcome, answer.status) == (ENDED, RunStatus.PENDING)
    assert (run.status, run.error, run.available_at, run.worker_key) == (RunStatus.CANCELLED, "why", None, None)
    assert run.finished_at is not None
    assert await store.undelivered(run_id) == []
    assert (await store.claim(a_request(worker))).claims == ()


async def test_a_run_that_was_begun_gets_mail(store: Store) -> None:
    claim = await start_and_claim(store, await a_worker(store))

    answer = await cancel(store, claim.run_id, error="why")

    (message,) = await store.undelivered(claim.run_id)
    run = await store.get(claim.run_id)
    assert run is not None
    assert (answer.outcome, answer.status) == (ASKED, RunStatus.RUNNING)
    assert (message.kind, message.payload, message.position) == (MessageKind.CANCEL, "why", 1)
    assert (run.status, run.fence, run.inbox) == (RunStatus.RUNNING, claim.fence, 1)


@pytest.mark.parametrize(
    "transition", [asleep(FAR_AHEAD), asleep(), Transition(status=RunStatus.PENDING, wake_at=FAR_AHEAD)]
)
async def test_a_run_that_was_begun_and_waits_is_due_at_once(store: Store, transition: Transition) -> None:
    claim = await start_and_claim(store, await a_worker(store))
    await commit(store, a_change(claim, transition=transition))
    worker = await a_worker(store)

    answer = await cancel(store, claim.run_id)

    again = await claim_one(store, worker)
    assert answer.outcome is ASKED
    assert [message.kind for message in again.mail] == [MessageKind.CANCEL]


async def test_a_run_that_waits_for_its_next_attempt_is_cancelled_at_once(store: Store) -> None:
    claim = await start_and_claim(store, await a_worker(store))
    again = Transition(status=RunStatus.PENDING, wake_at=FAR_AHEAD, error="failed", reopened_seq=1)
    await commit(store, a_change(claim, transition=again))

    answer = await cancel(store, claim.run_id, error="why")

    run = await store.get(claim.run_id)
    assert run is not None
    assert (answer.outcome, run.status, run.error) == (ENDED, RunStatus.CANCELLED, "why")


async def test_a_run_with_undos_is_not_ended_without_its_body_between_two_attempts(store: Store) -> None:
    worker = await a_worker(store)
    cancelled, late = [await start_and_claim(store, worker, timeout_s=limit) for limit in (None, OVER)]
    again = Transition(status=RunStatus.PENDING, wake_at=FAR_AHEAD, error="failed", reopened_seq=1, undoes=True)
    for claim in (cancelled, late):
        await commit(store, a_change(claim, transition=again))

    answer = await cancel(store, cancelled.run_id, error="why")
    expired = await expire(store)

    claims = {claim.run_id: claim for claim in [await claim_one(store, worker), await claim_one(store, worker)]}
    assert (answer.outcome, expired.asked, expired.failed) == (ASKED, (late.run_id,), ())
    assert {run_id: [message.kind for message in claim.mail] for run_id, claim in claims.items()} == {
        cancelled.run_id: [MessageKind.CANCEL],
        late.run_id: [MessageKind.CANCEL],
    }


async def test_only_the_first_order_counts(store: Store) -> None:
    claim = await start_and_claim(store, await a_worker(store))
    (queued,) = await start(store)

    answers = [await cancel(store, run_id, error=text) for run_id in (claim.run_id, queued) for text in ("one", "two")]

    assert [answer.outcome for answer in answers] == [ASKED, ALREADY, ENDED, ALREADY]
    (message,) = await store.undelivered(claim.run_id)
    run = await store.get(queued)
    assert run is not None
    assert (message.payload, run.error) == ("one", "one")


async def test_many_orders_at_once_leave_one_message(store: Store) -> None:
    claim = await start_and_claim(store, await a_worker(store))

    answers = await asyncio.gather(*(cancel(store, claim.run_id) for _ in range(10)))

    assert sorted(answer.outcome.name for answer in answers) == ["ALREADY"] * 9 + ["ASKED"]
    assert len(await store.undelivered(claim.run_id)) == 1


async def test_a_run_that_was_ended_from_outside_can_not_be_written_by_its_worker(store: Store) -> None:
    """P6, P13, P20."""
    claim = await start_and_claim(store, await a_worker(store))

    answer = await cancel(store, claim.run_id, at_once=True, error="why")
    (late,) = (await commit(store, a_change(claim, transition=completed()))).outcomes
    again = await cancel(store, claim.run_id, at_once=True, error="again")

    run = await store.get(claim.run_id)
    assert run is not None
    assert (answer.outcome, late, again.outcome) == (ENDED, Applied.LOST, ALREADY)
    assert (run.status, run.error, run.fence) == (RunStatus.CANCELLED, "why", claim.fence + 1)


async def test_a_run_that_was_asked_to_end_can_still_be_ended_at_once(store: Store) -> None:
    claim = await start_and_claim(store, await a_worker(store))

    asked = await cancel(store, claim.run_id, error="asked")
    ended = await cancel(store, claim.run_id, error="ended", at_once=True)

    run = await store.get(claim.run_id)
    assert run is not None
    assert (asked.outcome, ended.outcome, run.status, run.error) == (ASKED, ENDED, RunStatus.CANCELLED, "ended")


async def test_a_run_that_has_ended_is_left_as_it_is(store: Store) -> None:
    """P13, P20."""
    worker = await a_worker(store)
    done, asked = await start_and_claim(store, worker), await start_and_claim(store, worker)
    await commit(store, a_change(done, transition=completed()))
    await cancel(store, asked.run_id)
    await commit(store, a_change(asked, transition=completed()))

    answers = [
        await cancel(store, claim.run_id, at_once=at_once) for claim in (done, asked) for at_once in (False, True)
    ]

    assert [answer.outcome for answer in answers] == [CancelOutcome.CLOSED] * 2 + [ALREADY] * 2
    runs = [await store.get(claim.run_id) for claim in (done, asked)]
    assert [run.status for run in runs if run is not None] == [RunStatus.COMPLETED] * 2


async def test_a_run_that_is_not_there_is_not_found(store: Store) -> None:
    (run_id,) = await start(store)

    answers = [await cancel(store, each) for each in (a_run_id(), RunId("no id at all"))]
    elsewhere = await cancel(store, run_id, namespace="elsewhere")

    assert {answer.outcome for answer in [*answers, elsewhere]} == {CancelOutcome.NOT_FOUND}


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS.keys())
async def test_what_a_run_is_to_end_with_comes_back_as_it_was_given(store: Store, text: str) -> None:
    """P24."""
    claim = await start_and_claim(store, await a_worker(store))
    (queued,) = await start(store)

    await cancel(store, claim.run_id, error=text)
    await cancel(store, queued, error=text)

    (message,) = await store.undelivered(claim.run_id)
    run = await store.get(queued)
    assert run is not None
    assert (message.payload, run.error) == (text, text)


async def test_a_worker_learns_which_of_its_runs_are_gone(store: Store) -> None:
    worker = await a_worker(store)
    await start(store, a_run(), a_run(), a_run())
    kept, ended, released = [await claim_one(store, worker) for _ in range(3)]
    await cancel(store, ended.run_id, at_once=True)
    await commit(store, a_change(released, transition=given_back()))

    mail = await store.mail(worker, {claim.run_id: 0 for claim in (kept, ended, released)})

    assert set(mail.gone) == {ended.run_id, released.run_id}


async def test_an_order_is_found_by_whoever_parks_the_run_without_having_seen_it(store: Store) -> None:
    """P14, P20."""
    claim = await start_and_claim(store, await a_worker(store))
    await cancel(store, claim.run_id)

    await commit(store, a_change(claim, transition=asleep(FAR_AHEAD, inbox=0)))

    run = await store.get(claim.run_id)
    assert run is not None
    assert run.available_at is not None
    assert run.available_at < FAR_AHEAD - timedelta(days=1)


async def test_a_run_that_fails_without_having_heard_of_the_order_is_due_at_once(store: Store) -> None:
    """P14: its next attempt is not waited for."""
    worker = await a_worker(store)
    claim = await start_and_claim(store, worker)
    await cancel(store, claim.run_id)
    again = Transition(status=RunStatus.PENDING, wake_at=FAR_AHEAD, error="failed", reopened_seq=1)

    await commit(store, a_change(claim, transition=again))

    second = await claim_one(store, worker)
    assert (second.attempts, [message.kind for message in second.mail]) == (2, [MessageKind.CANCEL])


# -- deadlines -----------------------------------------------------------------------------------------------------

EXPIRY = Expiry(run_error="run", start_error="start")
OVER = -60.0
"""A timeout that was over a minute before the run was started: no test need wait for it."""


async def expire(store: Store, expiry: Expiry = EXPIRY) -> Expired:
    return await store.expire("default", expiry)


async def ends_of(store: Store, *run_ids: RunId) -> list[tuple[str, str | None]]:
    runs = [await store.get(run_id) for run_id in run_ids]
    return [(run.status.value, run.error) for run in runs if run is not None]


async def test_a_queued_run_fails_when_its_time_is_over(store: Store) -> None:
    run_ids = await start(
        store, a_run(start_timeout_s=OVER), a_run(timeout_s=OVER), a_run(timeout_s=OVER, start_timeout_s=OVER), a_run()
    )

    expired = await expire(store)

    assert set(expired.failed) == set(run_ids[:3])
    assert expired.asked == ()
    assert await ends_of(store, *run_ids) == [
        ("FAILED", "start"),
        ("FAILED", "run"),
        ("FAILED", "start"),
        ("PENDING", None),
    ]
    assert await expire(store) == Expired()


async def test_a_run_that_was_begun_is_asked_to_end_once_when_its_time_is_over(store: Store) -> None:
    worker = await a_worker(store)
    running = await start_and_claim(store, worker, timeout_s=OVER, start_timeout_s=OVER)
    asleep_ = await start_and_claim(store, worker, timeout_s=OVER)
    await commit(store, a_change(asleep_, transition=asleep(FAR_AHEAD)))

    first, second = await expire(store), await expire(store)

    again = await claim_one(store, worker)
    assert set(first.asked) == {running.run_id, asleep_.run_id}
    assert (first.failed, second.failed, second.asked) == ((), (), ())
    assert [(message.kind, message.payload) for message in again.mail] == [(MessageKind.CANCEL, "run")]
    assert [message.payload for message in await store.undelivered(running.run_id)] == ["run"]


async def test_a_deadline_counts_from_when_the_run_falls_due(store: Store) -> None:
    run_ids = await start(
        store,
        a_run(timeout_s=30.0, delay_s=60.0),
        a_run(start_timeout_s=30.0, available_at=FAR_AHEAD),
        a_run(start_timeout_s=30.0),
    )

    expired = await expire(store)

    (run,) = [await store.get(run_ids[2])]
    assert run is not None
    assert (expired.failed, expired.asked) == ((), ())
    assert expired.next_due == run.created_at + timedelta(seconds=30)


async def test_a_deadline_that_no_clock_reaches_holds_up_no_other(store: Store) -> None:
    """P23."""
    days, far = 86_400.0, datetime(9999, 12, 30, tzinfo=UTC)
    await start(
        store,
        a_run(timeout_s=900 * days, available_at=far),
        a_run(start_timeout_s=900 * days, available_at=far),
    )

    expired = await expire(store)
    (late,) = await start(store, a_run(timeout_s=OVER))

    assert expired.next_due is not None
    assert expired.next_due > far
    assert (await expire(store)).failed == (late,)


async def test_what_has_ended_or_was_begun_in_time_is_left_alone(store: Store) -> None:
    """P13, P20."""
    worker = await a_worker(store)
    done = await start_and_claim(store, worker, timeout_s=OVER)
    await commit(store, a_change(done, transition=completed()))
    asked = await start_and_claim(store, worker, timeout_s=OVER)
    await cancel(store, asked.run_id)
    begun = await start_and_claim(store, worker, start_timeout_s=OVER)
    await commit(store, a_change(begun, transition=given_back()))

    expired = await expire(store)

    assert expired == Expired()


async def test_a_run_that_was_started_twice_keeps_its_first_deadline(store: Store) -> None:
    run = a_run(id="once", timeout_s=3600.0)
    await start(store, run)

    await start(store, a_run(id="once", timeout_s=OVER))
    await start(store, run)

    assert (await expire(store)).failed == ()


async def test_many_deadlines_are_met_in_batches(store: Store) -> None:
    await start(store, *(a_run(timeout_s=OVER) for _ in range(5)))

    passes = [await expire(store, Expiry(run_error="run", start_error="start", batch=2)) for _ in range(3)]

    assert [(len(each.failed), each.more) for each in passes] == [(2, True), (2, True), (1, False)]
