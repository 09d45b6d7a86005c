"""Having ended runs go on: a new attempt of each, begun by hand."""

# ruff: noqa: S608 - the protocol says what the verbs do; SQL is put together from constants.

from __future__ import annotations

from collections.abc import Sequence

from kagzi.errors import StoreUnavailable
from kagzi.ids import is_id
from kagzi.model.reopening import ReopenAnswer, ReopenOrder, ReopenOutcome
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.batches import rows_json
from kagzi.store.postgres.connections import Connections, Row
from kagzi.store.postgres.hint_sql import SOMEBODY_IDLE, TELL_DUE
from kagzi.store.postgres.rows import RUN_STATUSES, word

# A statement that waited for a lock sees the row anew, and the records as they were before the wait. A run that is
# still the one that this statement saw at its beginning has had no records since; of any other it answers CHANGED.
_REOPEN = f"""
WITH asked AS MATERIALIZED (
    SELECT a.* FROM ROWS FROM (json_to_recordset($1::json) AS (namespace text, run_id uuid, attempt integer))
        WITH ORDINALITY AS a (namespace, run_id, attempt, place)
),
seen AS MATERIALIZED (
    SELECT r.run_id, r.fence, r.status, r.parent_run_id
    FROM asked AS a
    CROSS JOIN LATERAL (SELECT * FROM {{schema}}.workflow_runs AS r WHERE r.run_id = a.run_id) AS r
),
held AS MATERIALIZED (
    SELECT r.run_id, r.namespace, r.status, r.fence, r.attempts, r.parent_run_id, r.finished_at
    FROM (
        SELECT run_id FROM asked
        UNION
        -- Parents are told that they have open children, and are locked in their place among the others.
        SELECT parent_run_id FROM seen
        ORDER BY run_id
    ) AS t
    CROSS JOIN LATERAL (
        SELECT * FROM {{schema}}.workflow_runs AS r WHERE r.run_id = t.run_id FOR NO KEY UPDATE
    ) AS r
),
judged AS MATERIALIZED (
    SELECT a.place, h.run_id, h.status, h.parent_run_id,
        CASE
            WHEN h.run_id IS NULL THEN 'NOT_FOUND'
            WHEN h.attempts > a.attempt THEN 'ALREADY'
            WHEN h.status = 'COMPLETED' THEN 'COMPLETED'
            WHEN h.status NOT IN ('FAILED', 'CANCELLED') THEN 'OPEN'
            WHEN NOT EXISTS (
                SELECT FROM seen AS s WHERE s.run_id = h.run_id AND s.fence = h.fence AND s.status = h.status
            ) THEN 'CHANGED'
            ELSE 'REOPENED'
        END AS outcome
    FROM asked AS a LEFT JOIN held AS h ON h.run_id = a.run_id AND h.namespace = a.namespace
),
chosen AS MATERIALIZED (
    SELECT DISTINCT ON (j.run_id) j.run_id, j.parent_run_id,
        p.finished_at IS NOT NULL AND NOT EXISTS (
            SELECT FROM judged AS b WHERE b.run_id = p.run_id AND b.outcome = 'REOPENED'
        ) AS outlives,
        -- One above the last, so that no place of the new attempt is one where the last may have parked.
        1 + (
            SELECT coalesce(max(s.seq), 0) FROM {{schema}}.step_runs AS s WHERE s.run_id = j.run_id
        ) AS last_seq
    FROM judged AS j LEFT JOIN held AS p ON p.run_id = j.parent_run_id
    WHERE j.outcome = 'REOPENED'
    ORDER BY j.run_id
),
reopened AS (
    UPDATE {{schema}}.workflow_runs AS w SET
        status = 'PENDING', fence = w.fence + 1, attempts = w.attempts + 1,
        reopened_seq = greatest(c.last_seq, w.reopened_seq + 1), attempt_started_at = NULL,
        output = NULL, error = NULL, waits = NULL, crashes = 0, finished_at = NULL, available_at = now(),
        cancel_asked_at = NULL, deadline = now() + w.timeout_s * interval '1 second', start_deadline = NULL,
        parent_close = CASE WHEN c.outlives THEN 'ABANDON' ELSE w.parent_close END,
        has_children = w.has_children OR EXISTS (SELECT FROM chosen AS k WHERE k.parent_run_id = w.run_id)
    FROM chosen AS c WHERE w.run_id = c.run_id
    RETURNING w.run_id
),
-- An order to end that the last attempt has not heard of is not for the new one.
withdrawn AS (
    UPDATE {{schema}}.messages AS m SET received_seq = c.last_seq
    FROM chosen AS c WHERE m.run_id = c.run_id AND m.kind = 'CANCEL' AND m.received_seq IS NULL
),
-- Children that were asked to end are not waited for: the new attempt starts its own. Not of those with an id, which
-- can't be started twice. What has no message has only started its child, or is open.
left_behind AS (
    DELETE FROM {{schema}}.step_runs AS s USING chosen AS c
    WHERE s.run_id = c.run_id AND s.kind = 'CHILD' AND s.message IS NULL AND EXISTS (
        SELECT FROM {{schema}}.workflow_runs AS k
        WHERE k.run_id = s.child_run_id AND k.cancel_asked_at IS NOT NULL AND k.status <> 'COMPLETED' AND k.id IS NULL
    )
),
-- Children that had failed, and go on by hand, are awaited: the new attempt starts none in their place.
awaited_again AS (
    UPDATE {{schema}}.step_runs AS s SET
        seq = NULL, status = 'RUNNING', output = NULL, error = NULL, finished_at = NULL, message = NULL
    FROM chosen AS c
    WHERE s.run_id = c.run_id AND s.kind = 'CHILD' AND s.status = 'FAILED' AND s.message IS NOT NULL AND EXISTS (
        SELECT FROM {{schema}}.workflow_runs AS k
        WHERE k.run_id = s.child_run_id AND (
            k.run_id IN (SELECT o.run_id FROM chosen AS o)
            OR (k.finished_at IS NULL AND k.cancel_asked_at IS NULL)
        )
    )
),
parents AS (
    UPDATE {{schema}}.workflow_runs AS w SET has_children = true
    FROM (
        SELECT DISTINCT p.run_id FROM chosen AS c JOIN held AS p ON p.run_id = c.parent_run_id
        WHERE p.finished_at IS NULL  -- one that goes on by its own order is marked there
    ) AS p
    WHERE w.run_id = p.run_id AND NOT w.has_children
)
SELECT j.outcome, j.status, (SELECT {TELL_DUE} FROM reopened WHERE {SOMEBODY_IDLE} LIMIT 1)
FROM judged AS j
ORDER BY j.place
"""

_CHANGED = "CHANGED"
_TRIES = 5


class Reopener:
    """The verb `reopen`."""

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._reopen = names.fill(_REOPEN)

    async def reopen(self, orders: Sequence[ReopenOrder]) -> list[ReopenAnswer]:
        """One trip, and one more for those runs that ended while it waited for them."""
        answers = [ReopenAnswer(outcome=ReopenOutcome.NOT_FOUND)] * len(orders)
        left = [place for place, order in enumerate(orders) if is_id(order.run_id)]
        for _ in range(_TRIES):
            if not left:
                return answers
            rows = await self._connections.fetch(self._reopen, rows_json([orders[place] for place in left]))
            for place, row in zip(left, rows, strict=True):
                if row[0] != _CHANGED:
                    answers[place] = _answer(row)
            left = [place for place, row in zip(left, rows, strict=True) if row[0] == _CHANGED]
        if left:
            raise StoreUnavailable("a run ended anew each time that it was to go on. Try again.")
        return answers


def _answer(row: Row) -> ReopenAnswer:
    status = None if row[1] is None else word(RUN_STATUSES, row[1])
    return ReopenAnswer(outcome=ReopenOutcome[row[0]], status=status)
