"""Futures and tasks of a workflow's loop.

asyncio keeps tasks and futures in sets, and sets of ordinary ones are walked in the order of their memory addresses,
which no replay repeats. These hash by creation order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar

from kagzi.authoring.scopes import Scope

T = TypeVar("T")


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
