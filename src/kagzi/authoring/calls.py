"""Operations that a workflow body waits for: futures of its loop that know their identity."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from kagzi.authoring.options import StepOptions
from kagzi.authoring.port import RunPort
from kagzi.model.run import MessageKind
from kagzi.model.step import StepKind

R = TypeVar("R")

if TYPE_CHECKING:
    # For type checkers only, so that `TaskGroup.create_task(ctx.step(...))` is accepted, as the loop accepts it. At
    # run time it must not look like a coroutine: asyncio.wait refuses those.
    class _Awaited(asyncio.Future[R], Coroutine[Any, Any, R]): ...

else:
    _Awaited = asyncio.Future


class LazyCall(_Awaited[R]):
    """An operation that was called, with its identity, and starts when somebody waits for it."""

    asked = False

    def __init__(self, port: RunPort, step_id: str, name: str) -> None:
        # Hash by creation order, like every future of a workflow's loop (engine/loop.py says why).
        self._order = port.next_order()
        _Awaited.__init__(self, loop=port.loop)
        self.port = port
        self.step_id = step_id
        self.name = name

    def __hash__(self) -> int:
        """By creation order within the run."""
        return self._order

    def __await__(self) -> Generator[Any, Any, R]:
        """Start it if nobody has, and wait for its result."""
        if not self.asked:
            self._ask()
        return _Awaited.__await__(self)

    __iter__ = __await__

    def add_done_callback(self, fn: Callable[[Any], object], /, *, context: Context | None = None) -> None:
        """Start it if nobody has, and have `fn` called when it is done."""
        if not self.asked:
            self._ask()
        _Awaited.add_done_callback(self, fn, context=context)

    def cancel(self, msg: Any | None = None) -> bool:
        """Stop waiting: the work itself is given up, and no result is recorded."""
        if not super().cancel(msg):
            return False
        if not self.asked:
            self.asked = True
        self.port.withdraw(self)
        return True

    def close(self) -> None:
        """Give up a call that nobody will await; what a TaskGroup that is shutting down does with what it is given."""
        self.cancel()

    def begin(self) -> None:
        """Start it if nobody has, without waiting for it."""
        if not self.asked:
            self._ask()

    def _ask(self) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        """Name the operation and say where it stands."""
        state = "done" if self.done() else "started" if self.asked else "not awaited yet"
        return f"<{type(self).__name__} {self.step_id} {state}>"


class StepCall(LazyCall[R]):
    """A step that was called, with its identity. It starts when it is first awaited, or given to `gather`, `wait`,
    a task or `ctx.as_completed`; awaiting it again gives the same result, or raises StepFailed again."""

    asked_at: datetime | None = None
    """When its total_timeout began to count, by workflow time; None where it has none."""
    in_transaction = False
    """Whether its function gets a connection, and its record commits with what that does."""

    def __init__(
        self,
        port: RunPort,
        step_id: str,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: StepOptions,
    ) -> None:
        # As LazyCall's, without a call in between: this is made for each step.
        self._order = port.next_order()
        _Awaited.__init__(self, loop=port.loop)
        self.port = port
        self.step_id = step_id
        self.name = name
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.options = options

    def _ask(self) -> None:
        self.port.ask(self)
        self.asked = True


class TransactionCall(StepCall[R]):
    """A transaction that was called: a step whose function gets a connection, and whose record commits with it."""

    in_transaction = True


class Waited(asyncio.Future[R]):
    """An operation that is asked for when it is made: it knows its identity, and hashes by creation order."""

    def __init__(self, port: RunPort, step_id: str) -> None:
        self._order = port.next_order()
        super().__init__(loop=port.loop)
        self.port = port
        self.step_id = step_id

    def __hash__(self) -> int:
        """By creation order within the run."""
        return self._order

    def cancel(self, msg: Any | None = None) -> bool:
        """Wait no more. A message stays for whoever waits next; what is on its way may become durable all the same."""
        if not super().cancel(msg):
            return False
        self.port.withdraw(self)
        return True


class Receive(Waited[R]):
    """A wait for the next message of a kind and name, whose payload is of the type `carries`.

    `unpack` makes of the decoded payload, and the message's position, what the wait gives.
    """

    def __init__(
        self,
        port: RunPort,
        step_id: str,
        kind: MessageKind,
        name: str,
        carries: Any,
        unpack: Callable[[Any, int], Any] | None = None,
    ) -> None:
        super().__init__(port, step_id)
        self.kind = kind
        self.name = name
        self.carries = carries
        self.unpack = unpack

    @property
    def shown(self) -> str:
        """What it waits for, for people."""
        return f"{self.kind.lower()} {self.name!r}"


class Write(Waited[None]):
    """Something that the run itself makes known, in the commit that records it: a published value under a `key`, or the
    reply to the message at a `position`. `text` is encoded."""

    def __init__(
        self,
        port: RunPort,
        step_id: str,
        kind: StepKind,
        text: str,
        *,
        key: str = "",
        position: int = 0,
    ) -> None:
        super().__init__(port, step_id)
        self.kind = kind
        self.text = text
        self.key = key
        self.position = position


class Sleep(Waited[None]):
    """A durable sleep until `due`."""

    def __init__(self, port: RunPort, step_id: str, due: datetime) -> None:
        super().__init__(port, step_id)
        self.due = due
