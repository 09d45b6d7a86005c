"""Forks: new runs that begin with the history of another."""

from __future__ import annotations

from kagzi.model.forking import Forked, ForkOrder, ForkOutcome
from kagzi.store.sqlite.mail import POST_ONE
from kagzi.store.sqlite.session import Session, each
from kagzi.store.sqlite.times import later

_THERE = "SELECT r.run_id FROM workflow_runs AS r WHERE r.run_id = ?"
_THERE_BY_ID = "SELECT r.run_id FROM workflow_runs AS r WHERE r.namespace = ? AND r.id = ?"

_SOURCE = """
SELECT r.inbox, r.timeout_s FROM workflow_runs AS r WHERE r.run_id = ? AND r.namespace = ? AND r.attempts = ?
"""

_BEAR = """
INSERT INTO workflow_runs (
    run_id, namespace, id, workflow, version, queue, priority, status, input, attempts, fence, inbox, created_at,
    started_at, available_at, tags, attributes, reopened_seq, parked, attempt_started_at, timeout_s, deadline,
    forked_from, seed, undoes
)
SELECT ?2, o.namespace, ?3, o.workflow, ?4, o.queue, o.priority, 'PENDING', coalesce(?5, o.input), o.attempts, 0,
    ?6, ?7, o.started_at, ?7, o.tags, o.attributes, o.reopened_seq, ?8, o.attempt_started_at, o.timeout_s, ?9,
    o.run_id, coalesce(o.seed, o.run_id), o.undoes
FROM workflow_runs AS o WHERE o.run_id = ?1
"""

_COPY = """
INSERT INTO step_runs (
    run_id, step_id, seq, kind, status, output, error, attempts, started_at, finished_at, child_run_id, max_attempts,
    earlier_attempts, run_attempt, message, in_doubt, heartbeat_details, heartbeat_at
)
SELECT ?2, s.step_id, s.seq, s.kind, s.status, s.output, s.error, s.attempts, s.started_at, s.finished_at,
    s.child_run_id, s.max_attempts, s.earlier_attempts, s.run_attempt, s.message, s.in_doubt,
    s.heartbeat_details, s.heartbeat_at
FROM step_runs AS s
WHERE s.run_id = ?1 AND s.seq IS NOT NULL AND ((s.seq > ?3 AND s.seq < ?4) OR s.seq < ?5)
"""

# A run with a history has been claimed before.
_COUNT_CLAIM = "UPDATE workflow_runs SET fence = 1 WHERE run_id = ?"

_REPLACE = """
UPDATE step_runs SET status = 'COMPLETED', output = ?3, error = NULL, in_doubt = 0 WHERE run_id = ?1 AND step_id = ?2
"""

_SHOW = "INSERT INTO run_values (run_id, key, value, updated_at) VALUES (?, ?, ?, ?)"


def _fork(session: Session, order: ForkOrder) -> Forked:
    if session.value(_THERE, (order.run_id,)) is not None:  # by an earlier try of ours
        return Forked(outcome=ForkOutcome.FORKED, run_id=order.run_id)
    source = session.rows(_SOURCE, (order.source, order.namespace, order.attempt))
    if not source:
        return Forked(outcome=ForkOutcome.CHANGED)
    taken = session.value(_THERE_BY_ID, (order.namespace, order.id))
    if taken is not None:
        return Forked(outcome=ForkOutcome.TAKEN, run_id=taken)
    inbox, timeout_s = source[0]
    now, cut, run_id = session.now, order.cut, order.run_id
    deadline = None if timeout_s is None else later(now, timeout_s)
    # Beyond every message that the records have received.
    beyond = inbox + len(order.messages)
    born = (order.id, order.version, order.input, beyond, now, order.parked, deadline)
    session.write(_BEAR, (order.source, run_id, *born))
    if session.write(_COPY, (order.source, run_id, cut.after_seq, cut.before_seq, cut.earlier_before)):
        session.write(_COUNT_CLAIM, (run_id,))
    for step in order.replaced:
        session.write(_REPLACE, (run_id, step.step_id, step.output))
    for position, message in enumerate(order.messages, inbox + 1):
        session.write(POST_ONE, (run_id, position, message.kind, message.name, message.payload, None, now))
    for shown in order.published:
        session.write(_SHOW, (run_id, shown.key, shown.value, now))
    session.due = True
    return Forked(outcome=ForkOutcome.FORKED, run_id=run_id)


FORK = each(_fork)
