"""Taking due runs, at a cost that grows with the worker's own lanes and slots and with nothing else (P27)."""

# ruff: noqa: S608 - SQL is put together from constants only.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec

from kagzi.ids import is_id
from kagzi.model.claim import Claim, Claimed, ClaimRequest
from kagzi.model.message import Message
from kagzi.model.run import RunId
from kagzi.store.sql.histories import Histories, sort_histories
from kagzi.store.sqlite.mail import unreceived
from kagzi.store.sqlite.register import ALIVE
from kagzi.store.sqlite.rows import BY_RUN_ID, RECORD_COLUMNS, Row, step_record
from kagzi.store.sqlite.session import Session, each
from kagzi.store.sqlite.times import EARLIEST, moment, moment_or_none, span

# A lane is a queue, a workflow's version and a priority, and in the claim index its runs stand in order of due time.
# The priorities that exist are found by a loose index scan, each by one probe below the last. CROSS JOIN keeps the
# order of the tables and INDEXED BY the index, whatever the planner's statistics say.
_RUNS = """workflow_runs AS r INDEXED BY workflow_runs_claim
        WHERE r.namespace = ?1 AND r.queue = {lane}.queue AND r.workflow = {lane}.workflow
            AND r.version = {lane}.version AND r.status IN ('PENDING', 'SLEEPING')"""
_LANES = f"""
WITH RECURSIVE
served (queue, workflow, version) AS MATERIALIZED (
    SELECT q.value, w.value ->> 0, w.value ->> 1 FROM json_each(?2) AS q CROSS JOIN json_each(?3) AS w
),
lane (queue, workflow, version, priority) AS (
    SELECT s.queue, s.workflow, s.version, (
        SELECT r.priority FROM {_RUNS.format(lane="s")} ORDER BY r.priority DESC LIMIT 1
    )
    FROM served AS s
    UNION ALL
    SELECT l.queue, l.workflow, l.version, (
        SELECT r.priority FROM {_RUNS.format(lane="l")} AND r.priority < l.priority ORDER BY r.priority DESC LIMIT 1
    )
    FROM lane AS l WHERE l.priority IS NOT NULL
)
"""

_FIRST_DUE = f"""
{_LANES}
SELECT min((
    SELECT r.available_at FROM {_RUNS.format(lane="l")} AND r.priority = l.priority AND r.available_at >= {EARLIEST}
    ORDER BY r.available_at LIMIT 1
))
FROM lane AS l WHERE l.priority IS NOT NULL
"""

# The lane's first runs come as one array, for SQLite has no LATERAL: a plain join would read all that are due.
_DUE = f"""
{_LANES},
due (run, priority, available_at) AS MATERIALIZED (
    SELECT d.value ->> 1, l.priority, d.value ->> 0 AS available_at
    FROM lane AS l CROSS JOIN json_each((
        SELECT json_group_array(json_array(h.available_at, h.run)) FROM (
            SELECT r.available_at AS available_at, r.rowid AS run
            FROM {_RUNS.format(lane="l")} AND r.priority = l.priority
                AND r.available_at >= {EARLIEST} AND r.available_at <= ?4
            ORDER BY r.available_at LIMIT ?5
        ) AS h
    )) AS d
    WHERE l.priority IS NOT NULL
    ORDER BY l.priority DESC, available_at LIMIT ?5
)
SELECT r.rowid, r.run_id, r.id, r.workflow, r.version, r.queue, r.priority, r.input, r.fence, r.inbox, r.attempts,
    CASE WHEN r.reopened_seq > 0 THEN r.attempt_started_at ELSE r.started_at END, r.parent_run_id, r.parked,
    r.reopened_seq, r.crashes, r.progress, r.seed
FROM due AS d CROSS JOIN workflow_runs AS r
WHERE r.rowid = d.run
ORDER BY d.priority DESC, d.available_at
"""

_TAKE = """
UPDATE workflow_runs SET
    status = 'RUNNING', fence = fence + 1, worker_key = ?2, started_at = coalesce(started_at, ?3),
    wakeups = wakeups + (status = 'SLEEPING'), available_at = NULL, waits = NULL,
    attempt_started_at = CASE WHEN reopened_seq > 0 THEN coalesce(attempt_started_at, ?3) END
WHERE rowid IN (SELECT value FROM json_each(?1))
"""

# Those that were set aside, among the few that fall due soon.
_ASIDE = f"""
{_LANES}
SELECT d.value
FROM lane AS l CROSS JOIN json_each((
    SELECT json_group_array(h.run) FROM (
        SELECT r.rowid AS run FROM {_RUNS.format(lane="l")} AND r.priority = l.priority
            AND r.available_at > ?4 AND r.available_at <= ?5 AND r.status = 'SLEEPING' AND r.error IS NOT NULL
        ORDER BY r.available_at LIMIT ?6
    ) AS h
)) AS d
WHERE l.priority IS NOT NULL
ORDER BY l.priority DESC LIMIT ?6
"""
_WAKE = "UPDATE workflow_runs SET available_at = ?2 WHERE rowid IN (SELECT value FROM json_each(?1))"

_RECALL = f"""
SELECT r.rowid, r.run_id, r.id, r.workflow, r.version, r.queue, r.priority, r.input, r.fence, r.inbox, r.attempts,
    CASE WHEN r.reopened_seq > 0 THEN r.attempt_started_at ELSE r.started_at END, r.parent_run_id, r.parked,
    r.reopened_seq, r.crashes, r.progress, r.seed
FROM json_each(?) AS asked CROSS JOIN workflow_runs AS r {BY_RUN_ID}
WHERE r.run_id = asked.value
"""

_HISTORIES = f"""
SELECT {RECORD_COLUMNS}
FROM json_each(?) AS asked CROSS JOIN step_runs AS s
WHERE s.run_id = asked.value
ORDER BY s.seq
"""


def _peek(session: Session, request: ClaimRequest) -> Claimed | None:
    """Answer where nothing is due, so that idle workers never take the write lock."""
    if session.value(ALIVE, (request.worker, session.now)) is None:
        return Claimed(claims=(), now=moment(session.now))
    first = session.value(_FIRST_DUE, _served(request))
    if first is not None and first <= session.now:
        return None
    return Claimed(claims=(), now=moment(session.now), next_due=moment_or_none(first))


def _claim(session: Session, request: ClaimRequest) -> Claimed:
    now = session.now
    if session.value(ALIVE, (request.worker, now)) is None:
        return Claimed(claims=(), now=moment(now))
    served = _served(request)
    rows = session.rows(_DUE, (*served, now, request.slots))
    if rows:
        session.connection.execute(_TAKE, (_json([row[0] for row in rows]), request.worker, now))
    claims = _with_histories(session, rows, fence_rises_by=1)
    if len(rows) >= request.slots:
        return Claimed(claims=claims, now=moment(now))
    return Claimed(claims=claims, now=moment(now), next_due=moment_or_none(session.value(_FIRST_DUE, served)))


class Reconsidering(NamedTuple):
    """One call of `reconsider`."""

    request: ClaimRequest
    within: timedelta


def _aside(session: Session, asked: Reconsidering, *, limit: int) -> list[int]:
    request, within = asked
    if session.value(ALIVE, (request.worker, session.now)) is None:
        return []
    return [run for (run,) in session.rows(_ASIDE, (*_served(request), session.now, session.now + span(within), limit))]


def _reconsider(session: Session, asked: Reconsidering) -> int:
    runs = _aside(session, asked, limit=asked.request.slots)
    return session.write(_WAKE, (_json(runs), session.now)) if runs else 0


def _nothing_aside(session: Session, asked: Reconsidering) -> int | None:
    return None if _aside(session, asked, limit=1) else 0


def _recall(session: Session, run_ids: Sequence[RunId]) -> list[Claim]:
    possible = [run_id for run_id in dict.fromkeys(run_ids) if is_id(run_id)]
    return list(_with_histories(session, session.rows(_RECALL, (_json(possible),)), fence_rises_by=0))


CLAIM = each(_claim, peek=_peek)
RECONSIDER = each(_reconsider, peek=_nothing_aside)
RECALL = each(_recall)


def _served(request: ClaimRequest) -> tuple[str, str, str]:
    # Without duplicates: a lane that is searched twice would give each of its runs twice.
    return request.namespace, _json(list(dict.fromkeys(request.queues))), _json(list(dict.fromkeys(request.workflows)))


def _with_histories(session: Session, rows: list[Row], *, fence_rises_by: int) -> tuple[Claim, ...]:
    before = [row[1] for row in rows if row[8]]
    steps = session.rows(_HISTORIES, (_json(before),)) if before else ()
    reopened = {row[1]: (row[14], row[10]) for row in rows if row[14]}
    histories = sort_histories(steps, step_record, reopened=reopened, as_moment=moment_or_none)
    mail = unreceived(session, {row[1]: 0 for row in rows if row[9]})
    return tuple(_as_claim(row, row[8] + fence_rises_by, session.now, histories, mail) for row in rows)


def _as_claim(row: Row, fence: int, now: int, histories: Histories, mail: Mapping[RunId, Sequence[Message]]) -> Claim:
    run_id = row[1]
    if not row[8] and not row[9]:  # never claimed, and without mail
        return Claim(
            run_id=run_id,
            id=row[2],
            workflow=row[3],
            version=row[4],
            queue=row[5],
            priority=row[6],
            input=row[7],
            fence=fence,
            inbox=0,
            attempts=row[10],
            started_at=moment(now if row[11] is None else row[11]),
            parent_run_id=row[12],
        )
    return Claim(
        run_id=run_id,
        id=row[2],
        workflow=row[3],
        version=row[4],
        queue=row[5],
        priority=row[6],
        input=row[7],
        fence=fence,
        inbox=row[9],
        attempts=row[10],
        started_at=moment(now if row[11] is None else row[11]),
        parent_run_id=row[12],
        parked=row[13],
        history=tuple(histories.records.get(run_id, ())),
        tries=histories.tries.get(run_id, {}),
        earlier=histories.earlier.get(run_id, {}),
        children=histories.children.get(run_id, {}),
        left_open=frozenset(histories.left_open.get(run_id, ())),
        reopened_seq=row[14],
        crashes=histories.crashes_since(run_id, crashes=row[15], progress=row[16]) if row[15] else 0,
        mail=tuple(mail.get(run_id, ())),
        seed=row[17],
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
