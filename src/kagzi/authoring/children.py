"""Child workflows as a body sees them: what is asked for, what is awaited, and the handle on a child."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

import msgspec

from kagzi.authoring.calls import LazyCall, Waited
from kagzi.authoring.names import check_name
from kagzi.authoring.options import ChildOptions
from kagzi.authoring.port import RunPort
from kagzi.authoring.signals import Signal
from kagzi.errors import RunClosed

if TYPE_CHECKING:
    from kagzi.authoring.definitions import Definition

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class _Started(Protocol[R_co]):
    """A started run."""

    async def result(self, timeout: Any = None) -> R_co:
        """Its result."""


class Startable(Protocol[P, R_co]):
    """A workflow of the application: what `@kagzi.workflow` makes of a function."""

    @property
    def definition(self) -> Definition:
        """What it is registered as."""

    def start(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, _Started[R_co]]:
        """Start a run of it."""


class ChildOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A child that is to be started: its workflow (and `definition`, None where only its name is known), its encoded
    input, its options, and how long it may take in all."""

    workflow: str
    definition: Definition | None
    input: str
    options: ChildOptions
    timeout: timedelta | None


class ChildCall(LazyCall[R]):
    """A child workflow that was called, with its identity. It starts when it is first awaited, or given to `gather`,
    `wait` or a task; awaiting it again gives the same result."""

    def __init__(self, port: RunPort, step_id: str, name: str, order: ChildOrder, *, starts_only: bool) -> None:
        super().__init__(port, step_id, name)
        self.order = order
        self.starts_only = starts_only
        """Whether the call is over once the child has been started: it then gives the child's run_id."""

    def _ask(self) -> None:
        self.port.ask_child(self)
        self.asked = True


class ChildResult(Waited[R]):
    """A wait for the end of a child that was started before."""

    def __init__(self, port: RunPort, step_id: str, name: str, child_run_id: str, order: ChildOrder) -> None:
        super().__init__(port, step_id)
        self.name = name
        self.child_run_id = child_run_id
        self.order = order


class ChildHandle(Generic[R]):
    """A child workflow that was started and goes on beside its parent."""

    __slots__ = ("_name", "_order", "_port", "_result", "_run_id")

    def __init__(self, port: RunPort, name: str, run_id: str, order: ChildOrder) -> None:
        self._port = port
        self._name = name
        self._run_id = run_id
        self._order = order
        self._result: ChildResult[R] | None = None

    @property
    def run_id(self) -> str:
        """The child's run_id."""
        return self._run_id

    async def result(self) -> R:
        """Wait for the child to end and return its result, holding nothing while it takes long.

        Giving up the wait leaves the child going. Raises ChildFailed where it failed or was cancelled.
        """
        if self._result is None:
            step_id = self._port.identify(self._name)
            self._result = ChildResult(self._port, step_id, self._name, self._run_id, self._order)
            self._port.ask_outcome(self._result)
        # Many may wait for it: one that gives up does not cancel it for the others.
        return await asyncio.shield(self._result)

    async def signal(self, signal: Signal[T], value: T) -> None:
        """Send a signal to the child, once, whatever crashes; returns once it is in the child's mailbox for good.

        Raises RunClosed where the child has ended, PayloadError for a value that doesn't fit the signal's type.
        """
        if not isinstance(signal, Signal):
            raise TypeError(f"give a Signal, such as Signal({'opened'!r}, bool), not {signal!r}.")
        text = self._port.encode(signal.type, value, where=f"signal {signal.name!r}")
        ended = await self._port.signalling(self._run_id, signal.name, text)
        if ended is not None:
            raise RunClosed(self._run_id, ended)

    def __repr__(self) -> str:
        """Name the child."""
        return f"<ChildHandle {self._name!r} {self._run_id}>"


def order_of(
    port: RunPort,
    workflow: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: ChildOptions,
    *,
    timeout: timedelta | None,
) -> ChildOrder:
    """Check what is to be started, and encode its arguments. Raises TypeError, ValueError or PayloadError."""
    if isinstance(workflow, str):
        name, definition = check_name(workflow, what="the name of a workflow"), None
    else:
        definition = getattr(workflow, "definition", None)
        if definition is None:
            raise TypeError(f"give a workflow or its name, not {workflow!r}.")
        name = definition.name
    shape = port.payloads.untyped_call() if definition is None else definition.arguments
    text = shape.encode(args, kwargs, where=f"the input of workflow {name!r}")
    return ChildOrder(workflow=name, definition=definition, input=text, options=options, timeout=timeout)
