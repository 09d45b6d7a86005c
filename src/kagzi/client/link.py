"""What client verbs find in their application."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from kagzi.authoring.definitions import Definitions
from kagzi.client.replies import Replies
from kagzi.client.waiting import Waiting
from kagzi.engine.journal import Journal
from kagzi.engine.time import EngineClock
from kagzi.model.claim import Claim
from kagzi.model.event import EventHandler
from kagzi.model.run import RunId, WorkerKey
from kagzi.model.version import VersionPolicy
from kagzi.payloads import Payloads
from kagzi.settings import Settings
from kagzi.store.protocol import Store


class LocalWorker(Protocol):
    """A worker in this process that can take a run that is started here without a trip to the store."""

    def reserve(self, run_id: RunId, *, queue: str, namespace: str) -> WorkerKey | None:
        """Keep a slot; None where the worker can't take the run."""

    def unreserve(self, run_id: RunId) -> None:
        """Give a slot back."""

    def falls_due(self, when: datetime) -> None:
        """A run that the worker may be able to take falls due at `when`."""

    def must_end(self, when: datetime) -> None:
        """The deadline of a run passes at `when`."""

    def take(self, claim: Claim, *, key: WorkerKey) -> None:
        """Execute the run. A plain callback only."""


class Link(Protocol):
    """An application that is connected."""

    settings: Settings
    store: Store
    journal: Journal
    payloads: Payloads
    clock: EngineClock
    definitions: Definitions
    waiting: Waiting
    replies: Replies
    is_open: bool
    enrolled: tuple[EventHandler, ...]

    @property
    def local_workers(self) -> tuple[LocalWorker, ...]:
        """The workers of this process that take runs."""

    def executes(self, run_id: RunId) -> bool:
        """Whether a worker of this process has the run in memory."""

    def check_caller(self) -> None:
        """Refuse to be used where that can't work. Raises WorkflowIOError in a body, ConfigError on another loop."""

    async def version_policy(self, namespace: str, workflow: str) -> VersionPolicy:
        """The default and the deprecated versions of a workflow, as they were within about a second."""

    def version_policy_changed(self, namespace: str, workflow: str) -> None:
        """They were changed here: the next start is to know."""
