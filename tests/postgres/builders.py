"""Data for these tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from kagzi.ids import new_id
from kagzi.model.change import Change
from kagzi.model.claim import ClaimRequest
from kagzi.model.run import NewRun, RunFilter, RunId, WorkerKey
from kagzi.model.step import OpenStep, StepRecord
from kagzi.model.worker import Beat, RecoveryPolicy, Registration
from kagzi.store.postgres.store import PostgresStore

NAMESPACE = "tests"


def a_run(**fields: Any) -> NewRun:
    values: dict[str, Any] = {
        "run_id": RunId(new_id()),
        "namespace": NAMESPACE,
        "workflow": "order",
        "version": 1,
        "input": '{"n":1}',
    }
    return NewRun(**(values | fields))


def a_registration(**fields: Any) -> Registration:
    values: dict[str, Any] = {
        "key": WorkerKey(new_id()),
        "worker_id": "w1",
        "namespace": NAMESPACE,
        "host": "here",
        "pid": 1,
        "queues": ("default",),
        "workflows": (("order", 1),),
        "slots": 10,
        "lease": timedelta(seconds=60),
    }
    return Registration(**(values | fields))


def a_request(worker: WorkerKey, **fields: Any) -> ClaimRequest:
    values: dict[str, Any] = {
        "worker": worker,
        "namespace": NAMESPACE,
        "queues": ("default",),
        "workflows": (("order", 1),),
        "slots": 10,
    }
    return ClaimRequest(**(values | fields))


def a_checkpoint(run_id: RunId, *, fence: int = 1, seq: int = 1, output: str = "1") -> Change:
    return Change(run_id=run_id, fence=fence, records=(StepRecord(step_id=f"/s#{seq}", seq=seq, output=output),))


async def a_worker(store: PostgresStore, **fields: Any) -> WorkerKey:
    registration = a_registration(**fields)
    await store.register(registration)
    return registration.key


async def use_every_verb(store: PostgresStore) -> None:
    """One after the other, with all forms of their statements: whatever a connection can pick up, it picks up."""
    now = datetime.now(UTC)
    worker = await a_worker(store)
    for batch in ([a_run(id="one", tags=("t",))], [a_run(id="two"), a_run()]):
        await store.start(batch)
        await store.start(batch)
    claims = (await store.claim(a_request(worker))).claims
    steps = [a_checkpoint(claim.run_id, fence=claim.fence) for claim in claims]
    for changes in (steps[:1], steps, steps):
        await store.commit(changes)
    run_ids = [claim.run_id for claim in claims]
    shown = OpenStep(run_id=run_ids[0], fence=1, step_id="/slow#1", started_at=now, attempts=1)
    await store.beat(Beat(worker=worker, lease=timedelta(seconds=60), open_steps=(shown,)))
    await store.outcomes(run_ids)
    await store.existing(run_ids)
    await store.recall(run_ids)
    await store.reconsider(a_request(worker), within=timedelta(seconds=30))
    await store.get(run_ids[0])
    await store.steps(run_ids[0])
    await store.find(RunFilter(namespace=NAMESPACE, tags=("t",), created_after=now, cursor=run_ids[0]))
    await store.count_open(NAMESPACE)
    await store.owned(worker)
    await store.workers(NAMESPACE)
    await store.probe()
    await store.replication_lag()
    await store.backlog(NAMESPACE, limit=10)
    await store.set_default_version(NAMESPACE, "order", 1)
    await store.deprecate_version(NAMESPACE, "order", 2)
    await store.version_policy(NAMESPACE, "order")
    await store.version_policies(NAMESPACE)
    await store.undeprecate_version(NAMESPACE, "order", 2)
    await store.leave(worker)
    await store.recover(NAMESPACE, RecoveryPolicy(poison_after=5, poison_error="{}"))
    await store.claim(a_request(await a_worker(store)))
