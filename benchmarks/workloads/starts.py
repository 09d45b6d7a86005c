"""W5: starts, each awaited until it is durable, by 64 tasks of one client; nobody executes the runs."""

from __future__ import annotations

import asyncio
from time import perf_counter

from benchmarks.application import Application, application
from benchmarks.costs import Meter
from benchmarks.databases import Database
from benchmarks.measurement import Answer, Figure, Limits, Load
from benchmarks.workloads.waiting import NAMESPACE, watched

_TASKS = 64
_TARGET = 20_000.0


async def measure(database: Database, load: Load, limits: Limits) -> Answer:
    """W5."""
    client = application(database.url)
    async with client.kagzi:
        await _start(client, 10)
    meter = await Meter.begin(database)
    each = -(-load.runs // _TASKS)
    async with client.kagzi:
        began = perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(_TASKS):
                group.create_task(_start(client, each))
        took_s = perf_counter() - began
    costs = await meter.end()
    started = each * _TASKS
    async with watched(database.url) as store:
        there = sum((await store.count_open(NAMESPACE)).values())
    if there != started + 10:
        raise RuntimeError(f"{there} runs are there, not {started + 10}.")
    figure = Figure(
        name="starts",
        value=started / took_s,
        unit="/s",
        more_is_better=True,
        target=_TARGET,
        limit=limits.rows_per_s,
        bare="rows in hundreds",
    )
    return Answer(figures=[figure], costs=costs, runs=started)


async def _start(client: Application, times: int) -> None:
    for _ in range(times):
        await client.sequence.start(1)
