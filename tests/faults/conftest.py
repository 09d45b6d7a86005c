"""Fixtures of the fault tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PostgresServers, chosen_versions
from tests.faults.fleet import Fleet
from tests.faults.ledger import Ledger


@pytest.fixture
def fleet(any_database_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """Worker processes, none yet, on a SQLite file and on PostgreSQL."""
    with Fleet(any_database_url, tmp_path) as fleet:
        yield fleet


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger for tests whose workers run in their own process."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    yield ledger
    ledger.close()


@pytest.fixture
def newest_postgres_url(pytestconfig: pytest.Config, postgres_servers: PostgresServers) -> Iterator[str]:
    """An empty database on the newest PostgreSQL; for tests marked `postgres`."""
    databases = postgres_servers.databases(chosen_versions(pytestconfig)[-1])
    name = databases.create()
    yield databases.url(name)
    databases.drop(name)
