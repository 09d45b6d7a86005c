"""`Signal`: a name and a type that a sender and a workflow share."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from kagzi.authoring.names import check_name

T = TypeVar("T")


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
