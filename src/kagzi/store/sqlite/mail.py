"""The mailboxes of runs: posting to them, and looking for what has come."""

# ruff: noqa: S608 - SQL is put together from constants only.

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from kagzi.model.message import Answered, Mail, Message, NewMessage, Posted, PostOutcome
from kagzi.model.run import TERMINAL, MessageKind, RunId, RunStatus, WorkerKey
from kagzi.store.sqlite.rows import BY_RUN_ID, RUN_STATUSES, word
from kagzi.store.sqlite.session import Session, each
from kagzi.store.sqlite.times import moment


class Wanted(NamedTuple):
    """A published value."""

    run_id: RunId
    key: str


class Looked(NamedTuple):
    """What a worker asks for: its registration, and the counter of each of its runs as it knows it."""

    worker: WorkerKey
    seen: Mapping[RunId, int]


_BY_RUN_ID = "SELECT r.run_id, r.status, r.inbox FROM workflow_runs AS r WHERE r.run_id = ? AND r.namespace = ?"
_BY_ID = "SELECT r.run_id, r.status, r.inbox FROM workflow_runs AS r WHERE r.namespace = ? AND r.id = ?"
_BY_KEY = """
SELECT m.position, m.kind, m.name FROM messages AS m INDEXED BY messages_dedup_key
WHERE m.run_id = ? AND m.dedup_key = ? AND m.dedup_key IS NOT NULL
"""

POST_ONE = """
INSERT INTO messages (run_id, position, kind, name, payload, dedup_key, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)
"""

COUNT = """
UPDATE workflow_runs SET
    inbox = ?2,
    available_at = CASE WHEN status = 'SLEEPING' THEN min(coalesce(available_at, ?3), ?3) ELSE available_at END
WHERE run_id = ?1
"""

_COUNTERS = "SELECT r.run_id, r.inbox, r.paused_at IS NOT NULL FROM workflow_runs AS r WHERE r.worker_key = ?"

_UNRECEIVED = """
SELECT m.run_id, m.position, m.kind, m.name, m.payload, m.created_at
FROM json_each(?) AS asked CROSS JOIN messages AS m INDEXED BY messages_unreceived
WHERE m.run_id = asked.key AND m.position > asked.value AND m.received_seq IS NULL
ORDER BY m.run_id, m.position
"""

_ANSWERS = f"""
SELECT m.run_id, m.position, m.reply, r.status
FROM json_each(?) AS asked CROSS JOIN messages AS m CROSS JOIN workflow_runs AS r {BY_RUN_ID}
WHERE m.run_id = asked.value ->> 0 AND m.position = asked.value ->> 1 AND r.run_id = m.run_id
"""

_VALUE = "SELECT v.value FROM run_values AS v WHERE v.run_id = ? AND v.key = ?"

_KINDS = {member.value: member for member in MessageKind}


def _post(session: Session, messages: Sequence[NewMessage]) -> list[Posted]:
    return [_post_one(session, message) for message in messages]


def _post_one(session: Session, message: NewMessage) -> Posted:
    run = _find(session, message)
    if run is None:
        return Posted(outcome=PostOutcome.NOT_FOUND)
    run_id, status, inbox = run
    status = word(RUN_STATUSES, status)
    if message.dedup_key is not None:
        there = session.rows(_BY_KEY, (run_id, message.dedup_key))
        if there:
            return met(message, there[0], run_id=run_id, status=status)
    if status in TERMINAL:
        return Posted(outcome=PostOutcome.CLOSED, run_id=run_id, status=status)
    position, now = inbox + 1, session.now
    content = (message.kind, message.name, message.payload, message.dedup_key, now)
    session.write(POST_ONE, (run_id, position, *content))
    session.write(COUNT, (run_id, position, now))
    session.due |= status is RunStatus.SLEEPING
    session.mail |= status is RunStatus.RUNNING
    return Posted(outcome=PostOutcome.POSTED, run_id=run_id, position=position, status=status)


def met(message: NewMessage, there: tuple[Any, ...], *, run_id: RunId, status: RunStatus) -> Posted:
    """The answer to a message whose key another has: its position, kind and name are `there`."""
    position, kind, name = there
    is_same = (kind, name) == (message.kind.value, message.name)
    outcome = PostOutcome.DUPLICATE if is_same else PostOutcome.TAKEN
    return Posted(outcome=outcome, run_id=run_id, position=position, status=status)


def _find(session: Session, message: NewMessage) -> tuple[Any, ...] | None:
    if message.run_id is not None:
        rows = session.rows(_BY_RUN_ID, (message.run_id, message.namespace))
    else:
        rows = session.rows(_BY_ID, (message.namespace, message.id))
    return rows[0] if rows else None


def _mail(session: Session, looked: Looked) -> Mail:
    rows = session.rows(_COUNTERS, (looked.worker,))
    counters = {run_id: inbox for run_id, inbox, _ in rows}
    news = {run_id: at for run_id, at in looked.seen.items() if counters.get(run_id, 0) > at}
    gone = tuple(run_id for run_id in looked.seen if run_id not in counters)
    messages = unreceived(session, news)
    return Mail(
        inbox={run_id: counters[run_id] for run_id in news},
        messages=messages,
        gone=gone,
        paused=frozenset(run_id for run_id, _, is_paused in rows if is_paused),
    )


def unreceived(session: Session, beyond: Mapping[RunId, int]) -> dict[RunId, list[Message]]:
    """The messages of these runs that no record has received, in order, each run's from beyond a position on."""
    if not beyond:
        return {}
    messages: defaultdict[RunId, list[Message]] = defaultdict(list)
    for row in session.rows(_UNRECEIVED, (msgspec.json.encode(beyond).decode(),)):
        kind = _KINDS.get(row[2], row[2])
        message = Message(position=row[1], kind=kind, name=row[3], payload=row[4], created_at=moment(row[5]))
        messages[row[0]].append(message)
    return dict(messages)


def _answers(session: Session, updates: Sequence[tuple[RunId, int]]) -> list[Answered]:
    return [
        Answered(run_id=row[0], position=row[1], reply=row[2], status=word(RUN_STATUSES, row[3]))
        for row in session.rows(_ANSWERS, (msgspec.json.encode(updates).decode(),))
    ]


def _value(session: Session, wanted: Wanted) -> str | None:
    value: str | None = session.value(_VALUE, wanted)
    return value


POST = each(_post)
MAIL = each(_mail)
UNRECEIVED = each(unreceived)
ANSWERS = each(_answers)
VALUE = each(_value)
