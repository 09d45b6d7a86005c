"""Futures that run at the same time and end together: what `gather`, `race` and parallel groups have in common."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from kagzi.authoring.port import RunPort
from kagzi.errors import Parked

Branch = asyncio.Future[Any]


class Branches:
    """Branches of one workflow body, each of which ends once, in any order. Every verb costs the same however many
    there are; only `cancel` goes through them all.

    `fail_fast`: the first failure cancels the others, and `on_failure` hears of it. `limit`: how many of those that
    came by `begin` may be under way; the others follow in the order in which they came. A branch is under way until it
    has ended, so one that sleeps or waits for its retry keeps its place.
    """

    def __init__(
        self,
        port: RunPort,
        *,
        fail_fast: bool,
        limit: int | None = None,
        on_failure: Callable[[Branch], None] | None = None,
    ) -> None:
        port.check_running()
        self._port = port
        self._fail_fast = fail_fast
        self._limit = limit
        self.on_failure = on_failure
        self._all: list[Branch] = []
        self._open = 0
        self._under_way: set[Branch] = set()
        self._queue: deque[tuple[Branch, Callable[[], object]]] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self.failures: dict[Branch, BaseException] = {}
        self.first: Branch | None = None
        self.is_failed = False

    def __iter__(self) -> Iterator[Branch]:
        """All branches, in the order in which they were added."""
        return iter(self._all)

    def add(self, branch: Branch) -> None:
        """Take in a branch. A step's call is asked for by this, so it starts here or, by way of `begin`, in turn."""
        self._all.append(branch)
        self._open += 1
        branch.add_done_callback(self._ended)

    def begin(self, branch: Branch, start: Callable[[], object]) -> None:
        """Call `start` once there is a place for `branch`, unless it is cancelled before."""
        if self._limit is None:
            start()
        elif len(self._under_way) < self._limit:
            self._under_way.add(branch)
            start()
        else:
            self._queue.append((branch, start))

    def has_place(self) -> bool:
        """Whether `begin` would start a branch at once."""
        return self._limit is None or len(self._under_way) < self._limit

    def cancel(self) -> None:
        """Cancel what has not ended."""
        for branch in self._all:
            branch.cancel()

    async def one_ended(self) -> None:
        """Wait until a branch has ended, `first`. A cancellation cancels all and is raised once they have ended."""
        await self._wait(lambda: self.first is not None)

    async def all_ended(self) -> None:
        """Wait until every branch has ended. A cancellation cancels them and is raised once they have."""
        await self._wait(lambda: not self._open)

    async def _wait(self, reached: Callable[[], bool]) -> None:
        cancellation: asyncio.CancelledError | None = None
        while self._open if cancellation else not reached():
            waiter = self._port.loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError as error:
                if cancellation is None:
                    cancellation = error
                    self.cancel()
        if cancellation is not None:
            raise cancellation

    def _ended(self, branch: Branch) -> None:
        self._open -= 1
        if self.first is None:
            self.first = branch
        if not branch.cancelled():
            error = branch.exception()
            if isinstance(error, Parked):  # the run leaves memory, and with it whoever waits
                return
            if error is not None:
                self._note(branch, error)
        if branch in self._under_way:
            self._under_way.discard(branch)
            self._begin_next()
        if not self._open or self.first is branch:
            self._wake()

    def _note(self, branch: Branch, error: BaseException) -> None:
        self.failures[branch] = error
        # What is no Exception (SystemExit) ends the run, whoever would rather collect.
        if not self.is_failed and (self._fail_fast or not isinstance(error, Exception)):
            self.is_failed = True
            self.cancel()
            if self.on_failure is not None:
                self.on_failure(branch)

    def _begin_next(self) -> None:
        while self._queue:
            branch, start = self._queue.popleft()
            if not branch.done():
                self._under_way.add(branch)
                start()
                return

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def as_one(errors: Iterable[BaseException], *, of: str) -> BaseException | None:
    """The only one of `errors` as it is, several as an ExceptionGroup; one that came twice counts once."""
    different = list({id(error): error for error in errors}.values())
    if len(different) > 1:
        return BaseExceptionGroup(f"{len(different)} branches of {of} failed", different)
    return different[0] if different else None
