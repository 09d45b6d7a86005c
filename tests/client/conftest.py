"""An application of its own for each test, connected to a database of its own, without a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kagzi import Kagzi
from tests.app.applications import an_application, watch
from tests.app.watched_store import WatchedStore


@pytest.fixture
async def kagzi(any_database_url: str) -> AsyncIterator[Kagzi]:
    """An application that is connected."""
    kagzi = an_application(any_database_url)
    watch(kagzi)
    async with kagzi:
        yield kagzi


@pytest.fixture
def store(kagzi: Kagzi) -> WatchedStore:
    """The store under `kagzi`, watched."""
    store = kagzi._open_link().store
    assert isinstance(store, WatchedStore)
    return store
