"""What this machine does without Kagzi: single commits, without a pause and after one, bare rows, bare tasks."""

from __future__ import annotations

import asyncio
import random
import statistics
import uuid
from collections.abc import Awaitable, Callable
from time import perf_counter
from urllib.parse import urlsplit

import apsw
import asyncpg

from benchmarks.databases import POSTGRES, Database
from benchmarks.measurement import Limits

LONGEST_PAUSE_S = 0.02
"""Between runs of the workloads that measure how long something takes on an idle system."""

_PAUSES = 51
_WINDOW_S = 0.3
_WINDOWS = 3
_BATCH = 100
_STEP_IDS = [f"0/same#{number}" for number in range(_BATCH)]

_Work = Callable[[], Awaitable[int]]
"""Does some work and says how much."""


async def measure_limits(database: Database) -> Limits:
    """Measure on the very database; each is the best of three windows. Takes about three seconds."""
    if database.store == POSTGRES:
        commits_per_s, rows_per_s, idle_commit_s = await _postgres(database.url)
    else:
        commits_per_s, rows_per_s, idle_commit_s = await _sqlite(urlsplit(database.url).path.removeprefix("/"))
    return Limits(
        commits_per_s=commits_per_s,
        rows_per_s=rows_per_s,
        tasks_per_s=await _best_rate(_tasks),
        idle_commit_s=idle_commit_s,
    )


async def _postgres(url: str) -> tuple[float, float, float]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "CREATE TABLE bare (run_id uuid, step_id text, output text, at timestamptz, PRIMARY KEY (run_id, step_id))"
        )
        one = await connection.prepare("INSERT INTO bare VALUES ($1, $2, $3, now())")
        many = await connection.prepare(
            "INSERT INTO bare SELECT n.run_id, n.step_id, n.output, now() "
            "FROM unnest($1::uuid[], $2::text[], $3::text[]) AS n (run_id, step_id, output)"
        )

        async def commit() -> int:
            await one.fetch(uuid.uuid4(), "0/same#1", "1")
            return 1

        async def rows() -> int:
            await many.fetch([uuid.uuid4()] * _BATCH, _STEP_IDS, ["1"] * _BATCH)
            return _BATCH

        rates = await _best_rate(commit), await _best_rate(rows), await _after_pauses(commit)
        await connection.execute("DROP TABLE bare")
    finally:
        await connection.close()
    return rates


async def _sqlite(path: str) -> tuple[float, float, float]:
    connection = apsw.Connection(path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE bare (run_id TEXT, step_id TEXT, output TEXT, at INTEGER, PRIMARY KEY (run_id, step_id)) "
            "WITHOUT ROWID"
        )
        insert = "INSERT INTO bare VALUES (?, ?, ?, ?)"

        async def commit() -> int:
            connection.execute(insert, (str(uuid.uuid4()), "0/same#1", "1", 0))
            return 1

        async def rows() -> int:
            with connection:
                run_id = str(uuid.uuid4())
                connection.executemany(insert, [(run_id, step_id, "1", 0) for step_id in _STEP_IDS])
            return _BATCH

        rates = await _best_rate(commit), await _best_rate(rows), await _after_pauses(commit)
        connection.execute("DROP TABLE bare")
    finally:
        connection.close()
    return rates


async def _tasks() -> int:
    """Tasks of asyncio that do nothing: how fast this Python is."""
    for _ in range(_BATCH):
        await asyncio.get_running_loop().create_task(_nothing())
    return _BATCH


async def _nothing() -> None:
    return


async def _after_pauses(work: _Work) -> float:
    """How long it takes after a random pause, in seconds: the median."""
    took = []
    for _ in range(_PAUSES):
        await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_S))
        began = perf_counter()
        await work()
        took.append(perf_counter() - began)
    return statistics.median(took)


async def _best_rate(work: _Work) -> float:
    return max([await _rate(work) for _ in range(_WINDOWS)])


async def _rate(work: _Work) -> float:
    done = 0
    began = perf_counter()
    while (took := perf_counter() - began) < _WINDOW_S:
        done += await work()
    return done / took
