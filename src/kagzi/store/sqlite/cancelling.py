"""Ending runs before their time: at once where nobody has begun them, otherwise by mail."""

from __future__ import annotations

from collections.abc import Sequence

from kagzi.model.cancelling import CancelAnswer, CancelOrder, CancelOutcome
from kagzi.model.message import CANCEL as CANCEL_NAME
from kagzi.model.run import MessageKind, RunStatus
from kagzi.store.sqlite.mail import POST_ONE
from kagzi.store.sqlite.rows import RUN_STATUSES, word
from kagzi.store.sqlite.session import Session, each

_LOOK = """
SELECT r.status, r.inbox, r.cancel_asked_at IS NOT NULL,
    r.started_at IS NOT NULL AND (r.reopened_seq = 0 OR r.attempt_started_at IS NOT NULL)
FROM workflow_runs AS r WHERE r.run_id = ? AND r.namespace = ?
"""

_END = """
UPDATE workflow_runs SET
    status = 'CANCELLED', error = ?2, fence = fence + 1, worker_key = NULL, finished_at = ?3, available_at = NULL,
    waits = NULL, cancel_asked_at = coalesce(cancel_asked_at, ?3)
WHERE run_id = ?1
"""

_ASK = """
UPDATE workflow_runs SET
    inbox = inbox + 1, cancel_asked_at = ?2,
    available_at = CASE status WHEN 'RUNNING' THEN available_at ELSE min(coalesce(available_at, ?2), ?2) END
WHERE run_id = ?1
"""


def _cancel(session: Session, orders: Sequence[CancelOrder]) -> list[CancelAnswer]:
    return [_cancel_one(session, order) for order in orders]


def _cancel_one(session: Session, order: CancelOrder) -> CancelAnswer:
    rows = session.rows(_LOOK, (order.run_id, order.namespace))
    if not rows:
        return CancelAnswer(outcome=CancelOutcome.NOT_FOUND)
    status, inbox, was_asked, begun = rows[0]
    status = word(RUN_STATUSES, status)
    outcome = _judge(order, status, was_asked=bool(was_asked), begun=bool(begun))
    now = session.now
    if outcome is CancelOutcome.ENDED:
        session.write(_END, (order.run_id, order.error, now))
        session.ended = True
        session.mail |= status is RunStatus.RUNNING
    elif outcome is CancelOutcome.ASKED:
        session.write(POST_ONE, (order.run_id, inbox + 1, MessageKind.CANCEL, CANCEL_NAME, order.error, None, now))
        session.write(_ASK, (order.run_id, now))
        session.mail |= status is RunStatus.RUNNING
        session.due |= status is not RunStatus.RUNNING
    return CancelAnswer(outcome=outcome, status=status)


def _judge(order: CancelOrder, status: RunStatus, *, was_asked: bool, begun: bool) -> CancelOutcome:
    if status is RunStatus.CANCELLED:
        return CancelOutcome.ALREADY
    if status.is_terminal:
        return CancelOutcome.ALREADY if was_asked else CancelOutcome.CLOSED
    if order.at_once or (status is RunStatus.PENDING and not begun):
        return CancelOutcome.ENDED
    return CancelOutcome.ALREADY if was_asked else CancelOutcome.ASKED


CANCEL = each(_cancel)
