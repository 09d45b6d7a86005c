"""What a workflow's code asks of the run that executes it. The engine answers."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from kagzi.authoring.options import StepOptions
from kagzi.authoring.scopes import Scope
from kagzi.payloads import Payloads

if TYPE_CHECKING:
    from kagzi.authoring.calls import LazyCall, Receive, Sleep, StepCall, Waited, Write
    from kagzi.authoring.children import ChildCall, ChildResult
    from kagzi.authoring.undoing import UndoableCall


class RunPort(Protocol):
    """One run in memory, seen from its body.

    Every method raises `Parked` once the run leaves memory.
    """

    id: str
    workflow: str
    version: int
    attempt: int
    step_defaults: StepOptions
    payloads: Payloads

    @property
    def run_id(self) -> str:
        """The run's own id."""

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that is silent during replay."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The run's deterministic event loop."""

    @property
    def now(self) -> datetime:
        """The workflow's time."""

    @property
    def chance(self) -> random.Random:
        """Chance, seeded by the run."""

    @property
    def scope(self) -> Scope:
        """Where the current task names its operations."""

    def check_running(self) -> None:
        """Raise KagziError outside of the body."""

    def identify(self, name: str, scope: Scope | None = None) -> str:
        """Give the next operation of this name its identity: in `scope`, else in that of the current task."""

    def create_task(self, work: Awaitable[Any], scope: Scope) -> asyncio.Task[Any]:
        """Make a task that names its operations in `scope`."""

    def next_order(self) -> int:
        """The creation number of a new future of the run."""

    def created(self, call: LazyCall[Any]) -> None:
        """Note a call that was made and is not awaited yet."""

    def ask(self, call: StepCall[Any]) -> None:
        """Have the step executed, or its recorded result delivered."""

    def undoable(self, call: UndoableCall[Any]) -> None:
        """Note a step that is to be undone where it is completed and the run fails."""

    def completed(self, call: UndoableCall[Any], value: Any) -> None:
        """Note that such a step is completed, with `value`."""

    def signalling(self, child_run_id: str, signal: str, text: str) -> StepCall[str | None]:
        """Make the call that sends an encoded signal to a child; it gives the child's status where it has ended."""

    def ask_sleep(self, sleep: Sleep) -> None:
        """Have the sleep end at its time, or where the record says it ended."""

    def patched(self, change_id: str) -> bool:
        """Whether the run takes the changed path."""

    def continue_as_new(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, version: int | None) -> NoReturn:
        """End the body, and let another run take the place of this one."""

    def ask_receive(self, receive: Receive[Any]) -> None:
        """Have the next message of that name delivered, or the one that the record says."""

    def ask_child(self, call: ChildCall[Any]) -> None:
        """Have the child started, and its outcome delivered, or what is recorded of it."""

    def ask_outcome(self, result: ChildResult[Any]) -> None:
        """Have the outcome of a child that was started delivered."""

    def encode(self, carries: Any, value: Any, *, where: str) -> str:
        """Encode a value of the type `carries`. Raises PayloadError where it does not fit."""

    def check_type(self, carries: Any) -> None:
        """Raise ConfigError where no value of the type `carries` could be read back."""

    def ask_write(self, write: Write) -> None:
        """Have something made known, together with its record."""

    def withdraw(self, operation: LazyCall[Any] | Waited[Any]) -> None:
        """Stop waiting for an operation that the body cancelled."""
