"""Taking due runs: one statement whose cost grows with the worker's own lanes and slots and with nothing else."""

# ruff: noqa: S608 - SQL is put together from constants, and the schema name is quoted.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from kagzi.clock import monotonic
from kagzi.ids import is_id
from kagzi.model.claim import Claim, Claimed, ClaimRequest
from kagzi.model.message import Message
from kagzi.model.run import RunId
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.batches import array_text, rows_json
from kagzi.store.postgres.connections import Connections, Row
from kagzi.store.postgres.floors import SLOW, Floors, Lane
from kagzi.store.postgres.mail import Post
from kagzi.store.postgres.rows import RECORD_COLUMNS, readable, step_record
from kagzi.store.sql.histories import Histories, sort_histories

# A lane is a queue, a workflow's version and a priority, and in the claim index its runs stand in order of due time.
_LANES = """
WITH RECURSIVE
-- Nothing is served where the registration is not alive: all that follows is then empty.
served AS MATERIALIZED (
    SELECT q.queue, v.workflow, v.version
    FROM {schema}.workers AS k, unnest($4::text[]) AS q (queue),
        unnest($5::text[], $6::integer[]) AS v (workflow, version)
    WHERE k.key = $1 AND k.ended_at IS NULL AND k.lease_until > now()
),
-- The priorities that exist, by a loose index scan: each is found by one probe below the last.
lane (queue, workflow, version, priority, floor) AS (
    SELECT s.queue, s.workflow, s.version, p.priority, timestamptz '-infinity'
    FROM served AS s
    CROSS JOIN LATERAL (
        SELECT r.priority FROM {schema}.workflow_runs AS r
        WHERE r.namespace = $2 AND r.queue = s.queue AND r.workflow = s.workflow AND r.version = s.version
            AND r.status IN ('PENDING', 'SLEEPING')
        ORDER BY r.priority DESC LIMIT 1
    ) AS p
    UNION ALL
    SELECT l.queue, l.workflow, l.version, p.priority, l.floor
    FROM lane AS l
    CROSS JOIN LATERAL (
        SELECT r.priority FROM {schema}.workflow_runs AS r
        WHERE r.namespace = $2 AND r.queue = l.queue AND r.workflow = l.workflow AND r.version = l.version
            AND r.priority < l.priority AND r.status IN ('PENDING', 'SLEEPING')
        ORDER BY r.priority DESC LIMIT 1
    ) AS p
),
"""

# The lanes as an earlier claim found them, each from its floor on (see floors.py).
_KNOWN_LANES = """
WITH
lane AS MATERIALIZED (
    SELECT l.queue, l.workflow, l.version, l.priority, coalesce(l.floor, '-infinity') AS floor
    FROM {schema}.workers AS k,
        json_to_recordset($4::json) AS l (
            queue text, workflow text, version integer, priority integer, floor timestamptz
        )
    WHERE k.key = $1 AND k.ended_at IS NULL AND k.lease_until > now()
),
"""

_TAKE = """
-- MATERIALIZED, or the planner may run the LIMIT again per outer row and claim too many.
due AS MATERIALIZED (
    SELECT d.run_id, l.priority, d.available_at
    FROM (SELECT * FROM lane ORDER BY priority DESC) AS l
    CROSS JOIN LATERAL (
        SELECT r.run_id, r.available_at FROM {schema}.workflow_runs AS r
        WHERE r.namespace = $2 AND r.queue = l.queue AND r.workflow = l.workflow AND r.version = l.version
            AND r.priority = l.priority AND r.status IN ('PENDING', 'SLEEPING') AND r.available_at <= now()
            AND r.available_at >= l.floor
        ORDER BY r.available_at
        LIMIT $3
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS d
    ORDER BY l.priority DESC, d.available_at
    LIMIT $3
),
taken AS (
    UPDATE {schema}.workflow_runs AS w SET
        status = 'RUNNING', fence = w.fence + 1, worker_key = $1, started_at = coalesce(w.started_at, now()),
        wakeups = w.wakeups + (w.status = 'SLEEPING')::integer, available_at = NULL, waits = NULL,
        attempt_started_at = CASE WHEN w.reopened_seq > 0 THEN coalesce(w.attempt_started_at, now()) END
    FROM due
    WHERE w.run_id = due.run_id
    RETURNING w.run_id, w.id, w.workflow, w.version, w.queue, w.priority, w.input, w.fence, w.inbox, w.attempts,
        coalesce(w.attempt_started_at, w.started_at) AS started_at, w.parent_run_id, w.parked, w.reopened_seq,
        w.crashes, w.progress, w.seed, due.available_at
),
-- Written only when it changes: an idle worker's polls write nothing.
mood AS (
    UPDATE {schema}.workers AS k SET hungry = NOT k.hungry
    WHERE k.key = $1 AND k.ended_at IS NULL AND k.hungry <> ((SELECT count(*) FROM due) < $3)
    RETURNING k.hungry
)
SELECT now(),
    CASE WHEN (SELECT count(*) FROM due) < $3 THEN (
        SELECT min(n.available_at)
        FROM lane AS l
        CROSS JOIN LATERAL (
            SELECT r.available_at FROM {schema}.workflow_runs AS r
            WHERE r.namespace = $2 AND r.queue = l.queue AND r.workflow = l.workflow AND r.version = l.version
                AND r.priority = l.priority AND r.status IN ('PENDING', 'SLEEPING') AND r.available_at > now()
                AND r.available_at < '9999-12-31'
            ORDER BY r.available_at LIMIT 1
        ) AS n
    ) END,
    (SELECT hungry FROM mood),
    -- The server's own time, which no busy client can spoil. A slow claim tells its lanes (see floors.py).
    extract(epoch FROM clock_timestamp() - now())::double precision,
    {lanes_found},
    {due_at},
    t.run_id::text, t.id, t.workflow, t.version, t.queue, t.priority, t.input, t.fence, t.inbox, t.attempts,
    {started_at}, t.parent_run_id::text, t.parked, t.reopened_seq, t.crashes, t.progress,
    t.seed::text
FROM (SELECT) AS always
LEFT JOIN taken AS t ON true
ORDER BY t.priority DESC, t.available_at
"""

_SLOW_LANES = """CASE WHEN clock_timestamp() - now() >= $7 THEN (
        SELECT coalesce(json_agg(to_json(l)), '[]')::text
        FROM (SELECT queue, workflow, version, priority FROM lane) AS l
    ) END"""

_TAKE = _TAKE.replace("{due_at}", readable("t.available_at")).replace("{started_at}", readable("t.started_at"))

_EVERYWHERE = _LANES + _TAKE.replace("{lanes_found}", _SLOW_LANES)
_FURTHER_ON = _KNOWN_LANES + _TAKE.replace("{lanes_found}", "NULL")

# Those that were set aside, among the few that fall due soon. Their locks are waited for, in the order of run_id as
# whoever marks runs as awaited takes them: a run passed over here would rest for its whole time.
_RECONSIDER = (
    _LANES
    + """
aside AS MATERIALIZED (
    SELECT d.run_id
    FROM (SELECT * FROM lane ORDER BY priority DESC) AS l
    CROSS JOIN LATERAL (
        SELECT r.run_id, r.available_at FROM {schema}.workflow_runs AS r
        WHERE r.namespace = $2 AND r.queue = l.queue AND r.workflow = l.workflow AND r.version = l.version
            AND r.priority = l.priority AND r.status IN ('PENDING', 'SLEEPING')
            AND r.available_at > now() AND r.available_at <= now() + $7::interval
            AND r.status = 'SLEEPING' AND r.error IS NOT NULL
        ORDER BY r.available_at
        LIMIT $3
    ) AS d
    LIMIT $3
),
held AS MATERIALIZED (
    SELECT w.run_id
    FROM (SELECT run_id FROM aside ORDER BY run_id) AS a
    CROSS JOIN LATERAL (
        SELECT w.run_id FROM {schema}.workflow_runs AS w
        WHERE w.run_id = a.run_id AND w.status = 'SLEEPING' AND w.error IS NOT NULL
        FOR NO KEY UPDATE
    ) AS w
),
woken AS (
    UPDATE {schema}.workflow_runs AS w SET available_at = now() FROM held WHERE w.run_id = held.run_id
    RETURNING w.run_id
)
SELECT count(*)::integer FROM woken
"""
)

_RECALL = f"""
SELECT r.run_id::text, r.id, r.workflow, r.version, r.queue, r.priority, r.input, r.fence, r.inbox, r.attempts,
    {readable("coalesce(r.attempt_started_at, r.started_at, now())")}, r.parent_run_id::text, r.parked, r.reopened_seq,
    r.crashes, r.progress, r.seed::text
FROM unnest($1::text::uuid[]) AS asked (run_id)
CROSS JOIN LATERAL (SELECT * FROM {{schema}}.workflow_runs AS r WHERE r.run_id = asked.run_id) AS r
"""

_HISTORIES = f"""
SELECT {RECORD_COLUMNS}
FROM unnest($1::text::uuid[]) AS asked (run_id)
CROSS JOIN LATERAL (SELECT * FROM {{schema}}.step_runs AS s WHERE s.run_id = asked.run_id) AS s
ORDER BY s.seq
"""

_FIRST_FENCE = 1


# Columns of the answer; those of a run begin at _RUN.
_NOW, _NEXT_DUE, _HUNGRY, _TOOK_S, _LANES_FOUND, _DUE_AT, _RUN = range(7)


class Claimer:
    """The verb `claim`."""

    def __init__(self, connections: Connections, names: Names, post: Post) -> None:
        self._connections = connections
        self._post = post
        self._floors = Floors()
        self._everywhere = names.fill(_EVERYWHERE)
        self._further_on = names.fill(_FURTHER_ON)
        self._histories = names.fill(_HISTORIES)
        self._reconsider = names.fill(_RECONSIDER)
        self._recall = names.fill(_RECALL)

    async def claim(self, request: ClaimRequest) -> Claimed:
        """One trip, and one more for the histories of runs that have been claimed before."""
        rows = await self._take(request)
        if rows[0][_HUNGRY] and rows[0][_RUN] is None:
            # We have only now said that we are idle. Who made a run due just before did not know: look once more.
            rows = await self._take(request)
        taken = [row for row in rows if row[_RUN] is not None]
        claims = await self._with_histories([row[_RUN:] for row in taken], before=_FIRST_FENCE)
        return Claimed(claims=claims, now=rows[0][_NOW], next_due=rows[0][_NEXT_DUE])

    async def reconsider(self, request: ClaimRequest, *, within: timedelta) -> int:
        """One trip."""
        workflows = [workflow for workflow, _ in request.workflows]
        versions = [version for _, version in request.workflows]
        lanes = list(request.queues), workflows, versions
        rows = await self._connections.fetch(
            self._reconsider, request.worker, request.namespace, request.slots, *lanes, within
        )
        count: int = rows[0][0]
        return count

    async def recall(self, run_ids: Sequence[RunId]) -> list[Claim]:
        """Two trips."""
        asked = array_text(run_id for run_id in dict.fromkeys(run_ids) if is_id(run_id))
        rows = await self._connections.fetch(self._recall, asked)
        return list(await self._with_histories([tuple(row) for row in rows], before=0))

    async def _take(self, request: ClaimRequest) -> list[Row]:
        lanes = self._floors.lanes(request, at_s=monotonic())
        common = request.worker, request.namespace, request.slots
        if lanes is None:
            queues = list(request.queues)
            workflows = [workflow for workflow, _ in request.workflows]
            versions = [version for _, version in request.workflows]
            rows = await self._connections.fetch(self._everywhere, *common, queues, workflows, versions, SLOW)
            found = rows[0][_LANES_FOUND]
            self._floors.looked(
                request,
                lanes=None if found is None else msgspec.json.decode(found, type=list[Lane]),
                took_s=rows[0][_TOOK_S],
                at_s=monotonic(),
            )
            if found is None:
                return rows
        else:
            rows = await self._connections.fetch(self._further_on, *common, rows_json(lanes))
        last = {(row[_RUN + 4], row[_RUN + 2], row[_RUN + 3], row[_RUN + 5]): row[_DUE_AT] for row in rows}
        full = len(rows) == request.slots and rows[0][_RUN] is not None
        self._floors.took(request, last=last, full=full, now=rows[0][_NOW])
        return rows

    async def _with_histories(self, rows: list[tuple[Any, ...]], *, before: int) -> tuple[Claim, ...]:
        """Runs with a fence up to `before` have no history."""
        begun = [row[0] for row in rows if row[7] > before]
        steps = await self._connections.fetch(self._histories, array_text(begun)) if begun else ()
        reopened = {row[0]: (row[13], row[9]) for row in rows if row[13]}
        histories = sort_histories(steps, step_record, reopened=reopened, as_moment=lambda moment: moment)
        mail = await self._post.unreceived({row[0]: 0 for row in rows if row[8]})
        return tuple(_claim(row, histories, mail) for row in rows)


def _claim(row: tuple[Any, ...], histories: Histories, mail: Mapping[RunId, Sequence[Message]]) -> Claim:
    run_id = row[0]
    return Claim(
        run_id=run_id,
        id=row[1],
        workflow=row[2],
        version=row[3],
        queue=row[4],
        priority=row[5],
        input=row[6],
        fence=row[7],
        inbox=row[8],
        attempts=row[9],
        started_at=row[10],
        parent_run_id=row[11],
        parked=row[12],
        history=tuple(histories.records.get(run_id, ())),
        tries=histories.tries.get(run_id, {}),
        earlier=histories.earlier.get(run_id, {}),
        children=histories.children.get(run_id, {}),
        left_open=frozenset(histories.left_open.get(run_id, ())),
        reopened_seq=row[13],
        crashes=histories.crashes_since(run_id, crashes=row[14], progress=row[15]) if row[14] else 0,
        mail=tuple(mail.get(run_id, ())),
        seed=row[16],
    )
