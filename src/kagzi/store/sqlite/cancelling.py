"""Ending runs before their time: at once where nobody has begun them, otherwise by mail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kagzi.model.cancelling import CancelAnswer, CancelOrder, CancelOutcome, Expired, Expiry
from kagzi.model.message import CANCEL as CANCEL_NAME
from kagzi.model.run import MessageKind, RunId, RunStatus
from kagzi.store.sqlite.mail import POST_ONE
from kagzi.store.sqlite.rows import RUN_STATUSES, word
from kagzi.store.sqlite.session import Session, each
from kagzi.store.sqlite.times import moment_or_none

LOOK = """
SELECT r.status, r.inbox, r.cancel_asked_at IS NOT NULL,
    r.started_at IS NOT NULL AND (r.reopened_seq = 0 OR r.undoes OR r.attempt_started_at IS NOT NULL)
FROM workflow_runs AS r WHERE r.run_id = ?1 AND r.namespace = ?2
"""

_HAS_ENDED = "SELECT 1 FROM workflow_runs AS r WHERE r.run_id = ? AND r.finished_at IS NOT NULL"

END = """
UPDATE workflow_runs SET
    status = 'CANCELLED', error = ?2, fence = fence + 1, worker_key = NULL, finished_at = ?3, available_at = NULL,
    waits = NULL, cancel_asked_at = coalesce(cancel_asked_at, ?3)
WHERE run_id = ?1
"""

ASK = """
UPDATE workflow_runs SET
    inbox = inbox + 1, cancel_asked_at = ?2,
    available_at = CASE status WHEN 'RUNNING' THEN available_at ELSE min(coalesce(available_at, ?2), ?2) END
WHERE run_id = ?1
"""

_FAIL = """
UPDATE workflow_runs SET
    status = 'FAILED', error = ?2, fence = fence + 1, finished_at = ?3, available_at = NULL, waits = NULL
WHERE run_id = ?1
"""

_UNBEGUN = """
FROM workflow_runs AS r INDEXED BY workflow_runs_start_deadline
WHERE r.namespace = ?1 AND r.start_deadline IS NOT NULL AND r.started_at IS NULL AND r.status = 'PENDING'
"""
_LATE = """
FROM workflow_runs AS r INDEXED BY workflow_runs_deadline
WHERE r.namespace = ?1 AND r.deadline IS NOT NULL AND r.cancel_asked_at IS NULL
    AND r.status IN ('PENDING', 'RUNNING', 'SLEEPING')
"""
_FIND_UNBEGUN = f"SELECT r.run_id {_UNBEGUN} AND r.start_deadline <= ?2 ORDER BY r.start_deadline LIMIT ?3"
_FIND_LATE = f"""
SELECT r.run_id, r.status, r.inbox, r.status = 'PENDING' AND (
    r.started_at IS NULL OR (r.reopened_seq > 0 AND NOT r.undoes AND r.attempt_started_at IS NULL)
) {_LATE} AND r.deadline <= ?2 ORDER BY r.deadline LIMIT ?3
"""
_NEXT_UNBEGUN = f"SELECT r.start_deadline {_UNBEGUN} ORDER BY r.start_deadline LIMIT 1"
_NEXT_LATE = f"SELECT r.deadline {_LATE} ORDER BY r.deadline LIMIT 1"


class Expiring(NamedTuple):
    """One call of `expire`."""

    namespace: str
    expiry: Expiry


def _nothing_expired(session: Session, wanted: Expiring) -> Expired | None:
    """Answer where no deadline has passed, which is nearly always, without the write lock."""
    due = _next_due(session, wanted.namespace)
    return Expired(next_due=moment_or_none(due)) if due is None or due > session.now else None


def _next_due(session: Session, namespace: str) -> int | None:
    moments = [session.value(sql, (namespace,)) for sql in (_NEXT_UNBEGUN, _NEXT_LATE)]
    return min((each for each in moments if each is not None), default=None)


def _expire(session: Session, wanted: Expiring) -> Expired:
    namespace, expiry = wanted
    now = session.now
    failed: list[RunId] = []
    asked: list[RunId] = []
    unbegun = session.rows(_FIND_UNBEGUN, (namespace, now, expiry.batch))
    for (run_id,) in unbegun:
        session.write(_FAIL, (run_id, expiry.start_error, now))
        failed.append(run_id)
    late = session.rows(_FIND_LATE, (namespace, now, expiry.batch))
    for run_id, status, inbox, is_unbegun in late:
        if is_unbegun:
            session.write(_FAIL, (run_id, expiry.run_error, now))
            failed.append(run_id)
        else:
            _ask(session, run_id, inbox, status=word(RUN_STATUSES, status), error=expiry.run_error)
            asked.append(run_id)
    if failed:
        _hint_ended(session)
    return Expired(
        failed=tuple(failed),
        asked=tuple(asked),
        more=expiry.batch in (len(unbegun), len(late)),
        next_due=moment_or_none(_next_due(session, namespace)),
    )


def _hint_ended(session: Session) -> None:
    """Tell whoever waits for such a run, the worker that has it, and its parent, wherever that is."""
    session.ended = session.mail = session.due = True


def _ask(session: Session, run_id: RunId, inbox: int, *, status: RunStatus, error: str) -> None:
    """Put an order into a run's mailbox."""
    session.write(POST_ONE, (run_id, inbox + 1, MessageKind.CANCEL, CANCEL_NAME, error, None, session.now))
    session.write(ASK, (run_id, session.now))
    session.mail |= status is RunStatus.RUNNING
    session.due |= status is not RunStatus.RUNNING


def _cancel(session: Session, orders: Sequence[CancelOrder]) -> list[CancelAnswer]:
    return [_cancel_one(session, order) for order in orders]


def _cancel_one(session: Session, order: CancelOrder) -> CancelAnswer:
    rows = session.rows(LOOK, (order.run_id, order.namespace))
    if not rows:
        return CancelAnswer(outcome=CancelOutcome.NOT_FOUND)
    status, inbox, was_asked, begun = rows[0]
    status = word(RUN_STATUSES, status)
    outcome = judge(order, status, was_asked=bool(was_asked), begun=bool(begun))
    if order.left_by is not None and session.value(_HAS_ENDED, (order.left_by,)) is None:
        outcome = CancelOutcome.ALREADY if not status.is_terminal else outcome
    now = session.now
    if outcome is CancelOutcome.ENDED:
        session.write(END, (order.run_id, order.error, now))
        _hint_ended(session)
    elif outcome is CancelOutcome.ASKED:
        _ask(session, order.run_id, inbox, status=status, error=order.error)
    return CancelAnswer(outcome=outcome, status=status)


def judge(order: CancelOrder, status: RunStatus, *, was_asked: bool, begun: bool) -> CancelOutcome:
    """What an order comes to for a run in this state."""
    if status is RunStatus.CANCELLED:
        return CancelOutcome.ALREADY
    if status.is_terminal:
        return CancelOutcome.ALREADY if was_asked else CancelOutcome.CLOSED
    if order.at_once or (status is RunStatus.PENDING and not begun):
        return CancelOutcome.ENDED
    return CancelOutcome.ALREADY if was_asked else CancelOutcome.ASKED


CANCEL = each(_cancel)
EXPIRE = each(_expire, peek=_nothing_expired)
