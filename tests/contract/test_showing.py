"""What an executing step tells of itself: `Store.show`, and what the next claim knows of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from kagzi.model.change import Change, Transition
from kagzi.model.claim import Claim
from kagzi.model.run import RunStatus, WorkerKey
from kagzi.model.step import FailedAttempt, OpenStep, StepStatus, Tries
from kagzi.store.protocol import Store
from tests.contract.builders import (
    FAR_AHEAD,
    HOSTILE_TEXTS,
    LONG_AGO,
    a_change,
    a_record,
    a_worker,
    claim_one,
    commit,
    kill,
    start_and_claim,
)

STEP = "0/crawl#1"
SECOND = timedelta(seconds=1)


def a_step(claim: Claim, details: str | None, **fields: Any) -> OpenStep:
    """The first execution of the step, which told that at the end of time as far as people remember it."""
    defaults: dict[str, Any] = {
        "run_id": claim.run_id,
        "fence": claim.fence,
        "step_id": STEP,
        "started_at": LONG_AGO,
        "heartbeat_details": details,
        "heartbeat_at": LONG_AGO + SECOND,
    }
    return OpenStep(**(defaults | fields))


def a_failure(claim: Claim, **fields: Any) -> Change:
    defaults: dict[str, Any] = {
        "step_id": STEP,
        "attempt": 1,
        "kind": "TIMEOUT",
        "message": "silent",
        "error": "{}",
        "started_at": LONG_AGO,
        "wake_at": LONG_AGO,
    }
    return Change(run_id=claim.run_id, fence=claim.fence, failed=(FailedAttempt(**(defaults | fields)),))


async def test_details_are_shown_and_come_with_the_next_claim(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    texts = {f"0/{name}#1": text for name, text in HOSTILE_TEXTS.items()}

    await store.show([a_step(claim, text, step_id=step_id) for step_id, text in texts.items()])

    steps = await store.open_steps(claim.run_id)
    assert {step.step_id: step.heartbeat_details for step in steps} == texts
    assert {(step.status, step.heartbeat_at) for step in steps} == {(StepStatus.RUNNING, LONG_AGO + SECOND)}
    await kill(store, worker)
    again = await claim_one(store, await a_worker(store))
    assert again.tries == {step_id: Tries(used=0, heartbeat_details=text) for step_id, text in texts.items()}


async def test_later_details_take_the_place_of_earlier_ones_and_not_the_other_way_round(
    store: Store, worker: WorkerKey
) -> None:
    """P4: a statement whose connection was lost may be carried out after the one that followed it."""
    claim = await start_and_claim(store, worker)
    await store.show([a_step(claim, "1")])
    await store.show([a_step(claim, "2", heartbeat_at=LONG_AGO + 3 * SECOND)])

    await store.show([a_step(claim, "late", heartbeat_at=LONG_AGO + 2 * SECOND)])

    (step,) = await store.open_steps(claim.run_id)
    assert (step.heartbeat_details, step.heartbeat_at) == ("2", LONG_AGO + 3 * SECOND)


async def test_a_sign_of_life_without_details_leaves_those_before(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await store.show([a_step(claim, "1")])

    await store.show([a_step(claim, None, heartbeat_at=LONG_AGO + 2 * SECOND)])

    (step,) = await store.open_steps(claim.run_id)
    assert (step.heartbeat_details, step.heartbeat_at) == ("1", LONG_AGO + 2 * SECOND)


async def test_whoever_lost_the_run_shows_nothing(store: Store, worker: WorkerKey) -> None:
    """P6."""
    claim = await start_and_claim(store, worker)
    await kill(store, worker)
    again = await claim_one(store, await a_worker(store))

    await store.show([a_step(claim, "lost")])

    assert await store.open_steps(again.run_id) == []


async def test_an_execution_that_is_over_is_not_shown_again(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await store.show([a_step(claim, "1")])
    await commit(store, a_failure(claim, heartbeat_details="2", wake_at=FAR_AHEAD))

    await store.show([a_step(claim, "late", heartbeat_at=FAR_AHEAD)])

    (step,) = await store.open_steps(claim.run_id)
    assert (step.status, step.wake_at, step.heartbeat_details) == (StepStatus.RETRYING, FAR_AHEAD, "2")
    await commit(store, a_change(claim, a_record(step_id=STEP)))
    await store.show([a_step(claim, "later still", heartbeat_at=FAR_AHEAD)])
    assert [step.status for step in await store.steps(claim.run_id)] == [StepStatus.COMPLETED]


async def test_the_next_execution_has_the_details_of_the_last_and_then_its_own(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await store.show([a_step(claim, "1")])
    await commit(store, a_failure(claim))
    (between,) = await store.open_steps(claim.run_id)

    await store.show([a_step(claim, "2", attempts=2, heartbeat_at=LONG_AGO + 2 * SECOND)])

    (step,) = await store.open_steps(claim.run_id)
    assert (between.heartbeat_details, step.heartbeat_details) == ("1", "2")
    assert (step.status, step.attempts, step.wake_at) == (StepStatus.RUNNING, 2, None)


async def test_a_later_attempt_of_the_run_shows_and_has_the_details_of_what_had_failed(
    store: Store, worker: WorkerKey
) -> None:
    claim = await start_and_claim(store, worker)
    await store.show([a_step(claim, "1")])
    failed = a_record(step_id=STEP, status=StepStatus.FAILED, output=None, error="{}")
    done = a_record(2, step_id="0/done#1")
    await commit(store, a_change(claim, failed, done))
    reopened = Transition(status=RunStatus.PENDING, reopened_seq=3, error="{}")
    await commit(store, a_change(claim, transition=reopened))
    again = await claim_one(store, worker)
    assert again.tries == {STEP: Tries(used=1, earlier=1, heartbeat_details="1")}

    mine = {"attempts": 2, "earlier_attempts": 1, "run_attempt": 2}
    await store.show([a_step(again, "2", **mine), a_step(again, "x", step_id="0/done#1", **mine)])

    (step,) = await store.open_steps(again.run_id)
    assert (step.step_id, step.status, step.heartbeat_details) == (STEP, StepStatus.RUNNING, "2")
    await kill(store, worker)
    third = await claim_one(store, await a_worker(store))
    assert third.tries == {STEP: Tries(used=1, earlier=1, heartbeat_details="2")}
    assert list(third.earlier) == ["0/done#1"]
