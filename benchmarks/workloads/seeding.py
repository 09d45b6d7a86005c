"""A long past, written in bulk straight into the tables: finished runs, and runs asleep until tomorrow."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import apsw
import asyncpg

from benchmarks.databases import POSTGRES, Database
from kagzi import Settings

WORKFLOW = "seeded"

# Ids that stand before every new one, as those of old runs do.
_POSTGRES_FINISHED = """
INSERT INTO {schema}.workflow_runs (
    run_id, namespace, workflow, version, queue, priority, status, input, output, fence, created_at, started_at,
    finished_at
)
SELECT ('00000001-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'default', $2, 1, 'default', 0, 'COMPLETED',
    '[1]', '0', 1, now() - interval '1 day', now() - interval '1 day', now() - interval '1 day'
FROM generate_series(1, $1) AS n
"""
_POSTGRES_SLEEPING = """
INSERT INTO {schema}.workflow_runs (
    run_id, namespace, workflow, version, queue, priority, status, input, fence, created_at, started_at, available_at,
    waits
)
SELECT ('00000002-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'default', $2, 1, 'default', 0, 'SLEEPING',
    '[1]', 1, now() - interval '1 day', now() - interval '1 day', now() + interval '1 day' + n * interval '1 second',
    '["rest"]'
FROM generate_series(1, $1) AS n
"""

_SQLITE_FINISHED = """
WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?1)
INSERT INTO workflow_runs (
    run_id, namespace, workflow, version, queue, priority, status, input, output, fence, created_at, started_at,
    finished_at
)
SELECT printf('00000001-0000-7000-8000-%012x', n), 'default', ?2, 1, 'default', 0, 'COMPLETED', '[1]', '0', 1, ?3, ?3,
    ?3
FROM counted
"""
_SQLITE_SLEEPING = """
WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < ?1)
INSERT INTO workflow_runs (
    run_id, namespace, workflow, version, queue, priority, status, input, fence, created_at, started_at, available_at,
    waits
)
SELECT printf('00000002-0000-7000-8000-%012x', n), 'default', ?2, 1, 'default', 0, 'SLEEPING', '[1]', 1, ?3, ?3,
    ?3 + 2 * 86400000000 + n * 1000000, '["rest"]'
FROM counted
"""


async def seed(database: Database, *, finished: int, sleeping: int) -> None:
    """Write runs, and let the database settle as it has when they came over months."""
    if database.store == POSTGRES:
        await _seed_postgres(database.url, finished, sleeping)
    else:
        _seed_sqlite(urlsplit(database.url).path.removeprefix("/"), finished, sleeping)


async def _seed_postgres(url: str, finished: int, sleeping: int) -> None:
    schema = Settings().schema
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_POSTGRES_FINISHED.format(schema=schema), finished, WORKFLOW)
        await connection.execute(_POSTGRES_SLEEPING.format(schema=schema), sleeping, WORKFLOW)
        await connection.execute(f"VACUUM ANALYZE {schema}.workflow_runs")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def _seed_sqlite(path: str, finished: int, sleeping: int) -> None:
    yesterday = time.time_ns() // 1000 - 86_400_000_000
    connection = apsw.Connection(path)
    try:
        connection.execute(_SQLITE_FINISHED, (finished, WORKFLOW, yesterday))
        connection.execute(_SQLITE_SLEEPING, (sleeping, WORKFLOW, yesterday))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()
