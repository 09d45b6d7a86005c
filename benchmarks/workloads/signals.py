"""W10: from a signal to a parked run until its body has it, on an idle system."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from contextlib import AsyncExitStack
from time import perf_counter

from benchmarks.application import PING, Application, application
from benchmarks.costs import Meter
from benchmarks.databases import Database
from benchmarks.measurement import Answer, Figure, Limits, Load
from benchmarks.processes import WorkerProcess

_TARGET_MS = 5.0
_LONGEST_PAUSE_S = 0.02


async def measure(database: Database, load: Load, limits: Limits) -> Answer:
    """W10: the client in one process, the worker in another, which answers by the end of the run."""
    client = application(database.url)
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(await WorkerProcess.spawn(database.url, slots=load.slots))
        await stack.enter_async_context(client.kagzi)
        await worker.begin()
        for _ in range(20):
            await _latency_ms(client)
        meter = await Meter.begin(database, [worker])
        latencies = sorted([await _latency_ms(client) for _ in range(load.runs)])
        costs = await meter.end()
    middle, slow = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    p50 = Figure(name="p50, with the way back", value=middle, unit="ms", more_is_better=False, target=_TARGET_MS)
    p99 = dataclasses.replace(p50, name="p99, with the way back", value=slow, target=None)
    # The post, the claim, the receipt and the completion, of which the client hears.
    beside = dataclasses.replace(p50, limit=limits.seconds(commits=4) * 1000, bare="4 single commits")
    return Answer(figures=[beside, p99], costs=costs, runs=load.runs + 20)


async def _latency_ms(client: Application) -> float:
    handle = await client.waiter.start()
    while not (await handle.describe()).waiting_for:  # noqa: ASYNC110 - of other processes there is no event
        await asyncio.sleep(0.005)
    await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE_S))
    began = perf_counter()
    await handle.signal(PING, 1)
    await handle.result()
    return (perf_counter() - began) * 1000
