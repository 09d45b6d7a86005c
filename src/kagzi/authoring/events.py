"""`Event`: a name and a type that those who emit and those who wait share; and a wait for one."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar, overload

from kagzi.authoring.calls import Receive
from kagzi.authoring.names import NAME_LIMIT, check_name
from kagzi.authoring.port import RunPort
from kagzi.model.event import NO_KEY, EventWait
from kagzi.model.run import MessageKind

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Event(Generic[T]):
    """Something that is told to every run that waits for it: `PAID = Event("invoice.paid", Invoice)`.

    `await kagzi.emit(PAID, invoice)` tells it, `await ctx.wait_for_event(PAID)` waits for it, `@kagzi.on_event(PAID)`
    starts a workflow for each. A name alone stands for one that carries JSON values. Raises ValueError for a name that
    can't be kept.
    """

    name: str
    type: Any

    @overload
    def __init__(self: Event[Any], name: str) -> None: ...

    @overload
    def __init__(self, name: str, type: builtins.type[T]) -> None: ...

    @overload
    def __init__(self: Event[Any], name: str, type: Any) -> None: ...

    def __init__(self, name: str, type: Any = Any) -> None:  # noqa: A002 - the public name
        object.__setattr__(self, "name", check_name(name, what="the name of an event"))
        object.__setattr__(self, "type", type)


class EventReceive(Receive[R]):
    """A wait for an event, which comes in a message that bears the wait's identity for its name."""

    def __init__(
        self, port: RunPort, step_id: str, event: Event[Any], *, key: str, lookback: timedelta = timedelta(0)
    ) -> None:
        super().__init__(port, step_id, MessageKind.EVENT, step_id, event.type)
        self.event = event
        self.key = key
        self.lookback = lookback

    @property
    def wait(self) -> EventWait:
        """The wait, as stores know it."""
        return EventWait(
            step_id=self.step_id, name=self.event.name, key=self.key, lookback_s=self.lookback.total_seconds()
        )

    @property
    def shown(self) -> str:
        """The event and its key."""
        return shown(self.event, self.key)


def as_event(event: Event[Any] | str) -> Event[Any]:
    """An event, or the one of that name. Raises TypeError for anything else, ValueError for a name that can't be."""
    if isinstance(event, str):
        return Event(event)
    if not isinstance(event, Event):
        raise TypeError(f"give an Event, such as Event({'invoice.paid'!r}, dict), or its name, not {event!r}.")
    return event


def as_key(key: str | None, event: Event[Any]) -> str:
    """A key as stores know it. Raises TypeError or ValueError for one that can't be kept."""
    if key is None:
        return NO_KEY
    return check_name(key, what=f"the key of event {event.name!r}", limit=NAME_LIMIT)


def shown(event: Event[Any], key: str) -> str:
    """An event for people."""
    return f"event {event.name!r}" + (f" with key {key!r}" if key else "")
