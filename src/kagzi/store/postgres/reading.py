"""Looking at runs: for people, for waiters and for those who ask what is there."""

# ruff: noqa: D102, S608 - the protocol says what the verbs do; SQL is put together from constants.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kagzi.ids import is_id
from kagzi.model.run import RunFilter, RunId, RunOutcome, RunStatus, StoredRun
from kagzi.model.step import StoredAttempt, StoredStep
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.batches import array_text
from kagzi.store.postgres.connections import Connections, Row
from kagzi.store.postgres.hint_sql import SOMEBODY_IDLE, TELL_DUE
from kagzi.store.postgres.rows import (
    PAYLOAD_COLUMNS,
    RUN_COLUMNS,
    RUN_STATUSES,
    STEP_COLUMNS,
    readable,
    stored_run,
    stored_step,
    word,
)

_GET = f"SELECT {RUN_COLUMNS}, {PAYLOAD_COLUMNS} FROM {{schema}}.workflow_runs AS r WHERE r.run_id = $1"

_FIND = f"SELECT {RUN_COLUMNS} FROM {{schema}}.workflow_runs AS r WHERE r.namespace = $1"

# OFFSET 0 keeps the planner from walking all runs by run_id until it has met enough RUNNING ones, which are few: 0.4 s
# with a million finished.
_FIND_RUNNING = f"""
SELECT {RUN_COLUMNS} FROM (SELECT * FROM {{schema}}.workflow_runs WHERE worker_key IS NOT NULL OFFSET 0) AS r
WHERE r.namespace = $1
"""

_STEPS = f"""
SELECT {STEP_COLUMNS} FROM {{schema}}.step_runs AS s WHERE s.run_id = $1
ORDER BY s.seq NULLS LAST, s.started_at, s.step_id
"""

_OPEN_STEPS = f"""
SELECT {STEP_COLUMNS} FROM {{schema}}.step_runs AS s WHERE s.run_id = $1 AND s.seq IS NULL
ORDER BY s.started_at, s.step_id
"""

_ATTEMPTS = f"""
SELECT a.step_id, a.attempt, a.error, {readable("a.at")} FROM {{schema}}.step_attempts AS a WHERE a.run_id = $1
ORDER BY a.step_id, a.attempt
"""

# The last of a run's chain; nearly always itself.
_LATEST_OF = """CASE WHEN {run}.continued_to IS NULL THEN {run}.run_id ELSE (
    SELECT l.run_id FROM {{schema}}.workflow_runs AS l
    WHERE l.first_run_id = coalesce({run}.first_run_id, {run}.run_id) AND l.continued_to IS NULL
) END"""

_LATEST = f"SELECT ({_LATEST_OF.format(run='r')})::text FROM {{schema}}.workflow_runs AS r WHERE r.run_id = $1"

# The flag is only a hint, so its commit need not wait for the disk, and so doesn't keep the run's own commit waiting
# for the row: synchronous_commit is turned off for this transaction.
_OUTCOMES = f"""
WITH asked AS MATERIALIZED (
    SELECT a.run_id AS asked, r.run_id, r.status, r.output, r.error, r.awaited
    FROM unnest($1::text::uuid[]) AS a (run_id)
    CROSS JOIN LATERAL (SELECT * FROM {{schema}}.workflow_runs AS o WHERE o.run_id = a.run_id) AS o
    CROSS JOIN LATERAL (
        SELECT * FROM {{schema}}.workflow_runs AS r WHERE r.run_id = {_LATEST_OF.format(run="o")}
    ) AS r
),
unmarked AS MATERIALIZED (
    SELECT a.asked, w.run_id
    FROM (
        SELECT asked, run_id FROM asked WHERE NOT awaited
        AND status IN ('PENDING', 'RUNNING', 'SLEEPING') ORDER BY run_id
    ) AS a
    CROSS JOIN LATERAL (
        SELECT w.run_id FROM {{schema}}.workflow_runs AS w WHERE w.run_id = a.run_id FOR NO KEY UPDATE
    ) AS w
    WHERE set_config('synchronous_commit', 'off', true) IS NOT NULL
),
marked AS (
    UPDATE {{schema}}.workflow_runs AS w SET awaited = true FROM unmarked WHERE w.run_id = unmarked.run_id
    RETURNING unmarked.asked, w.status, w.output, w.error, w.available_at, w.continued_to
),
-- One that was open when we looked and has ended since, announcing nothing, is met when it is marked.
ended AS (
    SELECT asked, status, output, error FROM asked
    UNION ALL
    SELECT asked, status, output, error FROM marked WHERE continued_to IS NULL
)
SELECT e.asked::text, e.status, e.output, e.error,
    -- A claim passes over rows that are locked, as these were until now: have it look again.
    (SELECT {TELL_DUE} FROM marked WHERE available_at <= now() AND {SOMEBODY_IDLE} LIMIT 1)
FROM (SELECT) AS always
LEFT JOIN ended AS e ON e.status NOT IN ('PENDING', 'RUNNING', 'SLEEPING')
"""

_EXISTING = """
SELECT r.run_id::text
FROM unnest($1::text::uuid[]) AS a (run_id)
CROSS JOIN LATERAL (SELECT r.run_id FROM {schema}.workflow_runs AS r WHERE r.run_id = a.run_id) AS r
"""

# From the claim index and the owner index, which together hold every open run and no finished one.
_COUNT_OPEN = """
SELECT o.workflow, o.version, count(*)
FROM (
    SELECT r.workflow, r.version FROM {schema}.workflow_runs AS r
    WHERE r.namespace = $1 AND r.status IN ('PENDING', 'SLEEPING')
    UNION ALL
    SELECT r.workflow, r.version FROM {schema}.workflow_runs AS r
    WHERE r.namespace = $1 AND r.worker_key IS NOT NULL
) AS o
GROUP BY o.workflow, o.version
"""


class Reader:
    """The verbs that read."""

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._get = names.fill(_GET)
        self._find = names.fill(_FIND)
        self._find_running = names.fill(_FIND_RUNNING)
        self._steps = names.fill(_STEPS)
        self._open_steps = names.fill(_OPEN_STEPS)
        self._attempts = names.fill(_ATTEMPTS)
        self._outcomes = names.fill(_OUTCOMES)
        self._latest = names.fill(_LATEST)
        self._existing = names.fill(_EXISTING)
        self._count_open = names.fill(_COUNT_OPEN)

    async def get(self, run_id: RunId) -> StoredRun | None:
        rows = await self._connections.fetch(self._get, run_id) if is_id(run_id) else []
        if not rows:
            return None
        row = rows[0]
        return stored_run(row, input=row["input"], output=row["output"], error=row["error"])

    async def find(self, wanted: RunFilter) -> list[StoredRun]:
        base = self._find_running if wanted.status is RunStatus.RUNNING else self._find
        sql, arguments = _filtered(base, wanted)
        rows = await self._connections.fetch(sql, *arguments)
        return [stored_run(row, input=None, output=None, error=None) for row in rows]

    async def steps(self, run_id: RunId) -> list[StoredStep]:
        if not is_id(run_id):
            return []
        return [stored_step(row) for row in await self._connections.fetch(self._steps, run_id)]

    async def open_steps(self, run_id: RunId) -> list[StoredStep]:
        if not is_id(run_id):
            return []
        return [stored_step(row) for row in await self._connections.fetch(self._open_steps, run_id)]

    async def attempts(self, run_id: RunId) -> list[StoredAttempt]:
        rows = await self._connections.fetch(self._attempts, run_id) if is_id(run_id) else []
        return [StoredAttempt(step_id=row[0], attempt=row[1], error=row[2], at=row[3]) for row in rows]

    async def outcomes(self, run_ids: Sequence[RunId]) -> list[RunOutcome]:
        rows = await self._connections.fetch(self._outcomes, _possible(run_ids))
        return [_outcome(row) for row in rows if row[0] is not None]

    async def latest(self, run_id: RunId) -> RunId:
        rows = await self._connections.fetch(self._latest, run_id) if is_id(run_id) else []
        return run_id if not rows or rows[0][0] is None else rows[0][0]

    async def existing(self, run_ids: Sequence[RunId]) -> set[RunId]:
        return {row[0] for row in await self._connections.fetch(self._existing, _possible(run_ids))}

    async def count_open(self, namespace: str) -> dict[tuple[str, int], int]:
        return {(row[0], row[1]): row[2] for row in await self._connections.fetch(self._count_open, namespace)}


def _possible(run_ids: Sequence[RunId]) -> str:
    """Each id once, without texts that can't be an id: people type them, and no run has them."""
    return array_text(run_id for run_id in dict.fromkeys(run_ids) if is_id(run_id))


def _outcome(row: Row) -> RunOutcome:
    return RunOutcome(run_id=row[0], status=word(RUN_STATUSES, row[1]), output=row[2], error=row[3])


def _filtered(sql: str, wanted: RunFilter) -> tuple[str, list[Any]]:
    """The statement for just the conditions that are given, so that each combination has a plan that fits it."""
    conditions: list[tuple[str, Any]] = [
        ("r.workflow = ", wanted.workflow),
        ("r.queue = ", wanted.queue),
        ("r.tags @> ", list(wanted.tags) or None),
        ("r.id = ", wanted.id),
        ("r.created_at > ", wanted.created_after),
        ("r.run_id < ", wanted.cursor),
    ]
    arguments: list[Any] = [wanted.namespace]
    order = "r.run_id DESC"
    if wanted.parent is not None:
        arguments.append(wanted.parent)
        sql += " AND r.parent_run_id >= $2 AND r.parent_run_id <= $2"
        # Not `=`, of which the planner knows that the order by run_id is the same: then it may walk all runs by that.
        order = "r.parent_run_id DESC, r.run_id DESC"
        if wanted.cursor is not None:
            arguments.append(wanted.cursor)
            sql += " AND (r.parent_run_id, r.run_id) < ($2, $3)"
    if wanted.status is not None:
        # Written out, for a partial index is only considered for a constant; the enum holds no quotes.
        sql += f" AND r.status = '{RunStatus(wanted.status).value}'"
    if wanted.paused is not None:
        sql += " AND r.paused_at IS NOT NULL" if wanted.paused else " AND r.paused_at IS NULL"
    if wanted.is_open:
        sql += " AND r.status IN ('PENDING', 'RUNNING', 'SLEEPING')"
    for condition, value in conditions:
        if value is not None:
            arguments.append(value)
            sql += f" AND {condition}${len(arguments)}"
    arguments.append(wanted.limit)
    return f"{sql} ORDER BY {order} LIMIT ${len(arguments)}", arguments
