"""A run's writes, when one of them goes to the store by itself, past the journal."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from kagzi.model.change import Change

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """Who has the turn writes to the run alone: what was submitted before is durable, what comes later is held back.

    So everything becomes durable in the order of `seq`. Who was given a place by `take`, or was interrupted after it
    had called `reserve`, ends the turn by `give`.
    """

    __slots__ = ("_held", "_held_back", "_is_quiet", "_queue", "_quiet", "_submit")

    def __init__(self, *, is_quiet: Callable[[], bool], submit: Callable[[Change, Item], None]) -> None:
        self._is_quiet = is_quiet
        self._submit = submit
        self._held = False
        self._held_back: list[tuple[Change, Item]] = []
        self._queue: deque[tuple[asyncio.Future[int], Callable[[], int]]] = deque()
        self._quiet: asyncio.Future[None] | None = None

    async def take(self, reserve: Callable[[], int]) -> int:
        """Wait for the turn. `reserve` is called once nobody else has it: what is submitted then comes later."""
        if self._held:
            turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self._queue.append((turn, reserve))
            place = await turn
        else:
            self._held = True
            place = reserve()
        if self._is_quiet():
            return place
        self._quiet = asyncio.get_running_loop().create_future()
        try:
            await self._quiet
        finally:
            self._quiet = None
        return place

    def give(self) -> None:
        """End a turn: what was held back goes to the journal, and the next one begins."""
        self.let_go()
        while self._queue:
            turn, reserve = self._queue.popleft()
            if not turn.done():
                turn.set_result(reserve())  # at once, before anything else of the run gets a place
                return
        self._held = False

    def let_go(self) -> None:
        """Have what was held back go to the journal."""
        held_back, self._held_back = self._held_back, []
        for each in held_back:
            self._submit(*each)

    def hold_back(self, change: Change, item: Item) -> bool:
        """Keep a submission until the turn is over; False where nobody has it."""
        if self._held:
            self._held_back.append((change, item))
        return self._held

    def quieted(self) -> None:
        """Nothing of the run is on its way any more."""
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)
