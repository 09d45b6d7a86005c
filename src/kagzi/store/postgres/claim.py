"""Taking due runs: one statement whose cost grows with the worker's own lanes and slots and with nothing else."""

# ruff: noqa: S608 - SQL is put together from constants, and the schema name is quoted.

from __future__ import annotations

from collections import defaultdict

from kagzi.model.claim import Claim, Claimed, ClaimRequest
from kagzi.model.step import StepRecord
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.batches import array_text
from kagzi.store.postgres.connections import Connections, Row
from kagzi.store.postgres.rows import RECORD_COLUMNS, step_record

# A lane is a queue, a workflow's version and a priority, and in the claim index its runs stand in order of due time.
_CLAIM = """
WITH RECURSIVE
-- Nothing is served where the registration is not alive: all that follows is then empty.
served AS MATERIALIZED (
    SELECT q.queue, v.workflow, v.version
    FROM {schema}.workers AS k, unnest($3::text[]) AS q (queue),
        unnest($4::text[], $5::integer[]) AS v (workflow, version)
    WHERE k.key = $1 AND k.ended_at IS NULL AND k.lease_until > now()
),
-- The priorities that exist, by a loose index scan: each is found by one probe below the last.
lane AS (
    SELECT s.queue, s.workflow, s.version, p.priority
    FROM served AS s
    CROSS JOIN LATERAL (
        SELECT r.priority FROM {schema}.workflow_runs AS r
        WHERE r.namespace = $2 AND r.queue = s.queue AND r.workflow = s.workflow AND r.version = s.version
            AND r.status IN ('PENDING', 'SLEEPING')
        ORDER BY r.priority DESC LIMIT 1
    ) AS p
    UNION ALL
    SELECT l.queue, l.workflow, l.version, p.priority
    FROM lane AS l
    CROSS JOIN LATERAL (
        SELECT r.priority FROM {schema}.workflow_runs AS r
        WHERE r.namespace = $2 AND r.queue = l.queue AND r.workflow = l.workflow AND r.version = l.version
            AND r.priority < l.priority AND r.status IN ('PENDING', 'SLEEPING')
        ORDER BY r.priority DESC LIMIT 1
    ) AS p
),
-- MATERIALIZED, or the planner may run the LIMIT again per outer row and claim too many.
due AS MATERIALIZED (
    SELECT d.run_id, l.priority, d.available_at
    FROM (SELECT * FROM lane ORDER BY priority DESC) AS l
    CROSS JOIN LATERAL (
        SELECT r.run_id, r.available_at FROM {schema}.workflow_runs AS r
        WHERE r.namespace = $2 AND r.queue = l.queue AND r.workflow = l.workflow AND r.version = l.version
            AND r.priority = l.priority AND r.status IN ('PENDING', 'SLEEPING') AND r.available_at <= now()
        ORDER BY r.available_at
        LIMIT $6
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS d
    ORDER BY l.priority DESC, d.available_at
    LIMIT $6
),
taken AS (
    UPDATE {schema}.workflow_runs AS w SET
        status = 'RUNNING', fence = w.fence + 1, worker_key = $1, started_at = coalesce(w.started_at, now()),
        wakeups = w.wakeups + (w.status = 'SLEEPING')::integer, available_at = NULL, waits = NULL
    FROM due
    WHERE w.run_id = due.run_id
    RETURNING w.run_id, w.id, w.workflow, w.version, w.queue, w.priority, w.input, w.fence, w.inbox, w.attempts,
        w.started_at, w.parent_run_id, due.available_at
),
-- Written only when it changes: an idle worker's polls write nothing.
mood AS (
    UPDATE {schema}.workers AS k SET hungry = NOT k.hungry
    WHERE k.key = $1 AND k.ended_at IS NULL AND k.hungry <> ((SELECT count(*) FROM due) < $6)
    RETURNING k.hungry
)
SELECT now(),
    CASE WHEN (SELECT count(*) FROM due) < $6 THEN (
        SELECT min(n.available_at)
        FROM lane AS l
        CROSS JOIN LATERAL (
            SELECT r.available_at FROM {schema}.workflow_runs AS r
            WHERE r.namespace = $2 AND r.queue = l.queue AND r.workflow = l.workflow AND r.version = l.version
                AND r.priority = l.priority AND r.status IN ('PENDING', 'SLEEPING') AND r.available_at > now()
            ORDER BY r.available_at LIMIT 1
        ) AS n
    ) END,
    (SELECT hungry FROM mood),
    t.run_id::text, t.id, t.workflow, t.version, t.queue, t.priority, t.input, t.fence, t.inbox, t.attempts,
    t.started_at, t.parent_run_id::text
FROM (SELECT) AS always
LEFT JOIN taken AS t ON true
ORDER BY t.priority DESC, t.available_at
"""

_HISTORIES = f"""
SELECT {RECORD_COLUMNS}
FROM unnest($1::text::uuid[]) AS asked (run_id)
CROSS JOIN LATERAL (SELECT * FROM {{schema}}.step_runs AS s WHERE s.run_id = asked.run_id) AS s
ORDER BY s.seq
"""

_FIRST_FENCE = 1


class Claimer:
    """The verb `claim`."""

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._claim = names.fill(_CLAIM)
        self._histories = names.fill(_HISTORIES)

    async def claim(self, request: ClaimRequest) -> Claimed:
        """One trip, and one more for the histories of runs that have been claimed before."""
        rows = await self._take(request)
        if rows[0][2] and rows[0][3] is None:
            # We have only now said that we are idle. Who made a run due just before did not know: look once more.
            rows = await self._take(request)
        taken = [row for row in rows if row[3] is not None]
        return Claimed(claims=await self._with_histories(taken), now=rows[0][0], next_due=rows[0][1])

    async def _take(self, request: ClaimRequest) -> list[Row]:
        return await self._connections.fetch(
            self._claim,
            request.worker,
            request.namespace,
            list(request.queues),
            [workflow for workflow, _ in request.workflows],
            [version for _, version in request.workflows],
            request.slots,
        )

    async def _with_histories(self, rows: list[Row]) -> tuple[Claim, ...]:
        histories: dict[str, list[StepRecord]] = defaultdict(list)
        tries: dict[str, dict[str, int]] = defaultdict(dict)
        if before := [row[3] for row in rows if row[10] > _FIRST_FENCE]:
            for step in await self._connections.fetch(self._histories, array_text(before)):
                if step[2] is not None:
                    histories[step[0]].append(step_record(step))
                elif step[7]:
                    tries[step[0]][step[1]] = step[7]
        return tuple(_claim(row, tuple(histories.get(row[3], ())), tries.get(row[3])) for row in rows)


def _claim(row: Row, history: tuple[StepRecord, ...], tries: dict[str, int] | None) -> Claim:
    return Claim(
        run_id=row[3],
        id=row[4],
        workflow=row[5],
        version=row[6],
        queue=row[7],
        priority=row[8],
        input=row[9],
        fence=row[10],
        inbox=row[11],
        attempts=row[12],
        started_at=row[13],
        parent_run_id=row[14],
        history=history,
        tries=tries or {},
    )
