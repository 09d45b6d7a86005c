"""Data for these tests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from kagzi.ids import new_id
from kagzi.model.change import Change
from kagzi.model.claim import ClaimRequest
from kagzi.model.run import NewRun, RunId, WorkerKey
from kagzi.model.step import StepRecord
from kagzi.model.worker import Registration
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
