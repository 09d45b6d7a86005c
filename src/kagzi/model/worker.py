"""Workers as the store knows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from kagzi.model.run import RunId, WorkerKey
from kagzi.model.step import OpenStep


class WorkerState(StrEnum):
    """Where a worker stands in its life. STOPPED and DEAD are final for a registration."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    DRAINING = "DRAINING"
    STOPPED = "STOPPED"
    DEAD = "DEAD"


FINAL_STATES = (WorkerState.STOPPED, WorkerState.DEAD)
"""Nothing follows them. Looked up here, as a row may hold a state of a later release, which is then a plain text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredWorker:
    """A worker as people see it: what it told when it registered, and with its last heartbeat.

    `key` names this registration; a worker that was declared DEAD comes back under another. `workflows` are the
    (name, version) pairs it can run, `load` is what its last heartbeat said (empty before the first, or where it can't
    be read). Times are aware and in UTC, all by the store's clock; `seen_at` is when it was read.
    """

    worker_id: str
    key: str
    host: str
    pid: int
    queues: tuple[str, ...]
    workflows: tuple[tuple[str, int], ...]
    slots: int
    state: WorkerState
    drain_asked: bool = False
    build_id: str | None = None
    load: dict[str, Any] = field(default_factory=dict)
    registered_at: datetime
    beat_at: datetime
    lease_until: datetime
    seen_at: datetime

    @property
    def silent_for(self) -> timedelta:
        """How long before it was read the worker gave its last sign of life."""
        return max(self.seen_at - self.beat_at, timedelta(0))

    @property
    def has_ended(self) -> bool:
        """Whether nothing will follow of this registration."""
        return self.state in FINAL_STATES

    @property
    def holds_lease(self) -> bool:
        """Whether nobody might have declared it dead when it was read."""
        return not self.has_ended and self.seen_at < self.lease_until

    @property
    def takes_runs(self) -> bool:
        """Whether it holds its lease and neither drains nor was asked to."""
        return self.holds_lease and self.state is not WorkerState.DRAINING and not self.drain_asked


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """A worker entering the register. `workflows` are the (name, version) pairs it can run."""

    key: WorkerKey
    worker_id: str
    namespace: str
    host: str
    pid: int
    queues: tuple[str, ...]
    workflows: tuple[tuple[str, int], ...]
    slots: int
    lease: timedelta
    build_id: str | None = None


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life: renews the lease for `lease` from the store's now.

    `load` is JSON text for people and health checks. `open_steps` are made visible as RUNNING rows, fenced.
    """

    worker: WorkerKey
    lease: timedelta
    state: WorkerState = WorkerState.RUNNING
    load: str | None = None
    open_steps: tuple[OpenStep, ...] = ()


class BeatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`alive` is False where the registration was declared DEAD, or is unknown: drop everything, register anew.

    `drain` says that somebody asked the worker to drain.
    """

    alive: bool
    now: datetime
    drain: bool = False


class StoredWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `workers`, read at the store's `now`."""

    key: WorkerKey
    worker_id: str
    namespace: str
    host: str
    pid: int
    queues: tuple[str, ...]
    workflows: tuple[tuple[str, int], ...]
    slots: int
    state: WorkerState
    build_id: str | None
    load: str | None
    registered_at: datetime
    beat_at: datetime
    lease_until: datetime
    drain_asked: bool
    now: datetime


class OwnedRun(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A run that the store holds RUNNING for a worker."""

    run_id: RunId
    fence: int


class RecoveryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How runs of dead workers come back: `batch` at a time; one that has now killed its worker `poison_after` times
    in a row without a new finished operation becomes FAILED with `poison_error` (encoded StepError)."""

    poison_after: int
    poison_error: str
    batch: int = 500


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass brought back: `released` runs are PENDING and due, `poisoned` ones FAILED; `dead` are the
    registrations newly declared DEAD. `more` says that a full batch was moved and another pass is worth it."""

    released: tuple[RunId, ...] = ()
    poisoned: tuple[RunId, ...] = ()
    dead: tuple[WorkerKey, ...] = ()
    more: bool = False
