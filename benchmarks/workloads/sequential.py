"""W2: one run of many steps, one after the other: each waits for its own commit."""

from __future__ import annotations

from time import perf_counter

from benchmarks.application import application, expected_sum
from benchmarks.costs import Meter
from benchmarks.databases import SQLITE, Database
from benchmarks.measurement import Answer, Figure, Limits, Load
from benchmarks.processes import WorkerProcess

_SHARES = {"postgres": 0.7, SQLITE: 0.5}


async def measure(database: Database, load: Load, limits: Limits) -> Answer:
    """W2."""
    client = application(database.url)
    async with await WorkerProcess.spawn(database.url, slots=load.slots) as worker:
        async with client.kagzi:
            await worker.begin()
            await (await client.sequence.start(10)).result()  # every statement has been prepared
        meter = await Meter.begin(database, [worker])
        async with client.kagzi:
            began = perf_counter()
            for _ in range(load.runs):
                if await (await client.sequence.start(load.steps)).result() != expected_sum(load.steps):
                    raise RuntimeError("a run has a wrong result.")
            took_s = perf_counter() - began
        costs = await meter.end()
    figure = Figure(
        name="steps",
        value=load.runs * load.steps / took_s,
        unit="/s",
        more_is_better=True,
        target=_SHARES[database.store] * limits.commits_per_s,
        limit=limits.commits_per_s,
        bare="single commits",
    )
    return Answer(figures=[figure], costs=costs, runs=load.runs)
