"""Having ended runs go on: a new attempt of each, begun by hand."""

from __future__ import annotations

from collections.abc import Sequence

from kagzi.model.reopening import ReopenAnswer, ReopenOrder, ReopenOutcome
from kagzi.model.run import RunId, RunStatus
from kagzi.store.sqlite.rows import RUN_STATUSES, word
from kagzi.store.sqlite.session import Session, each
from kagzi.store.sqlite.times import later

_LOOK = """
SELECT r.status, r.attempts, r.timeout_s, r.parent_run_id, (
    SELECT p.finished_at IS NOT NULL FROM workflow_runs AS p WHERE p.run_id = r.parent_run_id
)
FROM workflow_runs AS r WHERE r.run_id = ? AND r.namespace = ?
"""

# One above the last, so that no place of the new attempt is one where the last may have parked.
_LAST_SEQ = """
SELECT 1 + max(
    r.reopened_seq, coalesce((SELECT max(s.seq) FROM step_runs AS s WHERE s.run_id = r.run_id), 0)
)
FROM workflow_runs AS r WHERE r.run_id = ?
"""

_REOPEN = """
UPDATE workflow_runs SET
    status = 'PENDING', fence = fence + 1, attempts = attempts + 1, reopened_seq = ?3, attempt_started_at = NULL,
    output = NULL, error = NULL, waits = NULL, crashes = 0, finished_at = NULL, available_at = ?2,
    cancel_asked_at = NULL, deadline = ?4, start_deadline = NULL,
    parent_close = CASE WHEN ?5 THEN 'ABANDON' ELSE parent_close END
WHERE run_id = ?1
"""

# An order to end that the last attempt has not heard of is not for the new one.
_WITHDRAW = """
UPDATE messages INDEXED BY messages_unreceived SET received_seq = ?2
WHERE run_id = ?1 AND kind = 'CANCEL' AND received_seq IS NULL
"""

# Children that were asked to end are not waited for: the new attempt starts its own. Not of those with an id, which
# can't be started twice. What has no message has only started its child, or is open.
_LEAVE_BEHIND = """
DELETE FROM step_runs
WHERE run_id = ?1 AND kind = 'CHILD' AND message IS NULL AND EXISTS (
    SELECT 1 FROM workflow_runs AS k
    WHERE k.run_id = step_runs.child_run_id AND k.cancel_asked_at IS NOT NULL AND k.status <> 'COMPLETED'
        AND k.id IS NULL
)
"""

# Children that had failed, and go on by hand, are awaited: the new attempt starts none in their place.
_AWAIT_AGAIN = """
UPDATE step_runs SET seq = NULL, status = 'RUNNING', output = NULL, error = NULL, finished_at = NULL, message = NULL
WHERE run_id = ?1 AND kind = 'CHILD' AND status = 'FAILED' AND message IS NOT NULL AND EXISTS (
    SELECT 1 FROM workflow_runs AS k
    WHERE k.run_id = step_runs.child_run_id AND k.finished_at IS NULL AND k.cancel_asked_at IS NULL
)
"""

_MARK_PARENT = "UPDATE workflow_runs SET has_children = 1 WHERE run_id = ? AND finished_at IS NULL AND NOT has_children"


def _reopen(session: Session, orders: Sequence[ReopenOrder]) -> list[ReopenAnswer]:
    # In the order of the ids, which is that of the births: a parent among them goes on before its child is looked at.
    answers = {
        place: _reopen_one(session, order)
        for place, order in sorted(enumerate(orders), key=lambda asked: asked[1].run_id)
    }
    for place, order in enumerate(orders):
        if answers[place].outcome is ReopenOutcome.REOPENED:
            session.write(_AWAIT_AGAIN, (order.run_id,))
    return [answers[place] for place in range(len(orders))]


REOPEN = each(_reopen)


def _reopen_one(session: Session, order: ReopenOrder) -> ReopenAnswer:
    rows = session.rows(_LOOK, (order.run_id, order.namespace))
    if not rows:
        return ReopenAnswer(outcome=ReopenOutcome.NOT_FOUND)
    status, attempts, timeout_s, parent, outlives = rows[0]
    outcome = _judge(order, status, attempts)
    if outcome is ReopenOutcome.REOPENED:
        _open(session, order.run_id, timeout_s, outlives=bool(outlives))
        if parent is not None:
            session.write(_MARK_PARENT, (parent,))
    return ReopenAnswer(outcome=outcome, status=word(RUN_STATUSES, status))


def _judge(order: ReopenOrder, status: str, attempts: int) -> ReopenOutcome:
    if attempts > order.attempt:
        return ReopenOutcome.ALREADY
    if status == RunStatus.COMPLETED:
        return ReopenOutcome.COMPLETED
    return ReopenOutcome.REOPENED if status in (RunStatus.FAILED, RunStatus.CANCELLED) else ReopenOutcome.OPEN


def _open(session: Session, run_id: RunId, timeout_s: float | None, *, outlives: bool) -> None:
    now = session.now
    last_seq = session.value(_LAST_SEQ, (run_id,))
    deadline = None if timeout_s is None else later(now, timeout_s)
    session.write(_WITHDRAW, (run_id, last_seq))
    session.write(_LEAVE_BEHIND, (run_id,))
    session.write(_REOPEN, (run_id, now, last_seq, deadline, outlives))
    session.due = True
