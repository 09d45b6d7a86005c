"""W3: from the start of a one-step run to its result in the client's hand, on an idle system."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from contextlib import AsyncExitStack
from time import perf_counter

from benchmarks.application import Application, application
from benchmarks.costs import Meter
from benchmarks.databases import SQLITE, Database
from benchmarks.limits import LONGEST_PAUSE_S
from benchmarks.measurement import Answer, Figure, Limits, Load
from benchmarks.processes import WorkerProcess

_TWO_PROCESSES_MS = {"postgres": 2.0, SQLITE: 5.0}
_ONE_PROCESS_MS = {SQLITE: 1.0}
_QUIET_S = 3.0
_AFTER_QUIET = 3


async def measure(database: Database, load: Load, limits: Limits) -> Answer:
    """W3: with client and worker in two processes, then in one."""
    client = application(database.url)
    async with await WorkerProcess.spawn(database.url, slots=load.slots) as worker:
        async with client.kagzi:
            await worker.begin()
            await _latencies(client, runs=20)
        meter = await Meter.begin(database, [worker])
        async with client.kagzi:
            apart = await _latencies(client, runs=load.runs)
            quiet = await _after_quiet(client)
        costs = await meter.end()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(client.kagzi)
        await stack.enter_async_context(client.kagzi.create_worker(max_concurrent_workflows=load.slots))
        await _latencies(client, runs=20)
        together = await _latencies(client, runs=load.runs)
    figures = [
        _figure("p50, two processes", apart[len(apart) // 2], target=_TWO_PROCESSES_MS[database.store]),
        _figure("p99, two processes", apart[int(len(apart) * 0.99)]),
        _figure("p50, one process", together[len(together) // 2], target=_ONE_PROCESS_MS.get(database.store)),
        _figure("p99, one process", together[int(len(together) * 0.99)]),
        _figure(f"after {_QUIET_S:g} s of quiet", quiet),
    ]
    # Two processes: start, claim, checkpoint and completion; one: the run is born claimed.
    figures[0] = _beside(figures[0], limits, commits=4)
    figures[2] = _beside(figures[2], limits, commits=3)
    return Answer(figures=figures, costs=costs, runs=load.runs + _AFTER_QUIET)


async def _latencies(client: Application, *, runs: int) -> list[float]:
    """Latencies in ms, sorted."""
    latencies = []
    for _ in range(runs):
        # A random pause, or the client would fall into step with what the worker does at intervals.
        await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_S))
        latencies.append(await _latency_ms(client))
    return sorted(latencies)


async def _after_quiet(client: Application) -> float:
    """The median after nothing has happened for a while."""
    latencies = []
    for _ in range(_AFTER_QUIET):
        await asyncio.sleep(_QUIET_S)
        latencies.append(await _latency_ms(client))
    return sorted(latencies)[_AFTER_QUIET // 2]


async def _latency_ms(client: Application) -> float:
    began = perf_counter()
    handle = await client.sequence.start(1)
    await handle.result()
    return (perf_counter() - began) * 1000


def _figure(name: str, value: float, *, target: float | None = None) -> Figure:
    return Figure(name=name, value=value, unit="ms", more_is_better=False, target=target)


def _beside(figure: Figure, limits: Limits, *, commits: int) -> Figure:
    limit_ms = limits.seconds(idle_commits=commits) * 1000
    return dataclasses.replace(figure, limit=limit_ms, bare=f"{commits} commits after pauses")
