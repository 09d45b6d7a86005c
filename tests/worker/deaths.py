"""Having a worker of this process declared dead, as other workers would after its lease."""

from __future__ import annotations

from datetime import timedelta

from kagzi.model.run import WorkerKey
from kagzi.model.worker import Beat, RecoveryPolicy, WorkerState
from kagzi.rules.failures import encode_error, poison_error
from kagzi.store.protocol import Store
from tests.app.applications import until


async def declare_dead(store: Store, key: WorkerKey, *, poison_after: int = 1000) -> None:
    """Let a registration's lease run out and recover its runs; returns once it is DEAD.

    The worker may renew its lease in between, so it is done until it has worked.
    """
    policy = RecoveryPolicy(poison_after=poison_after, poison_error=encode_error(poison_error(crashes=poison_after)))

    async def is_dead() -> bool:
        await store.beat(Beat(worker=key, lease=timedelta(microseconds=-1)))
        await store.recover("default", policy)
        return any(worker.key == key and worker.state is WorkerState.DEAD for worker in await store.workers("default"))

    await until(is_dead)
