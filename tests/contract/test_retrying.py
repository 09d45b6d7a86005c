"""Executions that failed and are made again, of steps and of whole runs: `Store.commit` and `Store.claim`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from kagzi.model.change import Applied, Change, Transition
from kagzi.model.claim import Claim
from kagzi.model.run import RunStatus, WorkerKey
from kagzi.model.step import FailedAttempt, OpenStep, StepKind, StepRecord, StepStatus, Tries
from kagzi.model.worker import Beat
from kagzi.store.protocol import Store
from tests.contract.builders import (
    FAR_AHEAD,
    HOSTILE_TEXTS,
    LONG_AGO,
    a_change,
    a_record,
    a_request,
    a_worker,
    asleep,
    claim_one,
    commit,
    completed,
    given_back,
    kill,
    start_and_claim,
)

APPLIED, ALREADY, LOST = Applied.APPLIED, Applied.ALREADY, Applied.LOST
STEP = "0/charge#1"


def a_failure(attempt: int = 1, **fields: Any) -> FailedAttempt:
    """Execution number `attempt` of the step, to be followed by another."""
    defaults: dict[str, Any] = {
        "step_id": STEP,
        "attempt": attempt,
        "kind": "NETWORK_ERROR",
        "message": f"no answer to try {attempt}",
        "error": f'{{"try":{attempt}}}',
        "started_at": LONG_AGO,
        "wake_at": FAR_AHEAD,
        "max_attempts": 5,
    }
    return FailedAttempt(**(defaults | fields))


def failing(claim: Claim, *failed: FailedAttempt, records: tuple[StepRecord, ...] = ()) -> Change:
    return Change(run_id=claim.run_id, fence=claim.fence, records=records, failed=failed)


def reopened(seq: int, **fields: Any) -> Transition:
    """The end of an attempt of the run that recorded up to `seq`."""
    return Transition(status=RunStatus.PENDING, reopened_seq=seq, error='{"why":"it failed"}', **fields)


async def test_a_failed_execution_is_noted_and_its_step_stays_open(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)

    committed = await commit(store, failing(claim, a_failure(2)))

    (step,), (attempt,) = await store.open_steps(claim.run_id), await store.attempts(claim.run_id)
    assert committed.outcomes == (APPLIED,)
    assert (step.step_id, step.seq, step.kind, step.status) == (STEP, None, StepKind.STEP, StepStatus.RETRYING)
    assert (step.attempts, step.max_attempts, step.wake_at, step.error) == (2, 5, FAR_AHEAD, '{"try":2}')
    assert (attempt.step_id, attempt.attempt, attempt.error, attempt.at) == (STEP, 2, '{"try":2}', committed.now)
    assert await store.steps(claim.run_id) == [step]


async def test_the_next_claim_knows_how_often_a_step_was_executed(store: Store, worker: WorkerKey) -> None:
    """P21: counts survive crashes, and a crash is no attempt."""
    claim = await start_and_claim(store, worker)
    await commit(store, failing(claim, a_failure(1), a_failure(3, step_id="0/other#1", wake_at=LONG_AGO)))
    await commit(store, failing(claim, a_failure(2)))
    await kill(store, worker)

    again = await claim_one(store, await a_worker(store))

    assert again.tries == {
        STEP: Tries(used=2, wake_at=FAR_AHEAD),
        "0/other#1": Tries(used=3, wake_at=LONG_AGO),
    }
    assert (again.history, again.earlier, again.attempts) == ((), {}, 1)


async def test_a_step_that_was_retried_is_finished_by_its_record(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await commit(store, failing(claim, a_failure(1)))

    await commit(store, a_change(claim, a_record(1, step_id=STEP, attempts=2)), a_change(claim, transition=asleep()))

    (step,) = await store.steps(claim.run_id)
    assert (step.status, step.seq, step.attempts, step.wake_at, step.error) == (StepStatus.COMPLETED, 1, 2, None, None)
    assert await store.open_steps(claim.run_id) == []
    assert [attempt.attempt for attempt in await store.attempts(claim.run_id)] == [1]


async def test_the_last_failure_is_noted_together_with_its_record(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await commit(store, failing(claim, a_failure(1)))
    last = a_record(1, step_id=STEP, status=StepStatus.FAILED, output=None, error='{"try":2}', attempts=2)

    await commit(store, failing(claim, a_failure(2, wake_at=None), records=(last,)))

    (step,) = await store.steps(claim.run_id)
    assert (step.status, step.seq, step.error) == (StepStatus.FAILED, 1, '{"try":2}')
    assert [attempt.error for attempt in await store.attempts(claim.run_id)] == ['{"try":1}', '{"try":2}']


async def test_a_failure_that_is_written_again_is_there_once(store: Store, worker: WorkerKey) -> None:
    """P4: the answer to the first try was lost."""
    claim = await start_and_claim(store, worker)
    change = failing(claim, a_failure(1))
    await commit(store, change)

    committed = await commit(store, change)

    assert committed.outcomes != (LOST,)
    assert len(await store.attempts(claim.run_id)) == len(await store.open_steps(claim.run_id)) == 1


async def test_a_failure_that_is_written_again_with_what_lets_go_of_its_run_is_not_lost(
    store: Store, worker: WorkerKey
) -> None:
    """P4: the answer to both was lost."""
    claim = await start_and_claim(store, worker)
    changes = failing(claim, a_failure(1)), a_change(claim, transition=asleep(FAR_AHEAD))
    await commit(store, *changes)

    committed = await commit(store, *changes)

    assert committed.outcomes == (ALREADY, ALREADY)
    assert [attempt.attempt for attempt in await store.attempts(claim.run_id)] == [1]


async def test_who_lost_the_run_notes_no_failure(store: Store, worker: WorkerKey) -> None:
    """P6."""
    claim = await start_and_claim(store, worker)
    late = msgspec.structs.replace(failing(claim, a_failure(1)), fence=claim.fence - 1)

    committed = await commit(store, late, failing(claim, a_failure(2)))

    assert committed.outcomes == (LOST, APPLIED)
    assert [attempt.attempt for attempt in await store.attempts(claim.run_id)] == [2]
    assert [step.attempts for step in await store.open_steps(claim.run_id)] == [2]


async def test_a_failure_does_not_reopen_what_is_finished(store: Store, worker: WorkerKey) -> None:
    """P11."""
    claim = await start_and_claim(store, worker)
    await commit(store, a_change(claim, a_record(1, step_id=STEP)))

    await commit(store, failing(claim, a_failure(2)))

    (step,) = await store.steps(claim.run_id)
    assert (step.status, step.seq, step.output) == (StepStatus.COMPLETED, 1, '"result 1"')


async def test_failures_leave_together_with_everything_else(store: Store, worker: WorkerKey) -> None:
    claims = [await start_and_claim(store, worker) for _ in range(4)]

    committed = await commit(
        store,
        failing(claims[0], *(a_failure(step_id=f"0/{name}#1", message=text) for name, text in HOSTILE_TEXTS.items())),
        a_change(claims[1], a_record(1), a_record(2)),
        a_change(claims[2], a_record(1), transition=completed()),
        a_change(claims[3], transition=given_back()),
    )

    assert set(committed.outcomes) == {APPLIED}
    assert len(await store.attempts(claims[0].run_id)) == len(HOSTILE_TEXTS)
    assert len(await store.steps(claims[1].run_id)) == 2
    statuses = [run.status for claim in claims[2:] if (run := await store.get(claim.run_id))]
    assert statuses == [RunStatus.COMPLETED, RunStatus.PENDING]


async def test_a_heartbeat_shows_that_the_next_execution_has_begun(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await commit(store, failing(claim, a_failure(1)))
    open_step = OpenStep(run_id=claim.run_id, fence=claim.fence, step_id=STEP, started_at=FAR_AHEAD, attempts=2)

    await store.beat(Beat(worker=worker, lease=timedelta(minutes=1), open_steps=(open_step,)))

    (step,) = await store.open_steps(claim.run_id)
    assert (step.status, step.attempts, step.started_at) == (StepStatus.RUNNING, 2, FAR_AHEAD)
    await kill(store, worker)
    again = await claim_one(store, await a_worker(store))
    assert again.tries == {STEP: Tries(used=1)}


async def test_a_heartbeat_that_is_behind_hides_no_failure(store: Store, worker: WorkerKey) -> None:
    """P21: it was put together while the execution ran, and arrives after the failure: no count is taken back."""
    claim = await start_and_claim(store, worker)
    await commit(store, failing(claim, a_failure(2)))
    open_step = OpenStep(run_id=claim.run_id, fence=claim.fence, step_id=STEP, started_at=LONG_AGO, attempts=2)

    await store.beat(Beat(worker=worker, lease=timedelta(minutes=1), open_steps=(open_step,)))

    (step,) = await store.open_steps(claim.run_id)
    assert (step.status, step.attempts, step.wake_at) == (StepStatus.RETRYING, 2, FAR_AHEAD)
    await kill(store, worker)
    again = await claim_one(store, await a_worker(store))
    assert again.tries == {STEP: Tries(used=2, wake_at=FAR_AHEAD)}


async def test_an_execution_that_a_crash_ends_in_a_later_attempt_uses_nothing_of_that_attempt(
    store: Store, worker: WorkerKey
) -> None:
    """P21: the heartbeat shows the step as executing, over the row that an earlier attempt of the run left open."""
    claim = await start_and_claim(store, worker)
    await commit(store, failing(claim, a_failure(2)), a_change(claim, transition=reopened(1)))
    again = await claim_one(store, worker)
    assert again.tries == {STEP: Tries(used=2, earlier=2)}
    open_step = OpenStep(
        run_id=again.run_id,
        fence=again.fence,
        step_id=STEP,
        started_at=again.started_at,
        attempts=3,
        earlier_attempts=2,
        run_attempt=2,
    )

    await store.beat(Beat(worker=worker, lease=timedelta(minutes=1), open_steps=(open_step,)))

    await kill(store, worker)
    third = await claim_one(store, await a_worker(store))
    assert third.tries == {STEP: Tries(used=2, earlier=2)}


async def test_a_new_attempt_of_a_run_falls_due_at_its_time(store: Store, worker: WorkerKey) -> None:
    first, second = await start_and_claim(store, worker), await start_and_claim(store, worker)

    await commit(
        store,
        a_change(first, transition=reopened(0)),
        a_change(second, transition=reopened(0, wake_at=FAR_AHEAD, waits='["the next attempt"]')),
    )

    claimed = await store.claim(a_request(worker))
    (claim,) = claimed.claims
    waiting = await store.get(second.run_id)
    assert (claim.run_id, claim.attempts) == (first.run_id, 2)
    assert waiting is not None
    assert (waiting.status, waiting.available_at, waiting.attempts) == (RunStatus.PENDING, FAR_AHEAD, 2)
    assert (waiting.error, waiting.waits) == ('{"why":"it failed"}', '["the next attempt"]')


async def test_the_time_of_a_new_attempt_begins_when_it_is_first_taken(store: Store, worker: WorkerKey) -> None:
    """P18: a timeout that is reckoned from then can't be over before it has begun."""
    claim = await start_and_claim(store, worker)
    await commit(store, a_change(claim, a_record(1), transition=reopened(1)))

    second = await claim_one(store, worker)
    await commit(store, a_change(second, transition=given_back()))
    third = await claim_one(store, worker)
    await commit(store, a_change(third, a_record(2), transition=reopened(2)))
    fourth = await claim_one(store, worker)

    run = await store.get(claim.run_id)
    assert claim.started_at < second.started_at == third.started_at < fourth.started_at
    assert run is not None
    assert run.started_at == claim.started_at


async def test_a_release_uses_no_attempt(store: Store, worker: WorkerKey) -> None:
    """P21."""
    claim = await start_and_claim(store, worker)

    await commit(store, a_change(claim, transition=given_back()))

    again = await claim_one(store, worker)
    assert (again.attempts, again.reopened_seq) == (1, 0)


async def test_a_new_attempt_knows_what_the_earlier_ones_finished(store: Store, worker: WorkerKey) -> None:
    """P10."""
    claim = await start_and_claim(store, worker)
    failed = a_record(3, step_id=STEP, status=StepStatus.FAILED, output=None, error="{}", attempts=3)
    timer = StepRecord(step_id="0/nap#1", seq=2, kind=StepKind.TIMER)
    await commit(store, a_change(claim, a_record(1), timer, failed))
    await commit(store, failing(claim, a_failure(4, step_id="0/half-way#1")))

    await commit(store, a_change(claim, transition=reopened(3)))

    again = await claim_one(store, worker)
    assert (again.history, again.reopened_seq, again.attempts) == ((), 3, 2)
    assert {step_id: (record.kind, record.output) for step_id, record in again.earlier.items()} == {
        "0/step-1#0": (StepKind.STEP, '"result 1"'),
        "0/nap#1": (StepKind.TIMER, None),
    }
    assert again.tries[STEP] == Tries(used=3, earlier=3)
    assert again.tries["0/half-way#1"] == Tries(used=4, earlier=4)


async def test_what_was_finished_earlier_takes_its_place_in_the_new_order(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await commit(store, a_change(claim, a_record(1), a_record(2)))
    await commit(store, a_change(claim, transition=reopened(2)))
    again = await claim_one(store, worker)

    handed_out = a_record(3, step_id="0/step-2#0", output='"result 2"')
    committed = await commit(store, replacing(again, handed_out))

    await commit(store, a_change(again, transition=given_back()))
    third = await claim_one(store, worker)
    assert committed.outcomes == (APPLIED,)
    assert [(record.step_id, record.seq) for record in third.history] == [("0/step-2#0", 3)]
    assert list(third.earlier) == ["0/step-1#0"]


async def test_a_record_of_this_attempt_is_not_replaced(store: Store, worker: WorkerKey) -> None:
    """P4, P11: the answer to the first try was lost, and the journal tries again."""
    claim = await start_and_claim(store, worker)
    await commit(store, a_change(claim, a_record(1)))
    await commit(store, a_change(claim, transition=reopened(1)))
    again = await claim_one(store, worker)
    change = replacing(again, a_record(2, step_id="0/step-1#0", output='"handed out"'))
    other = await start_and_claim(store, worker)
    first = await commit(store, change)

    second = await commit(store, change)
    third = await commit(store, change, a_change(other, a_record(1)))

    (step,) = await store.steps(again.run_id)
    assert (first.outcomes, second.outcomes, third.outcomes) == ((APPLIED,), (ALREADY,), (ALREADY, APPLIED))
    assert second.earlier == {0: first.now}
    assert (step.seq, step.output, step.finished_at) == (2, '"handed out"', first.now)


async def test_a_record_without_leave_replaces_nothing(store: Store, worker: WorkerKey) -> None:
    """P11."""
    claim = await start_and_claim(store, worker)
    await commit(store, a_change(claim, a_record(1)))
    await commit(store, a_change(claim, transition=reopened(1)))
    again = await claim_one(store, worker)

    await commit(store, a_change(again, a_record(2, step_id="0/step-1#0", output='"another"')))

    (step,) = await store.steps(again.run_id)
    assert (step.seq, step.output) == (1, '"result 1"')


async def test_what_failed_in_an_earlier_attempt_is_open_again_once_it_fails_anew(
    store: Store, worker: WorkerKey
) -> None:
    claim = await start_and_claim(store, worker)
    failed = a_record(1, step_id=STEP, status=StepStatus.FAILED, output=None, error="{}", attempts=3)
    await commit(store, a_change(claim, failed))
    await commit(store, a_change(claim, transition=reopened(1)))
    again = await claim_one(store, worker)

    await commit(store, failing(again, a_failure(4, earlier_attempts=3, run_attempt=2)))

    (step,) = await store.open_steps(again.run_id)
    assert (step.attempts, step.earlier_attempts, step.seq, step.finished_at) == (4, 3, None, None)
    await commit(store, a_change(again, transition=given_back()))
    third = await claim_one(store, worker)
    assert third.tries == {STEP: Tries(used=4, earlier=3, wake_at=FAR_AHEAD)}


async def test_a_new_attempt_that_is_asked_for_again_is_begun_once(store: Store, worker: WorkerKey) -> None:
    """P4."""
    claim = await start_and_claim(store, worker)
    change = a_change(claim, a_record(1), transition=reopened(1))
    await commit(store, change)

    committed = await commit(store, change)

    run = await store.get(claim.run_id)
    assert committed.outcomes == (ALREADY,)
    assert run is not None
    assert run.attempts == 2


def replacing(claim: Claim, *records: StepRecord) -> Change:
    """A change of a later attempt."""
    return Change(run_id=claim.run_id, fence=claim.fence, records=records, replaces=True)
