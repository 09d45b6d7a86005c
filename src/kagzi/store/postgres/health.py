"""What the server tells of itself, and what waits in its queues."""

# ruff: noqa: D102, S608 - the protocol says what the verbs do; SQL is put together from constants.

from __future__ import annotations

from datetime import timedelta

import asyncpg

from kagzi.model.probe import Backlog, LaneBacklog, StoreProbe
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.connections import Connections, Row
from kagzi.store.postgres.rows import readable
from kagzi.store.sql.budget import LANES, LIMITS

# A standby's transactions are read-only as well, whatever its settings say. Behind a pooler every transaction of ours
# asks for READ WRITE, which a standby refuses outright: the probe then fails, and says so.
_PROBE = "SELECT clock_timestamp(), current_setting('transaction_read_only') = 'off'"

# Of a primary's standbys the slowest; a standby's own delay, and none where it has replayed all that it received.
# Whoever may not look at the others' connections sees NULLs there.
_REPLICATION_LAG = """
SELECT CASE
    WHEN NOT pg_catalog.pg_is_in_recovery() THEN (SELECT max(s.replay_lag) FROM pg_catalog.pg_stat_replication AS s)
    WHEN pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() THEN interval '0'
    ELSE clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()
END
"""

# Either may have been taken from us, or never have been there in what only speaks like PostgreSQL.
_NOT_TOLD = (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedFunctionError, asyncpg.UndefinedColumnError)

_OPEN_RUNS = "{schema}.workflow_runs AS r WHERE r.namespace = $1 AND r.status IN ('PENDING', 'SLEEPING')"
_OF_LANE = f"""{_OPEN_RUNS}
            AND r.queue = l.queue AND r.workflow = l.workflow AND r.version = l.version"""

# Like a claim's lanes, but whoever serves them: each is found in the claim index by one probe past the last, so what is
# asleep or finished is never met. The limit of lanes ends the recursion, which goes on only as far as it is asked.
_BACKLOG = f"""
WITH RECURSIVE
found (queue, workflow, version) AS (
    (SELECT r.queue, r.workflow, r.version FROM {_OPEN_RUNS} ORDER BY r.queue, r.workflow, r.version LIMIT 1)
    UNION ALL
    SELECT n.queue, n.workflow, n.version
    FROM found AS f
    CROSS JOIN LATERAL (
        SELECT r.queue, r.workflow, r.version FROM {_OPEN_RUNS}
            AND (r.queue, r.workflow, r.version) > (f.queue, f.workflow, f.version)
        ORDER BY r.queue, r.workflow, r.version LIMIT 1
    ) AS n
),
seen AS MATERIALIZED (SELECT queue, workflow, version FROM found LIMIT $3),
lane (queue, workflow, version, priority) AS (
    SELECT l.queue, l.workflow, l.version, p.priority
    FROM seen AS l
    CROSS JOIN LATERAL (SELECT r.priority FROM {_OF_LANE} ORDER BY r.priority DESC LIMIT 1) AS p
    UNION ALL
    SELECT l.queue, l.workflow, l.version, p.priority
    FROM lane AS l
    CROSS JOIN LATERAL (
        SELECT r.priority FROM {_OF_LANE} AND r.priority < l.priority ORDER BY r.priority DESC LIMIT 1
    ) AS p
),
waiting AS MATERIALIZED (
    SELECT l.queue, l.workflow, l.version, l.priority, o.available_at
    FROM lane AS l
    CROSS JOIN LATERAL (
        SELECT r.available_at FROM {_OF_LANE} AND r.priority = l.priority AND r.available_at <= now()
        ORDER BY r.available_at LIMIT 1
    ) AS o
),
counted AS (
    SELECT c.queue, c.workflow, c.version, c.priority, count(*) AS due
    FROM (
        SELECT l.queue, l.workflow, l.version, l.priority
        FROM waiting AS l
        CROSS JOIN LATERAL (
            SELECT FROM {_OF_LANE} AND r.priority = l.priority AND r.available_at <= now() LIMIT $2 + 1
        ) AS d
        LIMIT $4
    ) AS c
    GROUP BY c.queue, c.workflow, c.version, c.priority
)
SELECT now(), (SELECT count(*) FROM seen) < $3, (SELECT coalesce(sum(due), 0) FROM counted) >= $4,
    b.queue, b.workflow, b.version, b.oldest, b.due
FROM (SELECT) AS always
LEFT JOIN (
    SELECT queue, workflow, version, min({readable("available_at")}) AS oldest, sum(due)::bigint AS due
    FROM (
        SELECT queue, workflow, version, available_at, 0 AS due FROM waiting
        UNION ALL
        SELECT queue, workflow, version, NULL, due FROM counted
    ) AS each
    GROUP BY queue, workflow, version
) AS b ON true
ORDER BY b.queue, b.workflow, b.version
"""


class HealthReader:
    """The verbs about the store's own state."""

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._backlog = names.fill(_BACKLOG)

    async def probe(self) -> StoreProbe:
        ((now, writable),) = await self._connections.fetch(_PROBE)
        return StoreProbe(now=now, has_own_clock=True, writable=writable)

    async def replication_lag(self) -> timedelta | None:
        try:
            ((lag,),) = await self._connections.fetch(_REPLICATION_LAG)
        except _NOT_TOLD:
            return None
        return None if lag is None else max(lag, timedelta(0))

    async def backlog(self, namespace: str, *, limit: int) -> Backlog:
        rows = await self._connections.fetch(self._backlog, namespace, limit, LANES, limit * LIMITS)
        now, complete, cut = rows[0][:3]
        lanes = tuple(_lane(row, limit=limit, cut=cut) for row in rows if row[3] is not None)
        return Backlog(now=now, lanes=lanes, complete=complete)


def _lane(row: Row, *, limit: int, cut: bool) -> LaneBacklog:
    due = row[7]
    return LaneBacklog(
        queue=row[3],
        workflow=row[4],
        version=row[5],
        due=max(1, min(due, limit)),  # one is there, however early the counting had to end
        more=due > limit or cut,
        oldest_due_at=row[6],
    )
