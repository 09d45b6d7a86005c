"""What is stored about versions: read seldom, by one caller at a time, and never why a start fails in an outage."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from kagzi import Settings, StoreUnavailable
from kagzi.app.version_policies import VersionPolicies
from kagzi.store.urls import open_store
from tests.app.applications import until
from tests.app.watched_store import WatchedStore


@pytest.fixture
async def store(sqlite_url: str) -> WatchedStore:
    real = open_store(sqlite_url, Settings(database_url=sqlite_url))
    await real.open()
    await real.migrate()
    await real.set_default_version("default", "order", 2)
    return WatchedStore(real)


async def test_many_starts_at_once_ask_once(store: WatchedStore) -> None:
    versions = VersionPolicies(store.as_store(), timeout=timedelta(seconds=5))

    found = await asyncio.gather(*(versions.get("default", "order") for _ in range(64)))

    assert [policy.default for policy in found] == [2] * 64
    assert store.trips["version_policy"] == 1
    await store.real.close()


async def test_the_first_start_of_all_waits_an_outage_out(store: WatchedStore) -> None:
    versions = VersionPolicies(store.as_store(), timeout=timedelta(seconds=30))
    with store.unreachable("version_policy"):
        first = asyncio.ensure_future(versions.get("default", "order"))
        await until(lambda: store.trips["version_policy"] >= 2)
        assert not first.done()

    assert (await first).default == 2
    await store.real.close()


async def test_an_outage_that_lasts_is_told(store: WatchedStore) -> None:
    versions = VersionPolicies(store.as_store(), timeout=timedelta(seconds=0.05))

    with store.unreachable("version_policy"), pytest.raises(StoreUnavailable):
        await versions.get("default", "order")
    await store.real.close()
