"""What a worker finds in its application."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from kagzi.authoring.definitions import Definitions
from kagzi.engine.journal import Journal
from kagzi.engine.time import EngineClock
from kagzi.model.change import Transition
from kagzi.model.run import RunId
from kagzi.model.version import VersionPolicy
from kagzi.payloads import Payloads
from kagzi.rules.classification import Classifier
from kagzi.settings import Settings
from kagzi.store.protocol import Store

if TYPE_CHECKING:
    from kagzi.worker.worker import Worker


class Surroundings(Protocol):
    """An application, as far as its workers need it."""

    settings: Settings
    store: Store
    journal: Journal
    payloads: Payloads
    classifiers: Sequence[Classifier]
    clock: EngineClock
    definitions: Definitions

    async def borrow(self) -> None:
        """Connect for a worker, unless that was done before."""

    async def give_back(self) -> None:
        """Disconnect, where workers alone had connected and this is the last of them."""

    async def version_policy(self, namespace: str, workflow: str) -> VersionPolicy:
        """The default and the deprecated versions of a workflow, as they were within about a second."""

    def run_ended(self, run_id: RunId, transition: Transition) -> None:
        """A run of this process has ended; whoever waits for it here need not ask the store."""

    def joined(self, worker: Worker) -> None:
        """A worker has begun to take runs."""

    def left(self, worker: Worker) -> None:
        """A worker takes no more runs."""
