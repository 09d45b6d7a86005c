"""The file: its settings, and what is said where it can't be used."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from kagzi.errors import ConfigError, KagziError, MigrationError, StoreUnavailable
from kagzi.settings import Settings
from kagzi.store.sqlite.address import MEMORY, parse_path
from kagzi.store.sqlite.connection import Patience, connect
from kagzi.store.sqlite.session import Session, each
from kagzi.store.sqlite.store import SqliteStore
from tests.contract.builders import NAMESPACE, a_request, a_run, a_worker, recover, start
from tests.sqlite.conftest import OpenStore


def _value(session: Session, sql: str) -> Any:
    return session.value(sql)


async def pragma(store: SqliteStore, sql: str) -> Any:
    return await store._write(each(_value), sql)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite://", MEMORY),
        ("sqlite:///", MEMORY),
        ("sqlite:///:memory:", MEMORY),
        ("sqlite:///kagzi.db", "kagzi.db"),
        ("sqlite:///a/b c.db", "a/b c.db"),
        ("sqlite:///a%20b.db", "a b.db"),
        ("sqlite:////var/kagzi.db", "/var/kagzi.db"),
        ("/var/kagzi.db", "/var/kagzi.db"),
    ],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    assert parse_path(url) == path


@pytest.mark.parametrize("url", ["sqlite://kagzi.db", "sqlite://host/kagzi.db", "sqlite:///kagzi.db?mode=ro"])
def test_a_url_that_can_not_be_meant_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        SqliteStore(url, Settings())


async def test_commits_are_on_the_disk_when_they_are_answered(store: SqliteStore) -> None:
    """P2: a write-ahead log, and every commit waits for it."""
    assert await pragma(store, "PRAGMA journal_mode") == "wal"
    assert await pragma(store, "PRAGMA synchronous") == 2  # FULL


async def test_a_file_beside_tables_of_an_application_is_welcome(open_store: OpenStore, tmp_path: Path) -> None:
    """P3 needs it: the application's tables and ours in one file, whatever user_version it keeps."""
    path = str(tmp_path / "kagzi.db")
    connection = apsw.Connection(path)
    connection.execute("PRAGMA user_version = 77; CREATE TABLE customers (id)")
    connection.close()

    store = await open_store()

    await start(store)
    assert await pragma(store, "PRAGMA user_version") == 77


# -- what can't be used ------------------------------------------------------------------------------------------


async def refused(path: str | Path) -> KagziError:
    store = SqliteStore(str(path), Settings(store_timeout=timedelta(seconds=1)))
    try:
        await store.open()
        await store.migrate()
    except KagziError as error:
        return error
    finally:
        await store.close()
    pytest.fail("it was not refused")


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    error = await refused(tmp_path / "nowhere" / "kagzi.db")

    assert isinstance(error, ConfigError)
    assert f"{tmp_path}/nowhere" in str(error)


async def test_a_folder_is_no_database(tmp_path: Path) -> None:
    assert isinstance(await refused(tmp_path), ConfigError)


async def test_a_file_of_something_else_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader, this is a letter and no database. " * 100)

    error = await refused(path)

    assert isinstance(error, ConfigError)
    assert "not a SQLite database" in str(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_file_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kagzi.db"
    connect(str(path), Patience(1)).close()
    path.chmod(0o400)

    error = await refused(path)

    assert isinstance(error, StoreUnavailable | ConfigError)


async def test_a_verb_on_a_table_of_another_shape_asks_for_a_migration(tmp_path: Path) -> None:
    path = tmp_path / "kagzi.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE workflow_runs (id)")
    connection.close()
    store = SqliteStore(str(path), Settings())
    await store.open()

    with pytest.raises(MigrationError, match="kagzi db migrate"):
        await store.start([a_run()])

    await store.close()


async def test_a_failed_migration_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kagzi.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE workflow_versions (id)")

    error = await refused(path)

    assert isinstance(error, MigrationError)
    assert "0001_runs.sql" in str(error)
    assert [name for (name,) in connection.execute("SELECT name FROM sqlite_master")] == ["workflow_versions"]
    connection.close()


async def test_a_schema_of_a_later_release_is_accepted(open_store: OpenStore) -> None:
    """P28: workers of the previous release keep working on the new schema."""
    later = await open_store()
    await pragma(later, "INSERT INTO kagzi_migrations VALUES (9999, 'later', 0)")

    store = await open_store()

    status = await store.schema_status()
    assert status.current == 9999 > status.latest
    assert await store.migrate() == 0
    assert len(await start(store)) == 1


async def test_a_full_disk_is_told_and_healed(store: SqliteStore) -> None:
    """P14."""
    pages = await pragma(store, "PRAGMA page_count")
    await pragma(store, f"PRAGMA max_page_count = {pages}")
    big = a_run(input="x" * 1_000_000)

    with pytest.raises(StoreUnavailable, match="full"):
        await store.start([big])
    await pragma(store, "PRAGMA max_page_count = 1000000")

    (started,) = await store.start([big])
    assert started.created


async def test_a_file_that_another_process_keeps_locked_is_unavailable_and_then_heals(
    open_store: OpenStore, tmp_path: Path
) -> None:
    """P14, P26: within the deadline, and in words of ours."""
    store = await open_store(settings=Settings(store_timeout=timedelta(seconds=0.2)))
    other = apsw.Connection(str(tmp_path / "kagzi.db"))
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="another process kept") as caught:
        await start(store)
    assert "locked" not in str(caught.value)
    other.execute("ROLLBACK")

    assert len(await start(store)) == 1
    other.close()


async def test_reads_and_empty_claims_need_no_write_lock(open_store: OpenStore, tmp_path: Path) -> None:
    """P27: eight idle workers on one file hold nobody up."""
    store = await open_store(settings=Settings(store_timeout=timedelta(seconds=0.2)))
    worker = await a_worker(store)
    other = apsw.Connection(str(tmp_path / "kagzi.db"))
    other.execute("BEGIN IMMEDIATE")

    claimed = await store.claim(a_request(worker))

    assert claimed.claims == ()
    assert (await recover(store)).released == ()
    assert await store.count_open(NAMESPACE) == {}
    assert await store.migrate() == 0
    other.execute("ROLLBACK")
    other.close()
