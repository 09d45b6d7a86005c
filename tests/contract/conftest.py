"""A store of each kind, on an empty database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kagzi.model.run import WorkerKey
from kagzi.settings import Settings
from kagzi.store.protocol import Store
from kagzi.store.urls import open_store
from tests.contract.builders import a_registration


@pytest.fixture
async def empty_store(every_database_url: str) -> AsyncIterator[Store]:
    """A store that is open and not migrated."""
    store = open_store(every_database_url, Settings())
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def store(empty_store: Store) -> Store:
    """A store that is open and migrated."""
    await empty_store.migrate()
    return empty_store


@pytest.fixture
async def worker(store: Store) -> WorkerKey:
    """A living registration for the builders' queue and workflow."""
    registration = a_registration()
    await store.register(registration)
    return registration.key
