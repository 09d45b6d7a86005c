"""Events, those who wait for them, and those who handle them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from kagzi.model.event import (
    Awaiting,
    Distributed,
    Enrolment,
    EventHandler,
    EventWait,
    Forgetting,
    Forgotten,
    KeyTaken,
    NewEvent,
    PendingEvent,
)
from kagzi.model.run import TERMINAL, MessageKind
from kagzi.store.sqlite.mail import COUNT, POST_ONE
from kagzi.store.sqlite.rows import RUN_STATUSES, word
from kagzi.store.sqlite.session import Session, each
from kagzi.store.sqlite.times import later, span


class Looked(NamedTuple):
    """One call of `pending_events`."""

    namespace: str
    limit: int


class Distribution(NamedTuple):
    """One call of `distribute`."""

    event_ids: Sequence[str]
    limit: int


class Enrolling(NamedTuple):
    """One call of `enroll`."""

    namespace: str
    enrolment: Enrolment


class Sweep(NamedTuple):
    """One call of `forget_events`."""

    namespace: str
    forgetting: Forgetting


EVENT_INSERTED = "INSERT INTO events (event_id, namespace, name, key, payload, call, dedup_key, at)"
_BY_DEDUP_KEY = "SELECT e.name, e.key FROM events AS e WHERE e.namespace = ? AND e.dedup_key = ?"
_EMIT = f"{EVENT_INSERTED} VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"

_OWNED = """
SELECT r.namespace FROM workflow_runs AS r WHERE r.run_id = ? AND r.fence = ? AND r.status = 'RUNNING'
"""
_GIVEN_UP = """
DELETE FROM event_waits
WHERE run_id = ?1 AND event_id IS NULL AND step_id NOT IN (SELECT value FROM json_each(?2))
"""
_LAST_PLACE = "SELECT max(place) FROM events"
_WAIT = """
INSERT INTO event_waits (run_id, step_id, namespace, name, key, after, since, lookback) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
-- Given an event, and asked again: the event is in the mailbox, or else was received by a wait that is no more.
ON CONFLICT (run_id, step_id) DO UPDATE SET
    name = excluded.name, key = excluded.key, after = excluded.after, since = excluded.since,
    lookback = excluded.lookback, event_id = NULL, position = NULL, given_at = NULL
WHERE event_waits.event_id IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM messages AS m
    WHERE m.run_id = event_waits.run_id AND m.position = event_waits.position AND m.received_seq IS NULL
)
"""

_GIVEN = "SELECT w.event_id FROM event_waits AS w WHERE w.run_id = ? AND w.step_id = ?"

# What fits a wait and its run has not received before. A wait that began before the run was given the event may get it
# as well: several branches of a run can wait for one.
_FITS = """(e.place > w.after OR (w.lookback > 0 AND e.at >= w.since - w.lookback)) AND NOT EXISTS (
        SELECT 1 FROM event_waits AS o INDEXED BY event_waits_given CROSS JOIN messages AS m
        WHERE o.run_id = w.run_id AND o.event_id = e.event_id AND o.given_at <= w.since
            AND m.run_id = o.run_id AND m.position = o.position AND m.received_seq IS NOT NULL
    )"""
_EARLIEST = f"""
SELECT e.event_id, e.payload
FROM event_waits AS w CROSS JOIN events AS e INDEXED BY {{index}}
WHERE w.run_id = ? AND w.step_id = ? AND w.event_id IS NULL
    AND e.namespace = w.namespace AND e.name = w.name {{keys}} AND e.at >= w.since - w.lookback AND {_FITS}
ORDER BY e.at LIMIT 1
"""  # noqa: S608 - put together from constants
_EARLIEST_OF_ANY = _EARLIEST.format(index="events_name", keys="")
_EARLIEST_OF_KEY = _EARLIEST.format(index="events_key", keys="AND e.key = w.key")

_FITTING = f"""
SELECT w.run_id, w.step_id
FROM events AS e CROSS JOIN event_waits AS w INDEXED BY event_waits_open
WHERE e.event_id = ? AND NOT e.is_distributed
    AND w.namespace = e.namespace AND w.name = e.name AND w.key IN ('', e.key) AND w.event_id IS NULL AND {_FITS}
LIMIT ?
"""  # noqa: S608 - put together from constants
_PAYLOAD = "SELECT e.payload FROM events AS e WHERE e.event_id = ? AND NOT e.is_distributed"
_RUN = "SELECT r.status, r.inbox FROM workflow_runs AS r WHERE r.run_id = ?"
_GIVE = """
UPDATE event_waits SET event_id = ?3, position = ?4, given_at = ?5
WHERE run_id = ?1 AND step_id = ?2 AND event_id IS NULL
"""
_DROP = "DELETE FROM event_waits WHERE run_id = ? AND step_id = ? AND event_id IS NULL"
_DONE = "UPDATE events SET is_distributed = 1 WHERE event_id = ?"

_PENDING = """
SELECT e.event_id, e.name, e.key, e.call FROM events AS e INDEXED BY events_pending
WHERE e.namespace = ? AND NOT e.is_distributed ORDER BY e.place LIMIT ?
"""
_HANDLERS = "SELECT h.workflow, h.version, h.queue FROM event_handlers AS h WHERE h.namespace = ? AND h.event = ?"

_ENROLL = """
INSERT INTO event_handlers (namespace, event, workflow, version, queue, seen_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (namespace, event, workflow) DO UPDATE SET
    seen_at = excluded.seen_at, version = excluded.version, queue = excluded.queue
WHERE excluded.version >= event_handlers.version
"""
_STALE = """
SELECT h.event, h.workflow, h.version FROM event_handlers AS h WHERE h.namespace = ? AND h.seen_at < ?
"""
_DISMISS = "DELETE FROM event_handlers WHERE namespace = ? AND event = ? AND workflow = ?"

_OLD = """
SELECT e.place FROM events AS e INDEXED BY events_at
WHERE e.namespace = ?1 AND e.is_distributed AND e.at < ?2 ORDER BY e.at LIMIT ?3
"""
_FORGET = f"DELETE FROM events WHERE place IN ({_OLD})"  # noqa: S608 - put together from constants
_PAGE = """
SELECT w.run_id, w.step_id, w.event_id, w.given_at,
    coalesce((SELECT r.status FROM workflow_runs AS r WHERE r.run_id = w.run_id), 'COMPLETED')
        IN ('COMPLETED', 'FAILED', 'CANCELLED')
FROM event_waits AS w WHERE (w.run_id, w.step_id) > (?1, ?2)
ORDER BY w.run_id, w.step_id LIMIT ?3
"""
_DELETE_WAIT = "DELETE FROM event_waits WHERE run_id = ? AND step_id = ?"


def event_row(event: NewEvent, now: int) -> tuple[Any, ...]:
    """An event as EVENT_INSERTED takes it."""
    content = (event.name, event.key, event.payload, event.call)
    return (event.event_id, event.namespace, *content, event.dedup_key, now)


def _emit(session: Session, events: Sequence[NewEvent]) -> list[KeyTaken]:
    taken: list[KeyTaken] = []
    for event in events:
        if session.write(_EMIT, event_row(event, session.now)):
            session.event = True
        else:
            taken += taken_by(event, session.rows(_BY_DEDUP_KEY, (event.namespace, event.dedup_key)))
    return taken


def taken_by(event: NewEvent, there: Sequence[tuple[Any, ...]]) -> list[KeyTaken]:
    """An answer about an event that was not stored; `there` is what has its dedup_key."""
    return [
        KeyTaken(event_id=event.event_id, name=name, key=key)
        for name, key in there
        if (name, key) != (event.name, event.key)
    ]


def _await(session: Session, runs: Sequence[Awaiting]) -> int:
    return sum(_await_one(session, run) for run in runs)


def _await_one(session: Session, run: Awaiting) -> int:
    namespace = session.value(_OWNED, (run.run_id, run.fence))
    if namespace is None:
        return 0
    session.write(_GIVEN_UP, (run.run_id, _json([wait.step_id for wait in run.waits])))
    after = session.value(_LAST_PLACE) or 0
    given = 0
    for wait in run.waits:
        lookback = later(0, wait.lookback_s)
        where = (namespace, wait.name, wait.key)
        session.write(_WAIT, (run.run_id, wait.step_id, *where, after, session.now, lookback))
        given += _look(session, run, wait)
    return given


def _look(session: Session, run: Awaiting, wait: EventWait) -> bool:
    """Give a wait an event that is there already, and say whether it has one: writers come one after the other, so any
    other event finds the wait."""
    if session.value(_GIVEN, (run.run_id, wait.step_id)) is not None:
        return True
    found = session.rows(_EARLIEST_OF_KEY if wait.key else _EARLIEST_OF_ANY, (run.run_id, wait.step_id))
    if not found:
        return False
    event_id, payload = found[0]
    return _give(session, (run.run_id, wait.step_id), event_id, payload)


def _give(session: Session, wait: tuple[str, str], event_id: str, payload: str) -> bool:
    run_id, step_id = wait
    rows = session.rows(_RUN, (run_id,))
    status = word(RUN_STATUSES, rows[0][0]) if rows else None
    if status is None or status in TERMINAL:
        session.write(_DROP, wait)
        return False
    position, now = rows[0][1] + 1, session.now
    session.write(_GIVE, (run_id, step_id, event_id, position, now))
    session.write(POST_ONE, (run_id, position, MessageKind.EVENT, step_id, payload, None, now))
    session.write(COUNT, (run_id, position, now))
    session.due |= status == "SLEEPING"
    session.mail |= status == "RUNNING"
    return True


def _distribute(session: Session, distribution: Distribution) -> Distributed:
    given = left = 0
    for event_id in distribution.event_ids:
        payload = session.value(_PAYLOAD, (event_id,))
        if payload is None:
            continue
        waits = session.rows(_FITTING, (event_id, distribution.limit))
        given += sum(_give(session, (run_id, step_id), event_id, payload) for run_id, step_id in waits)
        if len(waits) < distribution.limit:
            session.write(_DONE, (event_id,))
        else:
            left += 1
    return Distributed(given=given, left=left)


def _pending(session: Session, looked: Looked) -> list[PendingEvent]:
    rows = session.rows(_PENDING, looked)
    handlers = {name: _handlers(session, looked.namespace, name) for name in {row[1] for row in rows}}
    return [
        PendingEvent(
            event_id=event_id, name=name, key=key, call=call if handlers[name] else None, handlers=handlers[name]
        )
        for event_id, name, key, call in rows
    ]


def _handlers(session: Session, namespace: str, event: str) -> tuple[EventHandler, ...]:
    return tuple(
        EventHandler(event=event, workflow=workflow, version=version, queue=queue)
        for workflow, version, queue in session.rows(_HANDLERS, (namespace, event))
    )


def _nothing_to_enroll(session: Session, enrolling: Enrolling) -> bool | None:
    """Answer where nobody handles anything, without the write lock."""
    namespace, enrolment = enrolling
    return None if enrolment.handlers or session.rows(_STALE, (namespace, session.now)) else True


def _enroll(session: Session, enrolling: Enrolling) -> bool:
    namespace, enrolment = enrolling
    handled = set()
    for handler in enrolment.handlers:
        handled.add((handler.event, handler.workflow))
        content = (handler.event, handler.workflow, handler.version, handler.queue)
        session.write(_ENROLL, (namespace, *content, session.now))
    known = dict(enrolment.workflows)
    for event, workflow, version in session.rows(_STALE, (namespace, session.now - span(enrolment.stale_after))):
        if version <= known.get(workflow, 0) and (event, workflow) not in handled:
            session.write(_DISMISS, (namespace, event, workflow))
    return True


def _nothing_to_forget(session: Session, sweep: Sweep) -> Forgotten | None:
    """Answer where there is nothing, which is nearly always, without the write lock."""
    until = session.now - span(sweep.forgetting.older_than)
    unneeded, cursor = _leaf_through(session, sweep.forgetting, until)
    is_old = session.value(_OLD, (sweep.namespace, until, 1)) is not None
    return None if unneeded or is_old else Forgotten(cursor=cursor)


def _forget(session: Session, sweep: Sweep) -> Forgotten:
    namespace, forgetting = sweep
    until = session.now - span(forgetting.older_than)
    gone = session.write(_FORGET, (namespace, until, forgetting.batch))
    unneeded, cursor = _leaf_through(session, forgetting, until)
    for wait in unneeded:
        session.write(_DELETE_WAIT, wait)
    return Forgotten(cursor=cursor, more=gone >= forgetting.batch)


def _leaf_through(
    session: Session, forgetting: Forgetting, until: int
) -> tuple[list[tuple[str, str]], tuple[str, str] | None]:
    """The waits of a page that nobody needs any more, and where the next page begins."""
    rows = session.rows(_PAGE, (*(forgetting.cursor or ("", "")), forgetting.batch))
    unneeded = [
        (run_id, step_id)
        for run_id, step_id, event_id, given_at, has_ended in rows
        if (has_ended if event_id is None else given_at < until)
    ]
    return unneeded, (rows[-1][0], rows[-1][1]) if len(rows) >= forgetting.batch else None


EMIT = each(_emit)
AWAIT = each(_await)
PENDING = each(_pending)
DISTRIBUTE = each(_distribute)
ENROLL = each(_enroll, peek=_nothing_to_enroll)
FORGET = each(_forget, peek=_nothing_to_forget)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
