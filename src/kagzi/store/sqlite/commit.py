"""Changes of executions, each on its own predicate (run_id, fence, RUNNING), all under the file's write lock."""

# ruff: noqa: S608 - SQL is put together from constants only.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from kagzi.model.change import Applied, Change, Committed, PlainChange, Successor, has_rarities
from kagzi.model.child import ChildStart
from kagzi.model.run import TERMINAL, RunId, RunStatus
from kagzi.model.step import FailedAttempt, StartMark, StepRecord
from kagzi.store.sqlite.batches import Bulk
from kagzi.store.sqlite.rows import BY_RUN_ID
from kagzi.store.sqlite.session import Doubtful, Session, Verb
from kagzi.store.sqlite.times import later, micros, micros_or_none, moment, span

# The object's keys are run_ids and its values fences, so that nothing has to be parsed twice.
_OWNED = f"""
SELECT count(*) FROM json_each(?) AS asked CROSS JOIN workflow_runs AS r {BY_RUN_ID}
WHERE r.run_id = asked.key AND r.fence = asked.value AND r.status = 'RUNNING'
"""
_OWNED_ONE = "SELECT 1 FROM workflow_runs AS r WHERE r.run_id = ? AND r.fence = ? AND r.status = 'RUNNING'"

_INSERT_RECORD = """
INSERT INTO step_runs (
    run_id, step_id, seq, kind, status, output, error, attempts, started_at, finished_at, child_run_id
)
"""
_RECORD_ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# Finished operations are immutable; one that was only shown as open is finished now.
_ON_CONFLICT = """
ON CONFLICT (run_id, step_id) DO UPDATE SET
    seq = excluded.seq, kind = excluded.kind, status = excluded.status, output = excluded.output,
    error = excluded.error, attempts = excluded.attempts,
    started_at = coalesce(excluded.started_at, started_at), finished_at = excluded.finished_at,
    wake_at = NULL, child_run_id = excluded.child_run_id
WHERE seq IS NULL
"""
# In a later attempt of the run, what an earlier one recorded may be replaced; a record of this attempt may not.
_OF_AN_EARLIER_ATTEMPT = """
    OR seq <= (SELECT r.reopened_seq FROM workflow_runs AS r WHERE r.run_id = excluded.run_id)
"""

_RECORD = Bulk(head=_INSERT_RECORD, row=_RECORD_ROW, tail=_ON_CONFLICT)
_RECORD_AGAIN = f"{_INSERT_RECORD} VALUES {_RECORD_ROW} {_ON_CONFLICT} {_OF_AN_EARLIER_ATTEMPT}"

_RECEIVE = "UPDATE messages SET received_seq = ?3 WHERE run_id = ?1 AND position = ?2"
_MARK_RECEIVED = "UPDATE step_runs SET message = ?3 WHERE run_id = ?1 AND step_id = ?2"

# The first answer counts.
_REPLY = "UPDATE messages SET reply = ?3, replied_at = ?4 WHERE run_id = ?1 AND position = ?2 AND reply IS NULL"
_PUBLISH = """
INSERT INTO run_values (run_id, key, value, updated_at) VALUES (?, ?, ?, ?)
ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at
"""

_NOTE_ATTEMPT = """
INSERT INTO step_attempts (run_id, step_id, attempt, kind, message, error, at) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""

_LEAVE_OPEN = f"""
INSERT INTO step_runs (
    run_id, step_id, kind, status, error, attempts, started_at, wake_at, max_attempts, earlier_attempts, run_attempt,
    in_doubt, heartbeat_details
)
VALUES (?, ?, 'STEP', 'RETRYING', ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, step_id) DO UPDATE SET
    seq = NULL, kind = excluded.kind, status = excluded.status, output = NULL, error = excluded.error,
    attempts = excluded.attempts, started_at = excluded.started_at, finished_at = NULL, wake_at = excluded.wake_at,
    max_attempts = excluded.max_attempts, earlier_attempts = excluded.earlier_attempts,
    run_attempt = excluded.run_attempt, in_doubt = excluded.in_doubt,
    heartbeat_details = coalesce(excluded.heartbeat_details, heartbeat_details)
WHERE seq IS NULL {_OF_AN_EARLIER_ATTEMPT}
"""

# Of an execution that is to be made at most once, before it begins.
_MARK = f"""
INSERT INTO step_runs (run_id, step_id, kind, status, attempts, started_at, earlier_attempts, run_attempt, in_doubt)
VALUES (?, ?, 'STEP', 'RUNNING', ?, ?, ?, ?, 1)
ON CONFLICT (run_id, step_id) DO UPDATE SET
    seq = NULL, kind = excluded.kind, status = excluded.status, output = NULL, attempts = excluded.attempts,
    started_at = excluded.started_at, finished_at = NULL, wake_at = NULL,
    earlier_attempts = excluded.earlier_attempts, run_attempt = excluded.run_attempt, in_doubt = 1
WHERE seq IS NULL {_OF_AN_EARLIER_ATTEMPT}
"""
_END_DOUBT = "UPDATE step_runs SET in_doubt = ?3 WHERE run_id = ?1 AND step_id = ?2 AND in_doubt <> ?3"

_REOPEN = """
UPDATE workflow_runs SET
    reopened_seq = ?2, attempts = attempts + 1, attempt_started_at = NULL, undoes = undoes OR ?3
WHERE run_id = ?1
"""

_START_CHILD = """
INSERT INTO workflow_runs (
    run_id, namespace, id, workflow, version, queue, priority, status, input, parent_run_id, parent_close, created_at,
    available_at, timeout_s, deadline
)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'PENDING', ?8, ?9, ?10, ?11, ?11, ?12, ?13)
ON CONFLICT DO NOTHING
"""
_AWAIT_CHILD = f"""
INSERT INTO step_runs (run_id, step_id, kind, status, attempts, started_at, child_run_id, run_attempt)
VALUES (?, ?, 'CHILD', 'RUNNING', 1, ?, ?, ?)
ON CONFLICT (run_id, step_id) DO UPDATE SET
    seq = NULL, kind = excluded.kind, status = excluded.status, output = NULL, error = NULL,
    attempts = excluded.attempts, started_at = excluded.started_at, finished_at = NULL, wake_at = NULL,
    child_run_id = excluded.child_run_id, run_attempt = excluded.run_attempt, message = NULL
WHERE seq IS NULL {_OF_AN_EARLIER_ATTEMPT}
"""

# Whoever was asked to end, and has failed without having heard of it, need not wait to be told.
_HURRY = "UPDATE workflow_runs SET available_at = ?2 WHERE run_id = ?1 AND cancel_asked_at IS NOT NULL"

_TRANSITION = Bulk(
    head="""
    WITH let_go (run_id, status, output, error, waits, now, inbox, wake_at, finished_at, parked) AS (
    """,
    row="(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    tail=f"""
    )
    UPDATE workflow_runs AS r {BY_RUN_ID} SET
        status = l.status, output = l.output, error = l.error, waits = l.waits, worker_key = NULL,
        available_at = CASE l.status
            WHEN 'PENDING' THEN coalesce(l.wake_at, l.now)
            -- Mail that the execution has not seen: a wake-up can't be lost between its last look and its sleep.
            WHEN 'SLEEPING' THEN CASE WHEN r.inbox > l.inbox THEN l.now ELSE l.wake_at END
        END,
        finished_at = l.finished_at, parked = coalesce(l.parked, r.parked)
    FROM let_go AS l
    -- Said twice: in a file that was analysed when it held one run, SQLite would rather read the whole table.
    WHERE r.run_id = l.run_id AND r.run_id IN (SELECT run_id FROM let_go)
    """,
)

_HAND_ON = "UPDATE workflow_runs SET continued_to = ?2, former_id = id, id = NULL WHERE run_id = ?1"
_SUCCEED = """
INSERT INTO workflow_runs (
    run_id, namespace, id, workflow, version, queue, priority, status, input, inbox, created_at, available_at, due_at,
    tags, attributes, parent_run_id, parent_close, cancel_asked_at, deadline, timeout_s, continued_from, first_run_id,
    paused_at, pause_reason
)
SELECT o.continued_to, o.namespace, o.former_id, o.workflow, ?2, o.queue, o.priority, 'PENDING', ?3, o.inbox, ?4,
    CASE WHEN o.paused_at IS NULL THEN ?4 END, CASE WHEN o.paused_at IS NOT NULL THEN ?4 END, o.tags, o.attributes,
    o.parent_run_id, o.parent_close, o.cancel_asked_at, o.deadline, o.timeout_s, o.run_id,
    coalesce(o.first_run_id, o.run_id), o.paused_at, o.pause_reason
FROM workflow_runs AS o WHERE o.run_id = ?1
"""
# Ends of children are for those who started them, and events for the waits that they met.
_FORWARD = """
UPDATE messages INDEXED BY messages_unreceived SET run_id = ?2
WHERE run_id = ?1 AND received_seq IS NULL AND kind NOT IN ('CHILD', 'EVENT')
"""
# A message that was received is known for a while, so that it is not sent again by who got no answer.
_REMEMBER = """
INSERT INTO messages (run_id, position, kind, name, dedup_key, created_at, received_seq)
SELECT ?2, m.position, m.kind, m.name, m.dedup_key, m.created_at, 0
FROM messages AS m
WHERE m.run_id = ?1 AND m.received_seq IS NOT NULL AND m.dedup_key IS NOT NULL AND m.created_at > ?3
ORDER BY m.position DESC LIMIT 1000
"""
_REMEMBERED = timedelta(minutes=1)

_ANY_DUE = f"""
SELECT 1 FROM json_each(?1) AS asked CROSS JOIN workflow_runs AS r {BY_RUN_ID}
WHERE r.run_id = asked.value AND r.available_at <= ?2
LIMIT 1
"""

_RUN_THERE = "SELECT r.fence, r.status FROM workflow_runs AS r WHERE r.run_id = ?"
_RECORD_THERE = "SELECT s.finished_at FROM step_runs AS s WHERE s.run_id = ? AND s.step_id = ? AND s.seq >= ?"


def _commit(session: Session, calls: list[Sequence[Change]]) -> list[Committed]:
    every = calls[0] if len(calls) == 1 else [change for changes in calls for change in changes]
    fences = {change.run_id: change.fence for change in every}
    if session.careful or (len(fences) < len(every) and _meet(calls)):
        return [commit_carefully(session, changes) for changes in calls]
    if not _owns_all(session, fences):
        raise Doubtful
    now = session.now
    rows = [_record_row(change, record, now) for change in every if not change.replaces for record in change.records]
    if rows and _RECORD.run(session.connection, rows) < len(rows):
        raise Doubtful
    rare = [each for each in every if each.__class__ is not PlainChange and (each.replaces or has_rarities(each))]
    if not all(_write_rarities(session, change) for change in rare):
        raise Doubtful
    _let_go(session, [change for change in every if change.transition is not None])
    at = moment(now)
    return [Committed(outcomes=(Applied.APPLIED,) * len(changes), now=at) for changes in calls]


COMMIT = Verb(_commit)


def _meet(calls: list[Sequence[Change]]) -> bool:
    """Whether two of the calls write the same run, or one writes it under two fences: then their order matters."""
    writers: dict[str, tuple[int, int]] = {}
    return any(
        writers.setdefault(change.run_id, (call, change.fence)) != (call, change.fence)
        for call, changes in enumerate(calls)
        for change in changes
    )


def _owns_all(session: Session, fences: dict[Any, int]) -> bool:
    if len(fences) == 1:
        return session.value(_OWNED_ONE, next(iter(fences.items()))) is not None
    asked = msgspec.json.encode(fences).decode()
    owned: int = session.value(_OWNED, (asked,))
    return owned == len(fences)


def _record_row(change: Change, record: StepRecord, now: int) -> tuple[Any, ...]:
    return (
        change.run_id,
        record.step_id,
        record.seq,
        record.kind,
        record.status,
        record.output,
        record.error,
        record.attempts,
        micros_or_none(record.started_at),
        now,
        record.child_run_id,
    )


def _write_rarities(session: Session, change: Change) -> bool:
    """Write what few changes hold: failed executions, and what replaces a record. False where that is not possible."""
    now = session.now
    written = True
    if change.replaces:
        for record in change.records:
            written &= session.write(_RECORD_AGAIN, _record_row(change, record, now)) > 0
    for position in change.received:
        session.write(_RECEIVE, (change.run_id, position, change.records[0].seq))
        session.write(_MARK_RECEIVED, (change.run_id, change.records[0].step_id, position))
    for position in change.returned:
        session.write(_RECEIVE, (change.run_id, position, None))
    for start in change.starts:
        written &= _start_child(session, change, start)
    for answer in change.replies:
        session.write(_REPLY, (change.run_id, answer.position, answer.reply, now))
        session.replied = True
    for shown in change.published:
        session.write(_PUBLISH, (change.run_id, shown.key, shown.value, now))
    for failure in change.failed:
        noted = (failure.attempt, failure.kind, failure.message, failure.error, now)
        session.write(_NOTE_ATTEMPT, (change.run_id, failure.step_id, *noted))
        if failure.wake_at is not None:
            session.write(_LEAVE_OPEN, (change.run_id, *_open_row(failure)))
        else:
            session.write(_END_DOUBT, (change.run_id, failure.step_id, failure.in_doubt))
    for mark in change.marks:
        written &= session.write(_MARK, (change.run_id, *_mark_row(mark))) > 0
    return written


def _start_child(session: Session, parent: Change, start: ChildStart) -> bool:
    """Start a child; False where it, or another run with its id, is there."""
    run, now = start.run, session.now
    row = (run.run_id, run.namespace, run.id, run.workflow, run.version, run.queue, run.priority, run.input)
    deadline = None if run.timeout_s is None else later(now, run.timeout_s)
    if not session.write(_START_CHILD, (*row, parent.run_id, start.parent_close, now, run.timeout_s, deadline)):
        return False
    session.write(_AWAIT_CHILD, (parent.run_id, start.step_id, now, run.run_id, start.run_attempt))
    session.due = True
    return True


def _open_row(failure: FailedAttempt) -> tuple[Any, ...]:
    return (
        failure.step_id,
        failure.error,
        failure.attempt,
        micros(failure.started_at),
        micros_or_none(failure.wake_at),
        failure.max_attempts,
        failure.earlier_attempts,
        failure.run_attempt,
        failure.in_doubt,
        failure.heartbeat_details,
    )


def _mark_row(mark: StartMark) -> tuple[Any, ...]:
    return mark.step_id, mark.attempt, micros(mark.started_at), mark.earlier_attempts, mark.run_attempt


def _let_go(session: Session, changes: Iterable[Change]) -> None:
    """Write transitions of runs that are known to be ours."""
    now = session.now
    rows: list[tuple[Any, ...]] = []
    asleep: list[str] = []
    again: list[str] = []
    for change in changes:
        transition = change.transition
        assert transition is not None
        status = transition.status
        ended = status in TERMINAL
        if ended:
            session.ended = True
            if transition.parent is not None:
                session.due = session.mail = True
        elif status is RunStatus.SLEEPING:
            asleep.append(change.run_id)
        else:
            session.due = True
        if transition.continues is not None:
            _hand_on(session, change.run_id, transition.continues)
        if transition.reopened_seq is not None:
            session.connection.execute(_REOPEN, (change.run_id, transition.reopened_seq, transition.undoes))
            again.append(change.run_id)
        rows.append(
            (
                change.run_id,
                status,
                transition.output,
                transition.error,
                transition.waits,
                now,
                transition.inbox,
                micros_or_none(transition.wake_at),
                now if ended else None,
                transition.parked,
            )
        )
    if rows:
        _TRANSITION.run(session.connection, rows)
    for run_id in again:
        session.connection.execute(_HURRY, (run_id, now))
    if asleep and not session.due:
        session.due = session.value(_ANY_DUE, (msgspec.json.encode(asleep).decode(), now)) is not None


def _hand_on(session: Session, run_id: RunId, successor: Successor) -> None:
    """Let another run take the place of one that is about to end."""
    now = session.now
    session.write(_HAND_ON, (run_id, successor.run_id))
    session.write(_SUCCEED, (run_id, successor.version, successor.input, now))
    session.write(_FORWARD, (run_id, successor.run_id))
    session.write(_REMEMBER, (run_id, successor.run_id, now - span(_REMEMBERED)))
    session.due = True


# -- rare: a lost lease, or our own earlier try ------------------------------------------------------------------


def commit_carefully(session: Session, changes: Sequence[Change]) -> Committed:
    """Change by change, to know of each what became of it."""
    # Asked before anything is written: a later change of the batch may let go of the run of an earlier one.
    owned = [session.value(_OWNED_ONE, (change.run_id, change.fence)) is not None for change in changes]
    outcomes: list[Applied] = []
    earlier: dict[int, datetime] = {}
    for place, change in enumerate(changes):
        # What replaces a record of an earlier attempt is not there while that one still is.
        wanted = [(change.run_id, each.step_id, each.seq if change.replaces else 0) for each in change.records]
        times = [session.value(_RECORD_THERE, each) for each in wanted]
        outcome = _apply(session, change, times) if owned[place] else _outcome_before(session, change, times)
        outcomes.append(outcome)
        before = [time for time in times if time is not None]
        if before and outcome is not Applied.LOST:
            earlier[place] = moment(max(before))
    return Committed(outcomes=tuple(outcomes), now=moment(session.now), earlier=earlier)


def _apply(session: Session, change: Change, times: list[int | None]) -> Applied:
    rows = [_record_row(change, record, session.now) for record in change.records]
    if not change.replaces:
        _RECORD.run(session.connection, rows)
    _write_rarities(session, change)
    if any(not session.rows(_RUN_THERE, (start.run.run_id,)) for start in change.starts):
        return Applied.TAKEN
    if change.transition is not None:
        _let_go(session, [change])
        return Applied.APPLIED
    return Applied.ALREADY if rows and None not in times else Applied.APPLIED


def _outcome_before(session: Session, change: Change, times: list[int | None]) -> Applied:
    """Tell our own earlier try from a lost lease.

    Everybody else who changes a run's status increments its fence, so equal fence and the status that we wanted mean
    that we wrote it.
    """
    run = session.rows(_RUN_THERE, (change.run_id,))
    if not run or run[0][0] != change.fence or None in times:
        return Applied.LOST
    if change.transition is not None:
        return Applied.ALREADY if run[0][1] == change.transition.status else Applied.LOST
    if any(not session.rows(_RUN_THERE, (start.run.run_id,)) for start in change.starts):
        return Applied.LOST
    if change.records or change.failed or change.returned or change.starts or change.marks:
        return Applied.ALREADY
    return Applied.LOST
