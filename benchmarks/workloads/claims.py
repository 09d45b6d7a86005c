"""W8: how long a claim takes when a million runs have finished and 100,000 sleep."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from time import perf_counter

from benchmarks.costs import Meter
from benchmarks.databases import Database
from benchmarks.measurement import Answer, Figure, Limits, Load
from benchmarks.workloads.seeding import WORKFLOW, seed
from benchmarks.workloads.waiting import NAMESPACE, watched
from kagzi.ids import new_id
from kagzi.model.claim import ClaimRequest
from kagzi.model.run import NewRun, RunId, WorkerKey
from kagzi.model.worker import Registration
from kagzi.rules import lifecycle
from kagzi.store.protocol import Store

_FINISHED = 1_000_000
_SLEEPING = 100_000
_DUE_AT_ONCE = 3
_TARGET_MS = 10.0


async def measure(database: Database, load: Load, limits: Limits) -> Answer:
    """W8: `runs` claims through the store, each of three new runs; between them a look that finds nothing."""
    async with watched(database.url) as store:
        await store.migrate()
    await seed(database, finished=_FINISHED, sleeping=_SLEEPING)
    meter = await Meter.begin(database)
    async with watched(database.url) as store:
        request = await _register(store, slots=load.slots)
        taken_ms = []
        empty_ms = []
        for _ in range(load.runs):
            await store.start([_new_run() for _ in range(_DUE_AT_ONCE)])
            taken_ms.append(await _claim_ms(store, request, expected=_DUE_AT_ONCE))
            empty_ms.append(await _claim_ms(store, request, expected=0))
    costs = await meter.end()
    taken_ms.sort()
    empty_ms.sort()
    commit_ms = limits.seconds(commits=1) * 1000
    p99 = Figure(
        name="claim p99",
        value=taken_ms[int(load.runs * 0.99)],
        unit="ms",
        more_is_better=False,
        target=_TARGET_MS,
        limit=commit_ms,
        bare="one single commit",
    )
    others = {
        "claim p50": taken_ms[load.runs // 2],
        "finding nothing p50": empty_ms[load.runs // 2],
        "finding nothing p99": empty_ms[int(load.runs * 0.99)],
    }
    figures = [Figure(name=name, value=value, unit="ms", more_is_better=False) for name, value in others.items()]
    return Answer(figures=[p99, *figures], costs=costs, runs=load.runs * _DUE_AT_ONCE)


async def _register(store: Store, *, slots: int) -> ClaimRequest:
    key = WorkerKey(new_id())
    workflows = ((WORKFLOW, 1),)
    await store.register(
        Registration(
            key=key,
            worker_id="benchmark",
            namespace=NAMESPACE,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=("default",),
            workflows=workflows,
            slots=slots,
            lease=timedelta(hours=1),
        )
    )
    return ClaimRequest(worker=key, namespace=NAMESPACE, queues=("default",), workflows=workflows, slots=slots)


def _new_run() -> NewRun:
    return NewRun(run_id=RunId(new_id()), namespace=NAMESPACE, workflow=WORKFLOW, version=1, input="[1]")


async def _claim_ms(store: Store, request: ClaimRequest, *, expected: int) -> float:
    began = perf_counter()
    claimed = await store.claim(request)
    took_ms = (perf_counter() - began) * 1000
    if len(claimed.claims) != expected:
        raise RuntimeError(f"{len(claimed.claims)} runs were claimed, not {expected}.")
    if claimed.claims:
        await store.commit([lifecycle.complete(claim.run_id, claim.fence, output="0") for claim in claimed.claims])
    return took_ms
