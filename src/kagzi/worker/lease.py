"""A worker's registration and its lease, as the worker itself counts it."""

from __future__ import annotations

import os
import socket
from datetime import timedelta

from kagzi.clock import monotonic, since_boot
from kagzi.engine.time import EngineClock
from kagzi.ids import new_id
from kagzi.model.run import WorkerKey
from kagzi.model.step import OpenStep
from kagzi.model.worker import Beat, BeatAnswer, Registration, WorkerState
from kagzi.store.protocol import Store
from kagzi.worker.config import WorkerConfig


class Lease:
    """One registration after another, each alive for as long as it is renewed.

    The deadline is counted from *before* a renewal was sent, by a clock that goes on while the machine is suspended:
    when it has passed, others may own our runs, whatever the answer said later (P9).
    """

    def __init__(self, store: Store, config: WorkerConfig, *, clock: EngineClock) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self.key = WorkerKey("")
        self._entering: WorkerKey | None = None
        self._deadline = 0.0
        self._renewed_at = since_boot()

    @property
    def is_held(self) -> bool:
        """Whether nobody else can have declared this worker dead."""
        return since_boot() < self._deadline

    @property
    def until_s(self) -> float:
        """When the lease is over, unless it is renewed, by the clock `since_boot`."""
        return self._deadline

    @property
    def silent_for(self) -> timedelta:
        """How long ago a renewal was sent that the store has answered."""
        return timedelta(seconds=since_boot() - self._renewed_at)

    async def register(self, workflows: tuple[tuple[str, int], ...]) -> None:
        """Enter the register under a new key."""
        while True:
            # Where an answer was lost, the same key goes again: the register shows no worker twice.
            key = self._entering = self._entering or WorkerKey(new_id())
            sent, asked_at_s = since_boot(), monotonic()
            answer = await self._store.register(self._registration(key, workflows))
            self._clock.observe(answer.now, asked_at_s=asked_at_s)
            self._entering = None
            if answer.alive:
                break
        self.key = key
        self._renewed_at = sent
        self._deadline = sent + self._config.lease.total_seconds()

    def _registration(self, key: WorkerKey, workflows: tuple[tuple[str, int], ...]) -> Registration:
        config = self._config
        return Registration(
            key=key,
            worker_id=config.worker_id,
            namespace=config.namespace,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=config.queues,
            workflows=workflows,
            slots=config.max_concurrent_workflows,
            lease=config.lease,
            build_id=config.build_id,
        )

    async def renew(self, *, state: WorkerState, load: str, open_steps: tuple[OpenStep, ...]) -> BeatAnswer:
        """Renew the lease, unless this registration was declared dead."""
        sent, asked_at_s = since_boot(), monotonic()
        answer = await self._store.beat(
            Beat(worker=self.key, lease=self._config.lease, state=state, load=load, open_steps=open_steps)
        )
        self._clock.observe(answer.now, asked_at_s=asked_at_s)
        self._renewed_at = sent
        if answer.alive:
            self._deadline = sent + self._config.lease.total_seconds()
        else:
            self._deadline = 0.0
        return answer

    async def leave(self) -> None:
        """Leave the register, also where entering it was broken off."""
        self._deadline = 0.0
        for key in (self._entering, self.key):
            if key:
                await self._store.leave(key)
