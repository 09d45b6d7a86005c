"""Data for the contract tests, and what nearly every test does first. Defaults fit each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from kagzi.ids import new_id
from kagzi.model.change import Change, Committed, Transition
from kagzi.model.claim import Claim, ClaimRequest
from kagzi.model.event import NewEvent
from kagzi.model.run import NewRun, RunId, RunStatus, WorkerKey
from kagzi.model.step import StepRecord
from kagzi.model.worker import Beat, Recovery, RecoveryPolicy, Registration
from kagzi.store.protocol import Store

NAMESPACE = "default"
QUEUE = "default"
WORKFLOW = "order"
POISON_ERROR = '{"kind":"PoisonRun","message":"set aside","type":"PoisonRun"}'

T = TypeVar("T")


def a_run_id() -> RunId:
    return RunId(new_id())


def a_worker_key() -> WorkerKey:
    return WorkerKey(new_id())


def a_run(**fields: Any) -> NewRun:
    """A run without an id of the caller's, due at once."""
    defaults: dict[str, Any] = {
        "run_id": a_run_id(),
        "namespace": NAMESPACE,
        "workflow": WORKFLOW,
        "version": 1,
        "input": '{"args":[1]}',
    }
    return NewRun(**(defaults | fields))


def a_registration(**fields: Any) -> Registration:
    """A worker with a lease of a minute."""
    defaults: dict[str, Any] = {
        "key": a_worker_key(),
        "worker_id": "worker-1",
        "namespace": NAMESPACE,
        "host": "localhost",
        "pid": 4711,
        "queues": (QUEUE,),
        "workflows": ((WORKFLOW, 1),),
        "slots": 100,
        "lease": timedelta(minutes=1),
    }
    return Registration(**(defaults | fields))


def an_event(name: str = "paid", **fields: Any) -> NewEvent:
    """An event without a key."""
    defaults: dict[str, Any] = {"event_id": new_id(), "namespace": NAMESPACE, "payload": "1", "call": "[1]"}
    return NewEvent(name=name, **(defaults | fields))


def a_request(worker: WorkerKey, **fields: Any) -> ClaimRequest:
    defaults: dict[str, Any] = {
        "worker": worker,
        "namespace": NAMESPACE,
        "queues": (QUEUE,),
        "workflows": ((WORKFLOW, 1),),
        "slots": 100,
    }
    return ClaimRequest(**(defaults | fields))


def a_record(seq: int = 1, **fields: Any) -> StepRecord:
    """A finished step; its identity follows from its place."""
    defaults: dict[str, Any] = {"step_id": f"0/step-{seq}#0", "seq": seq, "output": f'"result {seq}"'}
    return StepRecord(**(defaults | fields))


def a_change(claim: Claim, *records: StepRecord, transition: Transition | None = None) -> Change:
    return Change(run_id=claim.run_id, fence=claim.fence, records=records, transition=transition)


def completed(output: str = '"done"') -> Transition:
    return Transition(status=RunStatus.COMPLETED, output=output)


def given_back() -> Transition:
    return Transition(status=RunStatus.PENDING)


def asleep(wake_at: datetime | None = None, **fields: Any) -> Transition:
    return Transition(status=RunStatus.SLEEPING, wake_at=wake_at, **fields)


def a_policy(**fields: Any) -> RecoveryPolicy:
    defaults: dict[str, Any] = {"poison_after": 5, "poison_error": POISON_ERROR}
    return RecoveryPolicy(**(defaults | fields))


LONG_AGO = datetime(2001, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)
FAR_AHEAD = datetime(2525, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)

HOSTILE_TEXTS = {
    "quotes": """'single' "double" `back` \\ \\n $1 ?1 {schema} %s -- /* ;""",
    "lines": "one\ntwo\r\nthree\ttab\x7f\x01\x1f",
    "astral": "🦔𝕶𐍈 e\u0301 \u202eRTL \ufeff \u2028 \U0010ffff",
    "long": "x" * 10_000,
    "spaces": "  leading and trailing  ",
    "json": '{"a":[null,"\\u0000",1e999]}',
}


# -- doing -------------------------------------------------------------------------------------------------------


async def start(store: Store, *runs: NewRun) -> list[RunId]:
    """Start runs (one of the builder's where none is given) and return their ids."""
    return [started.run_id for started in await store.start(runs or (a_run(),))]


async def claim_one(store: Store, worker: WorkerKey, **fields: Any) -> Claim:
    """Take exactly one run."""
    claimed = await store.claim(a_request(worker, slots=1, **fields))
    (claim,) = claimed.claims
    return claim


async def start_and_claim(store: Store, worker: WorkerKey, **fields: Any) -> Claim:
    """Start a run and take it."""
    await start(store, a_run(**fields))
    return await claim_one(store, worker)


async def start_owned(store: Store, worker: WorkerKey) -> Claim:
    """Start a run that is born with its owner: nothing falls due, so nothing is hinted."""
    run = a_run(owner=worker)
    (started,) = await store.start([run])
    assert started.claimed
    return Claim(
        run_id=run.run_id,
        id=None,
        workflow=run.workflow,
        version=run.version,
        queue=run.queue,
        priority=0,
        input=run.input,
        fence=1,
        inbox=0,
        attempts=1,
        started_at=started.now,
    )


async def commit(store: Store, *changes: Change) -> Committed:
    return await store.commit(changes)


async def expire(store: Store, worker: WorkerKey) -> None:
    """Let a worker's lease run out now."""
    answer = await store.beat(Beat(worker=worker, lease=timedelta(0)))
    assert answer.alive


async def recover(store: Store, policy: RecoveryPolicy | None = None) -> Recovery:
    return await store.recover(NAMESPACE, policy or a_policy())


async def kill(store: Store, worker: WorkerKey, policy: RecoveryPolicy | None = None) -> Recovery:
    """Let a worker's lease run out and return the recovery that declared it dead."""
    await expire(store, worker)

    async def until_dead() -> Recovery | None:
        recovery = await recover(store, policy)
        return recovery if worker in recovery.dead else None

    return await eventually(until_dead)


async def a_worker(store: Store, **fields: Any) -> WorkerKey:
    """Enter one more worker."""
    registration = a_registration(**fields)
    await store.register(registration)
    return registration.key


async def eventually(ask: Callable[[], Awaitable[T | None]], *, within_s: float = 10) -> T:
    """Ask until the answer is not None, or fail when the time is up."""
    async with asyncio.timeout(within_s):
        while True:
            answer = await ask()
            if answer is not None:
                return answer
            await asyncio.sleep(0.005)


def ids_of(claims: Sequence[Claim]) -> list[RunId]:
    return [claim.run_id for claim in claims]
