"""A real store whose calls are counted, and can be held up or made to fail."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from kagzi.errors import StoreUnavailable
from kagzi.store.protocol import Store


class WatchedStore:
    """Passes every verb on to `store`.

    `trips` counts the calls of each verb, `answered` those that have returned, and `arguments` keeps their first
    arguments. A verb in `failing` raises StoreUnavailable and reaches nothing; one in `mute` does its work, and its
    answer is lost. One in `held` waits before it does anything until its event is set.
    """

    def __init__(self, store: Store) -> None:
        self.real = store
        self.trips: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.arguments: dict[str, list[Any]] = {}
        self.failing: set[str] = set()
        self.mute: set[str] = set()
        self.held: dict[str, asyncio.Event] = {}
        self.waiting: Counter[str] = Counter()

    def as_store(self) -> Store:
        """This object for those who want a Store, which it is through `__getattr__`."""
        return cast(Store, self)

    @contextmanager
    def unreachable(self, *verbs: str) -> Iterator[None]:
        """Let verbs fail while the block runs; all that talk to the database where none is named."""
        failing = set(verbs or _VERBS) - self.failing
        self.failing |= failing
        try:
            yield
        finally:
            self.failing -= failing

    def hold(self, verb: str) -> asyncio.Event:
        """Have calls of a verb wait from now on until the returned event is set."""
        self.held[verb] = asyncio.Event()
        return self.held[verb]

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.real, name)
        if not inspect.iscoroutinefunction(verb):
            return verb

        async def call(*arguments: Any, **named: Any) -> Any:
            self.trips[name] += 1
            self.arguments.setdefault(name, []).append(arguments[0] if arguments else None)
            if name in self.held:
                self.waiting[name] += 1
                await self.held[name].wait()
            if name in self.failing:
                raise StoreUnavailable("the test has cut the connection.")
            answer = await verb(*arguments, **named)
            if name in self.mute:
                raise StoreUnavailable("the test has lost the answer.")
            self.answered[name] += 1
            return answer

        return call


_VERBS = frozenset(
    name for name, verb in inspect.getmembers(Store, inspect.iscoroutinefunction) if name not in ("open", "close")
)
