"""An application of its own for each test, on a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kagzi import Kagzi
from tests.app.applications import an_application, watch
from tests.app.watched_store import WatchedStore
from tests.worker.gates import Gates


@pytest.fixture
async def kagzi(any_database_url: str) -> AsyncIterator[Kagzi]:
    """An application that is not connected; whatever a test connects is disconnected in the end."""
    kagzi = an_application(any_database_url)
    yield kagzi
    await kagzi.close()


@pytest.fixture
def store(kagzi: Kagzi) -> WatchedStore:
    """The store under `kagzi`, watched."""
    return watch(kagzi)


@pytest.fixture
def gates() -> Gates:
    """Steps that wait until the test lets them pass."""
    return Gates()
