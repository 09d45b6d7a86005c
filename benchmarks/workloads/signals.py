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
from benchmarks.limits import LONGEST_PAUSE_S
from benchmarks.measurement import Answer, Figure, Limits, Load
from benchmarks.processes import WorkerProcess

_TARGET_MS = 5.0


async def measure(database: Database, load: Load, limits: Limits) -> Answer:
    """W10: the client in one process, the worker in another."""
    client = application(database.url)
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(await WorkerProcess.spawn(database.url, slots=load.slots))
        await stack.enter_async_context(client.kagzi)
        await worker.begin()
        for _ in range(20):
            await _latency_ms(client)
        meter = await Meter.begin(database, [worker])
        measured = [await _latency_ms(client) for _ in range(load.runs)]
        costs = await meter.end()
    there, back = sorted(each[0] for each in measured), sorted(each[1] for each in measured)
    middle, rare = load.runs // 2, int(load.runs * 0.99)
    p50 = Figure(name="p50", value=there[middle], unit="ms", more_is_better=False, target=_TARGET_MS)
    # The post, the claim and the receipt.
    figures = [dataclasses.replace(p50, limit=limits.seconds(idle_commits=3) * 1000, bare="3 commits after pauses")]
    figures.append(dataclasses.replace(p50, name="p99", value=there[rare], target=None))
    figures.append(dataclasses.replace(p50, name="p50, with the way back", value=back[middle], target=None))
    return Answer(figures=figures, costs=costs, runs=load.runs + 20)


async def _latency_ms(client: Application) -> tuple[float, float]:
    """How long the signal took to the body, and until the sender had the run's result."""
    handle = await client.waiter.start()
    while not (await handle.describe()).waiting_for:  # noqa: ASYNC110 - of other processes there is no event
        await asyncio.sleep(0.005)
    await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_S))
    began = perf_counter()
    await handle.signal(PING, 1)
    received = await handle.result()
    return (received - began) * 1000, (perf_counter() - began) * 1000
