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

    _is_told = False

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

    def cancel(self, msg: Any | None = None) -> bool:
        """Have CancelledError raised where the task waits; False where that can't be.

        Tasks that wait for each other in a circle would cancel each other until the stack is full, which is not at the
        same depth in every replay: one that is being cancelled is not cancelled by those that it waits for.
        """
        if self._is_told:
            return False
        self._is_told = True
        try:
            return super().cancel(msg)
        finally:
            self._is_told = False
