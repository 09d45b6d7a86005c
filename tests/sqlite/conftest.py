"""Stores on a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kagzi.settings import Settings
from kagzi.store.sqlite.store import SqliteStore


class MovedClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, span: timedelta) -> None:
        self.now += span


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


OpenStore = Callable[..., Any]


@pytest.fixture
async def open_store(sqlite_url: str) -> AsyncIterator[OpenStore]:
    """Opens one more store on the test's file, or on another URL."""
    async with AsyncExitStack() as stack:

        async def open_one(url: str = sqlite_url, *, settings: Settings | None = None, **options: Any) -> SqliteStore:
            store = SqliteStore(url, settings or Settings(), **options)
            await store.open()
            stack.push_async_callback(store.close)
            await store.migrate()
            return store

        yield open_one


@pytest.fixture
async def store(open_store: OpenStore) -> SqliteStore:
    store: SqliteStore = await open_store()
    return store
