"""Looking at runs: for people, for waiters and for those who ask what is there."""

# ruff: noqa: S608 - SQL is put together from constants only.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from kagzi.ids import is_id
from kagzi.model.run import RunFilter, RunId, RunOutcome, RunStatus, StoredRun
from kagzi.model.step import StoredAttempt, StoredStep
from kagzi.store.sqlite.rows import (
    BY_RUN_ID,
    NO_PAYLOADS,
    PAYLOAD_COLUMNS,
    RUN_COLUMNS,
    RUN_STATUSES,
    STEP_COLUMNS,
    stored_run,
    stored_step,
    word,
)
from kagzi.store.sqlite.session import Session, each
from kagzi.store.sqlite.times import micros, moment

_GET = f"SELECT {RUN_COLUMNS}, {PAYLOAD_COLUMNS} FROM workflow_runs AS r WHERE r.run_id = ?"

_FIND = f"SELECT {RUN_COLUMNS} FROM workflow_runs AS r WHERE r.namespace = ?"

_FIND_CHILDREN = f"""
SELECT {RUN_COLUMNS} FROM workflow_runs AS r INDEXED BY workflow_runs_children WHERE r.namespace = ?
"""

_STEPS = f"""
SELECT {STEP_COLUMNS} FROM step_runs AS s WHERE s.run_id = ? ORDER BY s.seq NULLS LAST, s.started_at, s.step_id
"""

_OPEN_STEPS = f"""
SELECT {STEP_COLUMNS} FROM step_runs AS s WHERE s.run_id = ? AND s.seq IS NULL ORDER BY s.started_at, s.step_id
"""

_ATTEMPTS = """
SELECT a.step_id, a.attempt, a.error, a.at FROM step_attempts AS a WHERE a.run_id = ? ORDER BY a.step_id, a.attempt
"""

# The last of a run's chain; nearly always itself.
_LATEST_OF = """CASE WHEN {run}.continued_to IS NULL THEN {run}.run_id ELSE (
    SELECT l.run_id FROM workflow_runs AS l
    WHERE l.first_run_id = coalesce({run}.first_run_id, {run}.run_id) AND l.continued_to IS NULL
) END"""

_LATEST = f"SELECT {_LATEST_OF.format(run='r')} FROM workflow_runs AS r WHERE r.run_id = ?"

# Nothing is marked as awaited: within a process a hint costs nothing, and between processes the file itself is watched.
_OUTCOMES = f"""
SELECT o.run_id, r.status, r.output, r.error
FROM json_each(?) AS asked CROSS JOIN workflow_runs AS o {BY_RUN_ID} CROSS JOIN workflow_runs AS r {BY_RUN_ID}
WHERE o.run_id = asked.value AND r.run_id = {_LATEST_OF.format(run="o")}
    AND r.status NOT IN ('PENDING', 'RUNNING', 'SLEEPING')
"""

_EXISTING = "SELECT r.run_id FROM json_each(?) AS asked CROSS JOIN workflow_runs AS r WHERE r.run_id = asked.value"

# From the claim index and the owner index, which together hold every open run and no finished one.
_COUNT_OPEN = """
SELECT o.workflow, o.version, sum(o.runs)
FROM (
    SELECT r.workflow, r.version, count(*) AS runs FROM workflow_runs AS r INDEXED BY workflow_runs_claim
    WHERE r.namespace = ?1 AND r.status IN ('PENDING', 'SLEEPING')
    GROUP BY r.workflow, r.version
    UNION ALL
    SELECT r.workflow, r.version, count(*) AS runs FROM workflow_runs AS r INDEXED BY workflow_runs_owner
    WHERE r.namespace = ?1 AND r.worker_key IS NOT NULL
    GROUP BY r.workflow, r.version
) AS o
GROUP BY o.workflow, o.version
"""


def _get(session: Session, run_id: RunId) -> StoredRun | None:
    rows = session.rows(_GET, (run_id,)) if is_id(run_id) else []
    return stored_run(rows[0]) if rows else None


def _find(session: Session, wanted: RunFilter) -> list[StoredRun]:
    return [stored_run(row + NO_PAYLOADS) for row in session.rows(*_filtered(wanted))]


def _steps(session: Session, run_id: RunId) -> list[StoredStep]:
    return [stored_step(row) for row in session.rows(_STEPS, (run_id,))] if is_id(run_id) else []


def _open_steps(session: Session, run_id: RunId) -> list[StoredStep]:
    return [stored_step(row) for row in session.rows(_OPEN_STEPS, (run_id,))] if is_id(run_id) else []


def _attempts(session: Session, run_id: RunId) -> list[StoredAttempt]:
    rows = session.rows(_ATTEMPTS, (run_id,)) if is_id(run_id) else []
    return [StoredAttempt(step_id=row[0], attempt=row[1], error=row[2], at=moment(row[3])) for row in rows]


def _outcomes(session: Session, run_ids: Sequence[RunId]) -> list[RunOutcome]:
    return [
        RunOutcome(run_id=row[0], status=word(RUN_STATUSES, row[1]), output=row[2], error=row[3])
        for row in session.rows(_OUTCOMES, (_possible(run_ids),))
    ]


def _latest(session: Session, run_id: RunId) -> RunId:
    latest: RunId | None = session.value(_LATEST, (run_id,)) if is_id(run_id) else None
    return run_id if latest is None else latest


def _existing(session: Session, run_ids: Sequence[RunId]) -> set[RunId]:
    return {row[0] for row in session.rows(_EXISTING, (_possible(run_ids),))}


def _count_open(session: Session, namespace: str) -> dict[tuple[str, int], int]:
    return {(row[0], row[1]): row[2] for row in session.rows(_COUNT_OPEN, (namespace,))}


GET = each(_get)
FIND = each(_find)
STEPS = each(_steps)
OPEN_STEPS = each(_open_steps)
ATTEMPTS = each(_attempts)
OUTCOMES = each(_outcomes)
LATEST = each(_latest)
EXISTING = each(_existing)
COUNT_OPEN = each(_count_open)


# A damaged row may hold anything.
_HAS_TAG = """
EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(r.tags) THEN r.tags ELSE '[]' END) AS t WHERE t.value = ?)
"""


def _filtered(wanted: RunFilter) -> tuple[str, tuple[Any, ...]]:
    """The statement for just the conditions that are given."""
    sql = _FIND if wanted.parent is None else _FIND_CHILDREN
    arguments: list[Any] = [wanted.namespace]
    conditions: list[tuple[str, Any]] = [
        ("r.status = ?", wanted.status),
        ("r.workflow = ?", wanted.workflow),
        ("r.queue = ?", wanted.queue),
        ("r.id = ?", wanted.id),
        ("r.parent_run_id = ?", wanted.parent),
        ("r.created_at > ?", None if wanted.created_after is None else micros(wanted.created_after)),
        ("r.run_id < ?", wanted.cursor),
        *((_HAS_TAG, tag) for tag in wanted.tags),
    ]
    for condition, value in conditions:
        if value is not None:
            sql += f" AND {condition}"
            arguments.append(value)
    if wanted.status in (RunStatus.FAILED, RunStatus.CANCELLED):
        sql += " AND r.status IN ('FAILED', 'CANCELLED')"  # word for word the condition of a partial index
    if wanted.paused is not None:
        sql += " AND r.paused_at IS NOT NULL" if wanted.paused else " AND r.paused_at IS NULL"
    if wanted.is_open:
        sql += " AND r.status IN ('PENDING', 'RUNNING', 'SLEEPING')"
    arguments.append(wanted.limit)
    return f"{sql} ORDER BY r.run_id DESC LIMIT ?", tuple(arguments)


def _possible(run_ids: Sequence[RunId]) -> str:
    """The ids without texts that can't be one: people type them, and a lone surrogate could not even be asked for."""
    return msgspec.json.encode([run_id for run_id in run_ids if is_id(run_id)]).decode()
