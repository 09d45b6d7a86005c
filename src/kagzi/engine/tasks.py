"""Futures and tasks of a workflow's loop, and the scopes that tasks name their operations in.

asyncio keeps tasks and futures in sets, and sets of ordinary ones are walked in the order of their memory addresses,
which no replay repeats. These hash by creation order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")

ROOT_SCOPE = "0"
"""The scope of the body itself; a task that it makes has `0.1`, the next `0.2`, a task of that `0.2.1`."""


class Scope:
    """Where operations get their identity: a path of creation numbers, and how often each name was used in it."""

    __slots__ = ("children", "names", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.children = 0
        self.names: dict[str, int] = {}

    def child(self) -> Scope:
        """Open the scope of the next task made here."""
        self.children += 1
        return Scope(f"{self.path}.{self.children}")

    def identify(self, name: str) -> str:
        """Give the next operation of this name its identity: `scope/name#occurrence`."""
        occurrence = self.names.get(name, 0) + 1
        self.names[name] = occurrence
        return f"{self.path}/{name}#{occurrence}"


class WorkflowFuture(asyncio.Future[T]):
    """A future of a workflow's loop; hashes by creation order."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop, order: int) -> None:
        self._order = order
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        """By creation order within the run."""
        return self._order


class WorkflowTask(asyncio.Task[T]):
    """A task of a workflow body, with the scope that its operations are named in. Hashes by creation order."""

    def __init__(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        loop: asyncio.AbstractEventLoop,
        order: int,
        scope: Scope,
        name: str | None,
        context: Context | None,
    ) -> None:
        # Before the parent's: it puts the task into a set.
        self._order = order
        self.scope = scope
        super().__init__(coro, loop=loop, name=name or scope.path, context=context)

    def __hash__(self) -> int:
        """By creation order within the run."""
        return self._order
