"""What an execution needs of the worker around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from kagzi.engine.endings import Ending
from kagzi.engine.journal import Journal
from kagzi.engine.runner import StepRunner
from kagzi.engine.running import RunningStep
from kagzi.engine.time import EngineClock
from kagzi.model.change import Change
from kagzi.model.child import Forsaken
from kagzi.model.event import Awaiting
from kagzi.model.run import RunId
from kagzi.payloads import Payloads
from kagzi.rules.classification import Classifier
from kagzi.store.protocol import Store

if TYPE_CHECKING:
    from kagzi.engine.execution import Execution


class Host(Protocol):
    """The worker, seen from a run that it has in memory."""

    journal: Journal
    runner: StepRunner
    clock: EngineClock
    payloads: Payloads
    classifiers: Sequence[Classifier]
    park_after: timedelta
    cancel_grace: timedelta
    body_warning_s: float
    store_timeout_s: float

    @property
    def store(self) -> Store:
        """Where transactions are carried out."""

    @property
    def namespace(self) -> str:
        """Where its runs and their children are."""

    @property
    def may_start_steps(self) -> bool:
        """Whether the worker still holds its lease (P9)."""

    @property
    def lease_until_s(self) -> float:
        """When the lease is over, unless it is renewed, by the clock `since_boot`."""

    def told(self, running: RunningStep) -> None:
        """A step's function told how far it is. Safe from any thread."""

    def give_up(self, child: Forsaken, then: Callable[[], None]) -> None:
        """Have a child ended, or asked to end, and `then` called, as a plain callback, once that is durable."""

    def await_events(self, awaiting: Awaiting, then: Callable[[], None]) -> None:
        """Have the store know which events a run waits for, and `then` called, as a plain callback, once it does and
        those that have come already are in the run's mailbox."""

    async def version_to_start(self, workflow: str, asked: int | None) -> int:
        """The version that a new run gets. Raises WorkflowNotRegistered, VersionNotFound or StoreUnavailable."""

    async def cancel_asked_at(self, run_id: RunId) -> datetime | None:
        """When a run, or the last of its chain, was asked to end; None where it was not. Raises StoreUnavailable."""

    def ended(self, execution: Execution, ending: Ending, change: Change | None) -> None:
        """The execution is over; `change` is what it wrote last, if that was durable."""
