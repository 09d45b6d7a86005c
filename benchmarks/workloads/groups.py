"""W9: what a branch of a parallel group costs as groups grow."""

from __future__ import annotations

from time import perf_counter

from benchmarks.application import Application, application, expected_sum
from benchmarks.costs import Meter
from benchmarks.databases import Database
from benchmarks.measurement import Answer, Figure, Limits, Load
from benchmarks.processes import WorkerProcess

_MOST_GROWTH = 1.5
"""How much more a branch of the largest group may cost than one of a tenth; if cost grew with the square it were 10."""


async def measure(database: Database, load: Load, limits: Limits) -> Answer:
    """W9: the median of `runs` groups of a hundredth, a tenth and all of `steps` branches, one after the other."""
    client = application(database.url)
    sizes = [max(load.steps // part, 1) for part in (100, 10, 1)]
    async with await WorkerProcess.spawn(database.url, slots=load.slots) as worker:
        async with client.kagzi:
            await worker.begin()
            await _median_us(client, sizes[0], runs=3)
        meter = await Meter.begin(database, [worker])
        async with client.kagzi:
            each_us = [await _median_us(client, size, runs=load.runs) for size in sizes]
        costs = await meter.end()
    growth = Figure(
        name=f"a branch of {sizes[2]:,} against one of {sizes[1]:,}",
        value=each_us[2] / each_us[1],
        unit="times",
        more_is_better=False,
        target=_MOST_GROWTH,
    )
    curve = [_figure(size, us, limits) for size, us in zip(sizes, each_us, strict=True)]
    return Answer(figures=[*reversed(curve), growth], costs=costs, runs=load.runs * len(sizes))


async def _median_us(client: Application, branches: int, *, runs: int) -> float:
    """From a run's start to its result, for each of its branches."""
    took_us = []
    for _ in range(runs):
        began = perf_counter()
        if await (await client.grouped.start(branches)).result() != expected_sum(branches):
            raise RuntimeError("a run has a wrong result.")
        took_us.append((perf_counter() - began) * 1_000_000 / branches)
    return sorted(took_us)[runs // 2]


def _figure(branches: int, us: float, limits: Limits) -> Figure:
    return Figure(
        name=f"{branches:,} branches, each",
        value=us,
        unit="µs",
        more_is_better=False,
        limit=limits.seconds(commits=3, rows=branches) * 1_000_000 / branches,
        bare=f"3 single commits and {branches:,} rows",
    )
