"""`Signal` and `Update`: names and types that a sender and a workflow share."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from kagzi.authoring.calls import Write
from kagzi.authoring.names import check_name
from kagzi.authoring.port import RunPort
from kagzi.model.run import MessageKind
from kagzi.model.step import StepKind

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Signal(Generic[T]):
    """A message that a run can wait for: `OPENED = Signal("opened", bool)`.

    `await ctx.wait_for(OPENED)` receives its values, `await handle.signal(OPENED, True)` sends one. Without a type it
    carries JSON values. Raises ValueError for a name that can't be kept.
    """

    name: str
    type: Any

    @overload
    def __init__(self: Signal[Any], name: str) -> None: ...

    @overload
    def __init__(self, name: str, type: builtins.type[T]) -> None: ...

    @overload
    def __init__(self: Signal[Any], name: str, type: Any) -> None: ...

    def __init__(self, name: str, type: Any = Any) -> None:  # noqa: A002 - the public name
        object.__setattr__(self, "name", check_name(name, what="the name of a signal"))
        object.__setattr__(self, "type", type)


@dataclass(frozen=True, slots=True)
class Update(Generic[T, U]):
    """A message that a run answers: `APPROVE = Update("approve", Decision, Receipt)`.

    `await handle.update(APPROVE, decision)` sends it and waits for the receipt; in the workflow `request = await
    ctx.wait_for(APPROVE)`, then `await request.reply(receipt)`. Raises ValueError for a name that can't be kept.
    """

    name: str
    type: Any
    reply_type: Any

    def __init__(self, name: str, type: builtins.type[T], reply_type: builtins.type[U]) -> None:  # noqa: A002 - the public name
        object.__setattr__(self, "name", check_name(name, what="the name of an update"))
        object.__setattr__(self, "type", type)
        object.__setattr__(self, "reply_type", reply_type)


class UpdateRequest(Generic[T, U]):
    """An update that a run has received, to be answered."""

    __slots__ = ("_port", "_position", "_update", "value")

    def __init__(self, port: RunPort, update: Update[T, U], position: int, value: T) -> None:
        self._port = port
        self._update = update
        self._position = position
        self.value = value

    async def reply(self, value: U) -> None:
        """Answer whoever sent it; returns once the answer is kept for good. The first answer counts.

        Raises PayloadError for a value that does not fit the update's type.
        """
        name = f"reply to {self._update.name}"[:_LONGEST_NAME]
        text = self._port.encode(self._update.reply_type, value, where=f"the reply to update {self._update.name!r}")
        write = Write(self._port, self._port.identify(name), StepKind.REPLY, text, position=self._position)
        self._port.ask_write(write)
        await write

    def __repr__(self) -> str:
        """Name the update."""
        return f"<UpdateRequest {self._update.name!r}>"


_LONGEST_NAME = 255


def kind_of_message(wanted: Signal[Any] | Update[Any, Any]) -> MessageKind:
    """Which messages a wait for it receives. Raises TypeError for what is neither."""
    if isinstance(wanted, Signal):
        return MessageKind.SIGNAL
    if not isinstance(wanted, Update):
        raise TypeError(f"give a Signal, such as Signal({'opened'!r}, bool), or an Update, not {wanted!r}.")
    return MessageKind.UPDATE
