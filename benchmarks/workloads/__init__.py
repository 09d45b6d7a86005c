"""The workloads by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.databases import Database
from benchmarks.measurement import Answer, Limits, Load
from benchmarks.workloads import claims, groups, latency, parallel, sequential, signals, sleepers, starts, throughput


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is measured, and how much is done where nobody says otherwise."""

    title: str
    measure: Callable[[Database, Load, Limits], Awaitable[Answer]]
    load: Load


WORKLOADS = {
    "w1": Workload(
        title="{runs} runs of {steps} steps, one worker process",
        measure=throughput.one_worker,
        load=Load(runs=2_000, steps=5),
    ),
    "w2": Workload(
        title="one run of {steps} steps, one after the other",
        measure=sequential.measure,
        load=Load(runs=1, steps=1_000),
    ),
    "w3": Workload(
        title="start to result of a one-step run, idle system", measure=latency.measure, load=Load(runs=300)
    ),
    "w4": Workload(title="one run of {steps} parallel steps", measure=parallel.measure, load=Load(runs=15, steps=500)),
    "w5": Workload(title="starts, awaited one by one by 64 tasks", measure=starts.measure, load=Load(runs=30_000)),
    "w6": Workload(title="{runs} sleeping runs, due at once", measure=sleepers.measure, load=Load(runs=5_000)),
    "w7": Workload(
        title="{runs} runs of {steps} steps, two worker processes",
        measure=throughput.two_workers,
        load=Load(runs=4_000, steps=5),
    ),
    "w8": Workload(
        title="claims beside 1,000,000 finished and 100,000 sleeping runs",
        measure=claims.measure,
        load=Load(runs=500),
    ),
    "w9": Workload(
        title="one parallel group of up to {steps} branches", measure=groups.measure, load=Load(runs=5, steps=10_000)
    ),
    "w10": Workload(
        title="signal to a parked run, until its body has it, idle system",
        measure=signals.measure,
        load=Load(runs=200),
    ),
}
