"""Holding runs for a while. What a paused run does when it falls due is a trigger's work, in the migrations."""

# ruff: noqa: S608 - the protocol says what the verbs do; SQL is put together from constants.

from __future__ import annotations

from collections.abc import Sequence

from kagzi.ids import is_id
from kagzi.model.pausing import PauseAnswer, PauseOrder, PauseOutcome, ResumeOrder
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.batches import rows_json
from kagzi.store.postgres.connections import Connections, Row
from kagzi.store.postgres.hint_sql import SOMEBODY_IDLE, TELL_DUE, TELL_MAIL
from kagzi.store.postgres.rows import RUN_STATUSES, word

# Everything is decided by what the locked rows hold: a claim that was first has made the run RUNNING, and its worker is
# told; a claim that comes later finds it due no more.
_HELD = """
WITH asked AS MATERIALIZED (
    SELECT a.* FROM ROWS FROM (json_to_recordset($1::json) AS (
        namespace text, run_id uuid, reason text
    )) WITH ORDINALITY AS a (namespace, run_id, reason, place)
),
held AS MATERIALIZED (
    SELECT r.run_id, r.namespace, r.status, r.paused_at IS NOT NULL AS is_paused,
        r.cancel_asked_at IS NOT NULL AS is_ending
    FROM (SELECT DISTINCT run_id FROM asked ORDER BY run_id) AS t
    CROSS JOIN LATERAL (
        SELECT * FROM {schema}.workflow_runs AS r WHERE r.run_id = t.run_id FOR NO KEY UPDATE
    ) AS r
),
judged AS MATERIALIZED (
    SELECT a.place, a.reason, h.run_id, h.status,
        CASE
            WHEN h.run_id IS NULL THEN 'NOT_FOUND'
            WHEN h.status IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN 'CLOSED'
            {judged}
        END AS outcome
    FROM asked AS a LEFT JOIN held AS h ON h.run_id = a.run_id AND h.namespace = a.namespace
),
chosen AS MATERIALIZED (
    SELECT DISTINCT ON (j.run_id) j.run_id, j.reason
    FROM judged AS j WHERE j.outcome = 'DONE'
    ORDER BY j.run_id, j.place
),
"""

_PAUSE = f"""
{_HELD.replace("{judged}", "WHEN h.is_ending THEN 'ENDING' WHEN h.is_paused THEN 'ALREADY' ELSE 'DONE'")}
paused AS (
    UPDATE {{schema}}.workflow_runs AS w SET
        paused_at = now(), pause_reason = c.reason, due_at = w.available_at, available_at = NULL
    FROM chosen AS c WHERE w.run_id = c.run_id
    RETURNING w.status
)
SELECT j.outcome, j.status, (SELECT {TELL_MAIL} FROM paused WHERE status = 'RUNNING' LIMIT 1)
FROM judged AS j
ORDER BY j.place
"""

# Due now at the earliest: claims look for nothing that was due before their last look (floors.py).
_RESUME = f"""
{_HELD.replace("{judged}", "WHEN h.is_paused THEN 'DONE' ELSE 'ALREADY'")}
resumed AS (
    UPDATE {{schema}}.workflow_runs AS w SET
        paused_at = NULL, pause_reason = NULL, due_at = NULL,
        available_at = CASE WHEN w.due_at IS NOT NULL AND w.status <> 'RUNNING' THEN greatest(w.due_at, now()) END
    FROM chosen AS c WHERE w.run_id = c.run_id
    RETURNING w.status, w.available_at
)
SELECT j.outcome, j.status,
    (SELECT {TELL_MAIL} FROM resumed WHERE status = 'RUNNING' LIMIT 1),
    -- Also of those due later: somebody has to make a note of it.
    (SELECT {TELL_DUE} FROM resumed WHERE available_at IS NOT NULL AND {SOMEBODY_IDLE} LIMIT 1)
FROM judged AS j
ORDER BY j.place
"""


class Pauser:
    """The verbs `pause` and `resume`."""

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._pause = names.fill(_PAUSE)
        self._resume = names.fill(_RESUME)

    async def pause(self, orders: Sequence[PauseOrder]) -> list[PauseAnswer]:
        """One trip."""
        return await self._carry_out(self._pause, orders)

    async def resume(self, orders: Sequence[ResumeOrder]) -> list[PauseAnswer]:
        """One trip."""
        return await self._carry_out(self._resume, orders)

    async def _carry_out(self, sql: str, orders: Sequence[PauseOrder | ResumeOrder]) -> list[PauseAnswer]:
        possible = [order for order in orders if is_id(order.run_id)]
        rows = iter(await self._connections.fetch(sql, rows_json(possible)) if possible else ())
        nowhere = PauseAnswer(outcome=PauseOutcome.NOT_FOUND)
        return [_answer(next(rows)) if is_id(order.run_id) else nowhere for order in orders]


def _answer(row: Row) -> PauseAnswer:
    status = None if row[1] is None else word(RUN_STATUSES, row[1])
    return PauseAnswer(outcome=PauseOutcome[row[0]], status=status)
