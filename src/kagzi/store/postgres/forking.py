"""Forks: new runs that begin with the history of another."""

# ruff: noqa: S608 - the protocol says what the verbs do; SQL is put together from constants.

from __future__ import annotations

from kagzi.errors import StoreUnavailable
from kagzi.ids import is_id
from kagzi.model.forking import Forked, ForkOrder, ForkOutcome
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.batches import rows_json
from kagzi.store.postgres.connections import Connections
from kagzi.store.postgres.hint_sql import SOMEBODY_IDLE, TELL_DUE

# The source is locked: its attempt is the one that the order was made for, so the records that are taken along are as
# they were then, whatever the source has recorded since.
_FORK = f"""
WITH source AS MATERIALIZED (
    SELECT r.* FROM {{schema}}.workflow_runs AS r
    WHERE r.run_id = $1 AND r.namespace = $2 AND r.attempts = $3
    FOR NO KEY UPDATE
),
new AS MATERIALIZED (
    SELECT $4::uuid AS run_id, $5::text AS id, $6::integer AS version, $7::text AS input, $8::text AS parked,
        $9::integer AS after_seq, $10::integer AS before_seq, $11::integer AS earlier_before
),
kept AS MATERIALIZED (
    SELECT s.*
    FROM source AS o CROSS JOIN new AS n
    CROSS JOIN LATERAL (
        SELECT * FROM {{schema}}.step_runs AS s
        WHERE s.run_id = o.run_id AND s.seq IS NOT NULL
            AND ((s.seq > n.after_seq AND s.seq < n.before_seq) OR s.seq < n.earlier_before)
    ) AS s
),
replaced AS MATERIALIZED (
    SELECT r.step_id, r.output FROM json_to_recordset($12::json) AS r (step_id text, output text)
),
mail AS MATERIALIZED (
    SELECT m.kind, m.name, m.payload, m.place
    FROM ROWS FROM (json_to_recordset($13::json) AS (kind text, name text, payload text))
        WITH ORDINALITY AS m (kind, name, payload, place)
),
born AS (
    INSERT INTO {{schema}}.workflow_runs (
        run_id, namespace, id, workflow, version, queue, priority, status, input, attempts, fence, inbox, started_at,
        available_at, tags, attributes, reopened_seq, parked, attempt_started_at, timeout_s, deadline, forked_from,
        seed, undoes
    )
    SELECT n.run_id, o.namespace, n.id, o.workflow, n.version, o.queue, o.priority, 'PENDING',
        coalesce(n.input, o.input), o.attempts,
        -- A run with a history has been claimed before.
        CASE WHEN EXISTS (SELECT FROM kept) THEN 1 ELSE 0 END,
        -- Beyond every message that the records have received.
        o.inbox + (SELECT count(*) FROM mail), o.started_at,
        now(), o.tags, o.attributes, o.reopened_seq, n.parked, o.attempt_started_at, o.timeout_s,
        now() + o.timeout_s * interval '1 second', o.run_id, coalesce(o.seed, o.run_id), o.undoes
    FROM source AS o CROSS JOIN new AS n
    ON CONFLICT DO NOTHING
    RETURNING run_id
),
copied AS (
    INSERT INTO {{schema}}.step_runs (
        run_id, step_id, seq, kind, status, output, error, attempts, started_at, finished_at, child_run_id,
        max_attempts, earlier_attempts, run_attempt, message, in_doubt, heartbeat_details, heartbeat_at
    )
    SELECT b.run_id, k.step_id, k.seq, k.kind, CASE WHEN r.step_id IS NULL THEN k.status ELSE 'COMPLETED' END,
        coalesce(r.output, k.output), CASE WHEN r.step_id IS NULL THEN k.error END, k.attempts, k.started_at,
        k.finished_at, k.child_run_id, k.max_attempts, k.earlier_attempts, k.run_attempt, k.message,
        k.in_doubt AND r.step_id IS NULL, k.heartbeat_details, k.heartbeat_at
    FROM born AS b CROSS JOIN kept AS k LEFT JOIN replaced AS r ON r.step_id = k.step_id
),
posted AS (
    INSERT INTO {{schema}}.messages (run_id, position, kind, name, payload)
    SELECT b.run_id, o.inbox + m.place, m.kind, m.name, m.payload
    FROM born AS b CROSS JOIN source AS o CROSS JOIN mail AS m
),
published AS (
    INSERT INTO {{schema}}.run_values (run_id, key, value)
    SELECT b.run_id, v.key, v.value
    FROM born AS b CROSS JOIN json_to_recordset($14::json) AS v (key text, value text)
)
SELECT (SELECT count(*) FROM source), (SELECT count(*) FROM born),
    (SELECT {TELL_DUE} FROM born WHERE {SOMEBODY_IDLE} LIMIT 1)
"""

# A statement of its own: it must see what was committed while the insert waited.
_THERE = """
SELECT r.run_id::text FROM {schema}.workflow_runs AS r WHERE r.run_id = $1
UNION ALL
SELECT r.run_id::text FROM {schema}.workflow_runs AS r WHERE r.namespace = $2 AND r.id = $3
LIMIT 1
"""


class Forker:
    """The verb `fork`."""

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._fork = names.fill(_FORK)
        self._there = names.fill(_THERE)

    async def fork(self, order: ForkOrder) -> Forked:
        """One trip, and one more where the fork, or another run with its id, is there."""
        if not is_id(order.source):
            return Forked(outcome=ForkOutcome.CHANGED)
        cut = order.cut
        rows = await self._connections.fetch(
            self._fork,
            order.source,
            order.namespace,
            order.attempt,
            order.run_id,
            order.id,
            order.version,
            order.input,
            order.parked,
            cut.after_seq,
            cut.before_seq,
            cut.earlier_before,
            rows_json(order.replaced),
            rows_json(order.messages),
            rows_json(order.published),
        )
        found, born = rows[0][0], rows[0][1]
        if born:
            return Forked(outcome=ForkOutcome.FORKED, run_id=order.run_id)
        there = await self._connections.fetch(self._there, order.run_id, order.namespace, order.id)
        if there and there[0][0] == order.run_id:  # by an earlier try of ours
            return Forked(outcome=ForkOutcome.FORKED, run_id=order.run_id)
        if not found:
            return Forked(outcome=ForkOutcome.CHANGED)
        if not there:
            raise StoreUnavailable("the run that had the fork's id was deleted meanwhile. Try again.")
        return Forked(outcome=ForkOutcome.TAKEN, run_id=there[0][0])
