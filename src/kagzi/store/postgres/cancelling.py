"""Ending runs before their time: at once where nobody has begun them, otherwise by mail."""

# ruff: noqa: S608 - the protocol says what the verbs do; SQL is put together from constants.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kagzi.ids import is_id
from kagzi.model.cancelling import CancelAnswer, CancelOrder, CancelOutcome, Expired, Expiry
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.batches import rows_json
from kagzi.store.postgres.connections import Connections, Row
from kagzi.store.postgres.hint_sql import SOMEBODY_IDLE, TELL_DUE, TELL_ENDED, TELL_MAIL
from kagzi.store.postgres.rows import RUN_STATUSES, readable, word

# Everything is decided by what the locked rows hold, never by another table: a statement that waited for a lock sees
# the row anew, and all else as it was before the wait.
CANCEL = f"""
WITH asked AS MATERIALIZED (
    SELECT a.* FROM ROWS FROM (json_to_recordset($1::json) AS (
        namespace text, run_id uuid, error text, at_once boolean, left_by uuid
    )) WITH ORDINALITY AS a (namespace, run_id, error, at_once, left_by, place)
),
held AS MATERIALIZED (
    SELECT r.finished_at, r.run_id, r.namespace, r.status, r.inbox, r.cancel_asked_at IS NOT NULL AS was_asked,
        r.started_at IS NOT NULL AND (r.reopened_seq = 0 OR r.undoes OR r.attempt_started_at IS NOT NULL) AS begun
    FROM (
        SELECT run_id FROM asked
        UNION
        -- Parents are told in the same transaction, and are locked in their place among the others. Not asked whether
        -- there is one, or the planner would take the index of all children.
        SELECT (SELECT c.parent_run_id FROM {{schema}}.workflow_runs AS c WHERE c.run_id = a.run_id) FROM asked AS a
        ORDER BY run_id
    ) AS t
    CROSS JOIN LATERAL (
        SELECT * FROM {{schema}}.workflow_runs AS r WHERE r.run_id = t.run_id FOR NO KEY UPDATE
    ) AS r
),
judged AS MATERIALIZED (
    SELECT a.place, a.error, h.run_id, h.status, h.inbox,
        CASE
            WHEN h.run_id IS NULL THEN 'NOT_FOUND'
            WHEN h.status = 'CANCELLED' THEN 'ALREADY'
            WHEN h.status IN ('COMPLETED', 'FAILED') THEN CASE WHEN h.was_asked THEN 'ALREADY' ELSE 'CLOSED' END
            WHEN a.left_by IS NOT NULL AND NOT EXISTS (
                SELECT FROM held AS p WHERE p.run_id = a.left_by AND p.finished_at IS NOT NULL
            ) THEN 'ALREADY'
            WHEN a.at_once OR (h.status = 'PENDING' AND NOT h.begun) THEN 'ENDED'
            WHEN h.was_asked THEN 'ALREADY'
            ELSE 'ASKED'
        END AS outcome
    FROM asked AS a LEFT JOIN held AS h ON h.run_id = a.run_id AND h.namespace = a.namespace
),
-- Of several orders for one run the hardest counts, then the first.
chosen AS MATERIALIZED (
    SELECT DISTINCT ON (j.run_id) j.run_id, j.outcome, j.error, j.inbox, j.status
    FROM judged AS j WHERE j.outcome IN ('ENDED', 'ASKED')
    ORDER BY j.run_id, j.outcome DESC, j.place
),
ended AS (
    UPDATE {{schema}}.workflow_runs AS w SET
        status = 'CANCELLED', error = c.error, fence = w.fence + 1, worker_key = NULL, finished_at = now(),
        available_at = NULL, waits = NULL, cancel_asked_at = coalesce(w.cancel_asked_at, now())
    FROM chosen AS c WHERE w.run_id = c.run_id AND c.outcome = 'ENDED'
    RETURNING w.awaited
),
posted AS (
    INSERT INTO {{schema}}.messages (run_id, position, kind, name, payload)
    SELECT c.run_id, c.inbox + 1, 'CANCEL', 'cancel', c.error FROM chosen AS c WHERE c.outcome = 'ASKED'
),
woken AS (
    UPDATE {{schema}}.workflow_runs AS w SET
        inbox = w.inbox + 1, cancel_asked_at = now(),
        available_at = CASE WHEN w.status = 'RUNNING' THEN w.available_at ELSE least(w.available_at, now()) END
    FROM chosen AS c WHERE w.run_id = c.run_id AND c.outcome = 'ASKED'
    RETURNING w.status
)
SELECT j.outcome, j.status,
    (SELECT {TELL_ENDED} FROM ended WHERE awaited LIMIT 1),
    (SELECT {TELL_MAIL} FROM chosen WHERE status = 'RUNNING' LIMIT 1),
    (SELECT {TELL_DUE} FROM woken WHERE status <> 'RUNNING' AND {SOMEBODY_IDLE} LIMIT 1)
FROM judged AS j
ORDER BY j.place
"""

# Who waits for a lock here waits for nobody else's: a run that is locked is looked at again soon.
_EXPIRE = f"""
WITH unbegun AS MATERIALIZED (
    SELECT r.run_id FROM {{schema}}.workflow_runs AS r
    WHERE r.namespace = $1 AND r.start_deadline IS NOT NULL AND r.start_deadline <= now()
        AND r.started_at IS NULL AND r.status = 'PENDING'
    ORDER BY r.start_deadline LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
),
late AS MATERIALIZED (
    SELECT r.run_id, r.status, r.inbox, r.status = 'PENDING' AND (
        r.started_at IS NULL OR (r.reopened_seq > 0 AND NOT r.undoes AND r.attempt_started_at IS NULL)
    ) AS unbegun
    FROM {{schema}}.workflow_runs AS r
    WHERE r.namespace = $1 AND r.deadline IS NOT NULL AND r.deadline <= now()
        AND r.cancel_asked_at IS NULL AND r.status IN ('PENDING', 'RUNNING', 'SLEEPING')
    ORDER BY r.deadline LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
),
chosen AS MATERIALIZED (
    SELECT u.run_id, true AS fails, $4::text AS error, 0 AS inbox FROM unbegun AS u
    UNION ALL
    SELECT l.run_id, l.unbegun, $3::text, l.inbox FROM late AS l
    WHERE l.run_id NOT IN (SELECT u.run_id FROM unbegun AS u)
),
failed AS (
    UPDATE {{schema}}.workflow_runs AS w SET
        status = 'FAILED', error = c.error, fence = w.fence + 1, finished_at = now(), available_at = NULL, waits = NULL
    FROM chosen AS c WHERE w.run_id = c.run_id AND c.fails
    RETURNING w.run_id, w.awaited
),
posted AS (
    INSERT INTO {{schema}}.messages (run_id, position, kind, name, payload)
    SELECT c.run_id, c.inbox + 1, 'CANCEL', 'cancel', c.error FROM chosen AS c WHERE NOT c.fails
),
woken AS (
    UPDATE {{schema}}.workflow_runs AS w SET
        inbox = w.inbox + 1, cancel_asked_at = now(),
        available_at = CASE WHEN w.status = 'RUNNING' THEN w.available_at ELSE least(w.available_at, now()) END
    FROM chosen AS c WHERE w.run_id = c.run_id AND NOT c.fails
    RETURNING w.run_id, w.status
)
SELECT (SELECT array_agg(run_id::text) FROM failed), (SELECT array_agg(run_id::text) FROM woken),
    (SELECT count(*) FROM unbegun) >= $2 OR (SELECT count(*) FROM late) >= $2,
    least(
        (
            SELECT {readable("r.deadline")} FROM {{schema}}.workflow_runs AS r
            WHERE r.namespace = $1 AND r.deadline IS NOT NULL AND r.deadline > now()
                AND r.cancel_asked_at IS NULL AND r.status IN ('PENDING', 'RUNNING', 'SLEEPING')
            ORDER BY r.deadline LIMIT 1
        ),
        (
            SELECT {readable("r.start_deadline")} FROM {{schema}}.workflow_runs AS r
            WHERE r.namespace = $1 AND r.start_deadline IS NOT NULL AND r.start_deadline > now()
                AND r.started_at IS NULL AND r.status = 'PENDING'
            ORDER BY r.start_deadline LIMIT 1
        )
    ),
    (SELECT {TELL_ENDED} FROM failed WHERE awaited LIMIT 1),
    (SELECT {TELL_MAIL} FROM woken WHERE status = 'RUNNING' LIMIT 1),
    (SELECT {TELL_DUE} FROM woken WHERE status <> 'RUNNING' AND {SOMEBODY_IDLE} LIMIT 1)
"""


class Canceller:
    """The verbs `cancel` and `expire`."""

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._cancel = names.fill(CANCEL)
        self._expire = names.fill(_EXPIRE)

    async def cancel(self, orders: Sequence[CancelOrder]) -> list[CancelAnswer]:
        """One trip."""
        possible = [order for order in orders if is_id(order.run_id)]
        return answered_by(orders, await self._connections.fetch(self._cancel, rows_json(possible)) if possible else ())

    async def expire(self, namespace: str, expiry: Expiry) -> Expired:
        """One trip."""
        rows = await self._connections.fetch(
            self._expire, namespace, expiry.batch, expiry.run_error, expiry.start_error
        )
        failed, asked, more, next_due = rows[0][:4]
        return Expired(failed=tuple(failed or ()), asked=tuple(asked or ()), more=more, next_due=next_due)


def answered_by(orders: Sequence[CancelOrder], rows: Iterable[Row | tuple[Any, ...]]) -> list[CancelAnswer]:
    """The answer to each order, from the rows of CANCEL for those whose run can be asked for."""
    answers = iter(rows)
    nowhere = CancelAnswer(outcome=CancelOutcome.NOT_FOUND)
    return [_answer(next(answers)) if is_id(order.run_id) else nowhere for order in orders]


def _answer(row: Row | tuple[Any, ...]) -> CancelAnswer:
    status = None if row[1] is None else word(RUN_STATUSES, row[1])
    return CancelAnswer(outcome=CancelOutcome[row[0]], status=status)
