"""The register of workers: leases, and bringing back the runs of those whose lease ran out."""

# ruff: noqa: D102, S608 - the protocol says what the verbs do; SQL is put together from constants.

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from kagzi.ids import is_id
from kagzi.model.run import WorkerKey
from kagzi.model.step import OpenStep
from kagzi.model.worker import Beat, BeatAnswer, OwnedRun, Recovery, RecoveryPolicy, Registration, StoredWorker
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.batches import array_text, rows_json
from kagzi.store.postgres.connections import Connections
from kagzi.store.postgres.hint_sql import SOMEBODY_IDLE, TELL_DRAIN, TELL_DUE, TELL_ENDED
from kagzi.store.postgres.rows import WORKER_COLUMNS, stored_worker

_REGISTER = """
INSERT INTO {schema}.workers AS k (
    key, worker_id, namespace, host, pid, queues, workflows, versions, slots, state, build_id, lease_until
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'STARTING', $10, now() + $11)
ON CONFLICT (key) DO UPDATE SET lease_until = excluded.lease_until, beat_at = now() WHERE k.ended_at IS NULL
RETURNING now()
"""

# Ended registrations are kept for a day, and for as long as a run stands under them.
_PURGE = """
DELETE FROM {schema}.workers AS k
WHERE k.namespace = $1 AND k.ended_at < now() - interval '1 day'
    AND NOT EXISTS (SELECT FROM {schema}.workflow_runs AS r WHERE r.worker_key = k.key)
"""

# A lease that ran out is renewed as long as nobody has declared the worker dead: its runs are all still its own.
_RENEW = """
UPDATE {schema}.workers AS k SET
    lease_until = now() + $2, beat_at = now(), load = $4, state = $3,
    ended_at = CASE WHEN $3 IN ('STOPPED', 'DEAD') THEN now() END
WHERE k.key = $1 AND k.ended_at IS NULL
RETURNING now(), k.drain_asked
"""

_ASK_DRAIN = f"""
WITH asked AS (
    UPDATE {{schema}}.workers AS k SET drain_asked = true
    WHERE k.key = ANY ($2::text::uuid[]) AND k.namespace = $1 AND k.ended_at IS NULL
    RETURNING k.key
)
SELECT a.key::text, (SELECT {TELL_DRAIN} FROM asked LIMIT 1) FROM asked AS a
"""

_DRAIN_ASKED = """
SELECT now(), coalesce((SELECT k.drain_asked FROM {schema}.workers AS k WHERE k.key = $1), false)
"""

# In a transaction of its own: a commit locks runs and then looks at workers, so nobody may hold the worker's row and
# wait for a run.
_SHOW_OPEN = """
INSERT INTO {schema}.step_runs (
    run_id, step_id, seq, kind, status, attempts, started_at, earlier_attempts, run_attempt, heartbeat_details,
    heartbeat_at
)
SELECT o.run_id, o.step_id, NULL, 'STEP', 'RUNNING', coalesce(o.attempts, 1), o.started_at,
    coalesce(o.earlier_attempts, 0), coalesce(o.run_attempt, 1), o.heartbeat_details, o.heartbeat_at
FROM json_to_recordset($1::json) AS o (
    run_id uuid, fence integer, step_id text, started_at timestamptz, attempts integer, earlier_attempts integer,
    run_attempt integer, heartbeat_details text, heartbeat_at timestamptz
)
CROSS JOIN LATERAL (
    SELECT FROM {schema}.workflow_runs AS r
    WHERE r.run_id = o.run_id AND r.fence = o.fence AND r.status = 'RUNNING'
    FOR NO KEY UPDATE
) AS w
-- A step that waited for its next execution is now in it. One of which that execution's failure was stored since we
-- looked is not: its count and its wait must stay. And of what an execution tells, the latest counts.
ON CONFLICT (run_id, step_id) DO UPDATE SET
    seq = NULL, status = excluded.status, output = NULL, attempts = excluded.attempts, started_at = excluded.started_at,
    finished_at = NULL, wake_at = NULL, earlier_attempts = excluded.earlier_attempts,
    run_attempt = excluded.run_attempt, heartbeat_at = coalesce(excluded.heartbeat_at, step_runs.heartbeat_at),
    heartbeat_details = coalesce(excluded.heartbeat_details, step_runs.heartbeat_details)
WHERE (step_runs.seq IS NULL AND step_runs.status = 'RETRYING' AND step_runs.attempts < excluded.attempts)
    OR (step_runs.seq IS NULL AND step_runs.status = 'RUNNING' AND step_runs.attempts <= excluded.attempts
        AND excluded.heartbeat_at >= coalesce(step_runs.heartbeat_at, excluded.heartbeat_at))
    -- What an earlier attempt of the run has finished is executed again only where it had failed.
    OR (step_runs.seq <= (
        SELECT r.reopened_seq FROM {schema}.workflow_runs AS r WHERE r.run_id = step_runs.run_id
    ) AND step_runs.status = 'FAILED')
"""

_LEAVE = """
UPDATE {schema}.workers AS k SET state = 'STOPPED', hungry = false, ended_at = now()
WHERE k.key = $1 AND k.ended_at IS NULL
"""

_OWNED = "SELECT r.run_id::text, r.fence FROM {schema}.workflow_runs AS r WHERE r.worker_key = $1 ORDER BY r.run_id"

_WORKERS = f"""
SELECT {WORKER_COLUMNS} FROM {{schema}}.workers AS w
WHERE w.namespace = $1 AND (w.ended_at IS NULL OR w.ended_at > now() - interval '1 day')
ORDER BY w.registered_at DESC, w.key DESC
"""

_DECLARE_DEAD = """
UPDATE {schema}.workers AS k SET state = 'DEAD', hungry = false, ended_at = now()
FROM (
    SELECT e.key FROM {schema}.workers AS e
    WHERE e.namespace = $1 AND e.state IN ('STARTING', 'RUNNING', 'DRAINING') AND e.lease_until < now()
    FOR NO KEY UPDATE SKIP LOCKED
) AS expired
WHERE k.key = expired.key
RETURNING k.key::text
"""

# The owners that there are come from the owner index, each by one probe above the last, so a registration that is no
# longer in the table is met too, and the many that ended without runs cost nothing.
_RECOVER = f"""
WITH RECURSIVE
owner (key) AS (
    (
        SELECT r.worker_key FROM {{schema}}.workflow_runs AS r
        WHERE r.worker_key IS NOT NULL ORDER BY r.worker_key LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT r.worker_key FROM {{schema}}.workflow_runs AS r
        WHERE r.worker_key > o.key ORDER BY r.worker_key LIMIT 1
    )
    FROM owner AS o WHERE o.key IS NOT NULL
),
gone AS MATERIALIZED (
    SELECT o.key, k.state IS DISTINCT FROM 'STOPPED' AS crashed
    FROM owner AS o
    LEFT JOIN LATERAL (SELECT * FROM {{schema}}.workers AS k WHERE k.key = o.key) AS k ON true
    WHERE o.key IS NOT NULL AND (k.key IS NULL OR k.ended_at IS NOT NULL)
),
left_behind AS MATERIALIZED (
    SELECT r.run_id, g.crashed
    FROM gone AS g
    CROSS JOIN LATERAL (
        SELECT r.run_id FROM {{schema}}.workflow_runs AS r
        WHERE r.worker_key = g.key AND r.namespace = $1
        LIMIT $2
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS r
    LIMIT $2
),
judged AS MATERIALIZED (
    SELECT l.run_id, l.crashed, p.progress
    FROM left_behind AS l
    CROSS JOIN LATERAL (
        SELECT coalesce(max(s.seq), 0) AS progress FROM {{schema}}.step_runs AS s
        WHERE l.crashed AND s.run_id = l.run_id
    ) AS p
),
-- Crashes are counted in a row: a new finished operation since the last one starts the count afresh.
moved AS (
    UPDATE {{schema}}.workflow_runs AS w SET
        status = CASE WHEN v.poisoned THEN 'FAILED' ELSE 'PENDING' END,
        error = CASE WHEN v.poisoned THEN $4 ELSE w.error END,
        finished_at = CASE WHEN v.poisoned THEN now() END,
        available_at = CASE WHEN v.poisoned THEN NULL ELSE now() END,
        crashes = v.crashes, progress = greatest(w.progress, j.progress), fence = w.fence + 1, worker_key = NULL
    FROM judged AS j
    CROSS JOIN LATERAL (SELECT * FROM {{schema}}.workflow_runs AS r WHERE r.run_id = j.run_id) AS r
    CROSS JOIN LATERAL (
        SELECT CASE WHEN NOT j.crashed THEN r.crashes WHEN j.progress > r.progress THEN 1 ELSE r.crashes + 1 END
            AS crashes
    ) AS c
    CROSS JOIN LATERAL (SELECT c.crashes, j.crashed AND c.crashes >= $3 AS poisoned) AS v
    WHERE w.run_id = j.run_id
    RETURNING w.run_id, w.status, w.awaited
)
SELECT
    (SELECT array_agg(run_id::text) FROM moved WHERE status = 'PENDING'),
    (SELECT array_agg(run_id::text) FROM moved WHERE status = 'FAILED'),
    (SELECT {TELL_DUE} FROM moved WHERE status = 'PENDING' AND {SOMEBODY_IDLE} LIMIT 1),
    (SELECT {TELL_ENDED} FROM moved WHERE status = 'FAILED' AND awaited LIMIT 1)
"""


class Register:
    """The verbs about workers."""

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._register = names.fill(_REGISTER)
        self._purge = names.fill(_PURGE)
        self._renew = names.fill(_RENEW)
        self._show_open = names.fill(_SHOW_OPEN)
        self._leave = names.fill(_LEAVE)
        self._ask_drain = names.fill(_ASK_DRAIN)
        self._drain_asked = names.fill(_DRAIN_ASKED)
        self._owned = names.fill(_OWNED)
        self._workers = names.fill(_WORKERS)
        self._declare_dead = names.fill(_DECLARE_DEAD)
        self._recover = names.fill(_RECOVER)

    async def register(self, registration: Registration) -> BeatAnswer:
        """Two trips; the second forgets registrations that ended long ago."""
        rows = await self._connections.fetch(
            self._register,
            registration.key,
            registration.worker_id,
            registration.namespace,
            registration.host,
            registration.pid,
            list(registration.queues),
            [workflow for workflow, _ in registration.workflows],
            [version for _, version in registration.workflows],
            registration.slots,
            registration.build_id,
            registration.lease,
        )
        await self._connections.fetch(self._purge, registration.namespace)
        return BeatAnswer(alive=bool(rows), now=rows[0][0] if rows else await self._connections.now())

    async def beat(self, beat: Beat) -> BeatAnswer:
        """One trip, and one more where there are open steps to show."""
        rows = await self._connections.fetch(self._renew, beat.worker, beat.lease, beat.state, beat.load)
        if not rows:
            now, drain = (await self._connections.fetch(self._drain_asked, beat.worker))[0]
            return BeatAnswer(alive=False, now=now, drain=drain)
        if beat.open_steps:
            await self.show(beat.open_steps)
        return BeatAnswer(alive=True, now=rows[0][0], drain=rows[0][1])

    async def show(self, steps: Sequence[OpenStep]) -> None:
        """One trip."""
        in_order = sorted(steps, key=_run_id)  # as everybody takes the locks of runs
        await self._connections.fetch(self._show_open, rows_json(in_order))

    async def leave(self, worker: WorkerKey) -> None:
        await self._connections.fetch(self._leave, worker)

    async def ask_drain(self, namespace: str, workers: Sequence[WorkerKey]) -> set[WorkerKey]:
        keys = array_text(key for key in workers if is_id(key))
        return {row[0] for row in await self._connections.fetch(self._ask_drain, namespace, keys)}

    async def is_asked_to_drain(self, worker: WorkerKey) -> bool:
        return bool((await self._connections.fetch(self._drain_asked, worker))[0][1])

    async def owned(self, worker: WorkerKey) -> list[OwnedRun]:
        return [OwnedRun(run_id=row[0], fence=row[1]) for row in await self._connections.fetch(self._owned, worker)]

    async def workers(self, namespace: str) -> list[StoredWorker]:
        return [stored_worker(row) for row in await self._connections.fetch(self._workers, namespace)]

    async def recover(self, namespace: str, policy: RecoveryPolicy) -> Recovery:
        """Two trips, both index lookups only where nothing is wrong."""
        dead = await self._connections.fetch(self._declare_dead, namespace)
        rows = await self._connections.fetch(
            self._recover, namespace, policy.batch, policy.poison_after, policy.poison_error
        )
        released, poisoned = tuple(rows[0][0] or ()), tuple(rows[0][1] or ())
        return Recovery(
            released=released,
            poisoned=poisoned,
            dead=tuple(row[0] for row in dead),
            more=len(released) + len(poisoned) >= policy.batch,
        )


_run_id = attrgetter("run_id")
