"""Applications on real stores for tests, and bounded waiting for what they do."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from kagzi import Kagzi, PayloadCodec, Settings
from kagzi.engine.time import StoreClock
from kagzi.store.urls import open_store
from tests.app.watched_store import WatchedStore

T = TypeVar("T")

PATIENCE_S = 30.0
"""How long a test waits for what must happen: far more than it takes, far less than the poll of these workers."""

NEVER_POLLS = timedelta(minutes=10)


def an_application(url: str, *, codec: PayloadCodec | None = None, **settings: Any) -> Kagzi:
    """An application that is not connected. Its workers hardly ever poll, so what is prompt was told to them."""
    defaults: dict[str, Any] = {
        "poll_interval": NEVER_POLLS,
        "park_after": timedelta(seconds=0.2),
        "graceful_shutdown_timeout": timedelta(seconds=5),
    }
    return Kagzi(settings=Settings(database_url=url, **(defaults | settings)), codec=codec)


def watch(kagzi: Kagzi) -> WatchedStore:
    """Put a store that is watched under an application that is not connected yet."""
    store = WatchedStore(open_store(kagzi.settings.database_url, kagzi.settings))
    kagzi.rebind(kagzi.connection_to(store.as_store(), clock=StoreClock()))
    return store


async def until(ask: Callable[[], object], *, what: str = "") -> None:
    """Ask, awaiting the answer where it is a coroutine, until it is true; fail when the time is up."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = ask()
                if inspect.isawaitable(answer):
                    answer = await answer
                if answer:
                    return
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"it did not happen within {PATIENCE_S:g} s: {what or ask}") from None


async def within(awaitable: Awaitable[T], seconds: float = PATIENCE_S) -> T:
    """Await, but not for ever."""
    async with asyncio.timeout(seconds):
        return await awaitable
