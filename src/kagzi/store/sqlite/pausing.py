"""Holding runs for a while. What a paused run does when it falls due is a trigger's work, in the migrations."""

from __future__ import annotations

from collections.abc import Sequence

from kagzi.model.pausing import PauseAnswer, PauseOrder, PauseOutcome, ResumeOrder
from kagzi.model.run import RunStatus
from kagzi.store.sqlite.rows import RUN_STATUSES, word
from kagzi.store.sqlite.session import Session, each

_LOOK = """
SELECT r.status, r.paused_at IS NOT NULL, r.cancel_asked_at IS NOT NULL
FROM workflow_runs AS r WHERE r.run_id = ? AND r.namespace = ?
"""

_PAUSE = """
UPDATE workflow_runs SET paused_at = ?2, pause_reason = ?3, due_at = available_at, available_at = NULL WHERE run_id = ?1
"""

_RESUME = """
UPDATE workflow_runs SET
    paused_at = NULL, pause_reason = NULL, due_at = NULL,
    available_at = CASE WHEN status <> 'RUNNING' THEN max(due_at, ?2) END
WHERE run_id = ?1
"""


def _pause(session: Session, orders: Sequence[PauseOrder]) -> list[PauseAnswer]:
    return [_pause_one(session, order) for order in orders]


def _pause_one(session: Session, order: PauseOrder) -> PauseAnswer:
    stands = _stands(session, order)
    if stands is None:
        return PauseAnswer(outcome=PauseOutcome.NOT_FOUND)
    status, is_paused, is_ending = stands
    if status.is_terminal:
        outcome = PauseOutcome.CLOSED
    elif is_ending:
        outcome = PauseOutcome.ENDING
    elif is_paused:
        outcome = PauseOutcome.ALREADY
    else:
        outcome = PauseOutcome.DONE
        session.write(_PAUSE, (order.run_id, session.now, order.reason))
        session.mail |= status is RunStatus.RUNNING
    return PauseAnswer(outcome=outcome, status=status)


def _resume(session: Session, orders: Sequence[ResumeOrder]) -> list[PauseAnswer]:
    return [_resume_one(session, order) for order in orders]


def _resume_one(session: Session, order: ResumeOrder) -> PauseAnswer:
    stands = _stands(session, order)
    if stands is None:
        return PauseAnswer(outcome=PauseOutcome.NOT_FOUND)
    status, is_paused, _ = stands
    if status.is_terminal:
        outcome = PauseOutcome.CLOSED
    elif not is_paused:
        outcome = PauseOutcome.ALREADY
    else:
        outcome = PauseOutcome.DONE
        session.write(_RESUME, (order.run_id, session.now))
        session.mail |= status is RunStatus.RUNNING
        session.due |= status is not RunStatus.RUNNING
    return PauseAnswer(outcome=outcome, status=status)


def _stands(session: Session, order: PauseOrder | ResumeOrder) -> tuple[RunStatus, bool, bool] | None:
    """The run's status, whether it is paused, and whether it was asked to end; None where there is none."""
    rows = session.rows(_LOOK, (order.run_id, order.namespace))
    if not rows:
        return None
    status, is_paused, is_ending = rows[0]
    return word(RUN_STATUSES, status), bool(is_paused), bool(is_ending)


PAUSE = each(_pause)
RESUME = each(_resume)
