"""Stores on an empty database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kagzi.settings import Settings
from kagzi.store.postgres.store import PostgresStore


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    """A store on an empty database, migrated."""
    store = PostgresStore(postgres_url, Settings())
    await store.open()
    await store.migrate()
    yield store
    await store.close()


@pytest.fixture
async def pooled_store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    """A store that believes that a transaction pooler is in between."""
    store = PostgresStore(f"{postgres_url}?pooler=transaction", Settings())
    await store.open()
    await store.migrate()
    yield store
    await store.close()
