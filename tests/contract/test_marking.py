"""Executions that are to be made at most once: marks in `Store.commit`, and what the next claim knows of them."""

from __future__ import annotations

from typing import Any

import pytest

from kagzi.model.change import Applied, Change, Transition
from kagzi.model.claim import Claim
from kagzi.model.run import RunStatus, WorkerKey
from kagzi.model.step import FailedAttempt, StartMark, StepRecord, StepStatus, Tries
from kagzi.store.protocol import Store
from tests.contract.builders import (
    FAR_AHEAD,
    LONG_AGO,
    a_change,
    a_record,
    a_worker,
    asleep,
    claim_one,
    commit,
    given_back,
    kill,
    start_and_claim,
)

STEP = "0/charge#1"


def a_mark(attempt: int = 1, **fields: Any) -> StartMark:
    defaults: dict[str, Any] = {"step_id": STEP, "attempt": attempt, "started_at": LONG_AGO}
    return StartMark(**(defaults | fields))


def marking(claim: Claim, *marks: StartMark, transition: Transition | None = None) -> Change:
    return Change(run_id=claim.run_id, fence=claim.fence, marks=marks, transition=transition)


def failing(claim: Claim, *records: StepRecord, **fields: Any) -> Change:
    """Execution 1 of the step failed."""
    defaults: dict[str, Any] = {
        "step_id": STEP,
        "attempt": 1,
        "kind": "NETWORK_ERROR",
        "message": "no answer",
        "error": "{}",
        "started_at": LONG_AGO,
    }
    failed = FailedAttempt(**(defaults | fields))
    return Change(run_id=claim.run_id, fence=claim.fence, records=records, failed=(failed,))


def a_failed_record(**fields: Any) -> StepRecord:
    return a_record(step_id=STEP, status=StepStatus.FAILED, output=None, error="{}", **fields)


async def test_a_mark_is_seen_at_once_and_known_to_the_next_claim(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)

    committed = await commit(store, marking(claim, a_mark(3, earlier_attempts=1)))

    (step,) = await store.open_steps(claim.run_id)
    assert committed.outcomes == (Applied.APPLIED,)
    assert (step.status, step.attempts, step.started_at) == (StepStatus.RUNNING, 3, LONG_AGO)
    await kill(store, worker)
    again = await claim_one(store, await a_worker(store))
    assert again.tries == {STEP: Tries(used=2, earlier=1, in_doubt=True)}
    assert again.history == ()


async def test_a_mark_in_a_batch_with_others_is_stored(store: Store, worker: WorkerKey) -> None:
    first, second = await start_and_claim(store, worker), await start_and_claim(store, worker)
    other = a_mark(step_id="0/other#1")

    committed = await commit(store, a_change(second, a_record()), marking(first, a_mark(), other))

    assert committed.outcomes == (Applied.APPLIED, Applied.APPLIED)
    assert {step.step_id for step in await store.open_steps(first.run_id)} == {STEP, "0/other#1"}


async def test_a_mark_that_is_written_again_is_ours(store: Store, worker: WorkerKey) -> None:
    """P4: the answer to the first try was lost."""
    claim = await start_and_claim(store, worker)
    await commit(store, marking(claim, a_mark()))

    again = await commit(store, marking(claim, a_mark()))

    assert Applied.LOST not in again.outcomes
    assert len(await store.open_steps(claim.run_id)) == 1


async def test_a_mark_whose_run_was_let_go_of_in_the_same_lost_batch_is_ours(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    batch = marking(claim, a_mark()), a_change(claim, transition=asleep())
    await commit(store, *batch)

    again = await commit(store, *batch)

    assert again.outcomes == (Applied.ALREADY, Applied.ALREADY)


async def test_a_worker_that_lost_its_run_cannot_mark_a_step(store: Store, worker: WorkerKey) -> None:
    """P6: nothing is recorded, so nothing may be executed."""
    claim = await start_and_claim(store, worker)
    await kill(store, worker)
    await claim_one(store, await a_worker(store))

    committed = await commit(store, marking(claim, a_mark()))

    assert committed.outcomes == (Applied.LOST,)
    assert await store.open_steps(claim.run_id) == []


@pytest.mark.parametrize("in_doubt", [True, False])
async def test_a_failure_says_whether_the_step_is_still_in_doubt(
    store: Store, worker: WorkerKey, in_doubt: bool
) -> None:
    claim = await start_and_claim(store, worker)
    await commit(store, marking(claim, a_mark()))

    await commit(store, failing(claim, wake_at=FAR_AHEAD, in_doubt=in_doubt))

    await kill(store, worker)
    again = await claim_one(store, await a_worker(store))
    assert again.tries == {STEP: Tries(used=1, wake_at=FAR_AHEAD, in_doubt=in_doubt)}


@pytest.mark.parametrize("in_doubt", [True, False])
async def test_a_later_attempt_of_the_run_knows_whether_a_failed_step_is_in_doubt(
    store: Store, worker: WorkerKey, in_doubt: bool
) -> None:
    claim = await start_and_claim(store, worker)
    await commit(store, marking(claim, a_mark()))
    await commit(store, failing(claim, a_failed_record(in_doubt=in_doubt), in_doubt=in_doubt))
    reopened = Transition(status=RunStatus.PENDING, reopened_seq=2, error="{}")
    await commit(store, a_change(claim, transition=reopened))

    again = await claim_one(store, worker)

    assert again.tries == {STEP: Tries(used=1, earlier=1, in_doubt=in_doubt)}
    await commit(store, marking(again, a_mark(2, earlier_attempts=1, run_attempt=2)))
    await kill(store, worker)
    third = await claim_one(store, await a_worker(store))
    assert third.tries == {STEP: Tries(used=1, earlier=1, in_doubt=True)}


async def test_a_step_that_was_interrupted_is_recorded_as_such(store: Store, worker: WorkerKey) -> None:
    """P11: a replay must raise the very same."""
    claim = await start_and_claim(store, worker)
    await commit(store, marking(claim, a_mark()))
    await commit(store, failing(claim, a_failed_record(in_doubt=True), in_doubt=True))
    await commit(store, a_change(claim, transition=given_back()))

    again = await claim_one(store, worker)

    (record,) = again.history
    assert record.in_doubt
    assert again.tries == {}


async def test_a_step_that_was_marked_is_finished_by_its_record(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await commit(store, marking(claim, a_mark()))

    await commit(store, a_change(claim, a_record(step_id=STEP)), a_change(claim, transition=given_back()))

    assert await store.open_steps(claim.run_id) == []
    again = await claim_one(store, worker)
    assert [record.step_id for record in again.history] == [STEP]
    assert again.tries == {}
