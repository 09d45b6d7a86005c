"""Concurrent migrations behave like one, in any schema, with or without a pooler."""

from __future__ import annotations

import asyncio
import re
import sys

import asyncpg
import pytest

from kagzi.errors import ConfigError, MigrationError
from kagzi.settings import Settings
from kagzi.store.postgres import migrate
from kagzi.store.postgres.store import PostgresStore
from kagzi.store.sql.migrations import Migration, load_migrations

PROCESSES = 10

MIGRATE = """
import asyncio, sys
from kagzi.settings import Settings
from kagzi.store.postgres.store import PostgresStore

async def main():
    store = PostgresStore(sys.argv[1], Settings())
    await store.open()
    sys.stdin.readline()
    print(await store.migrate())
    await store.close()

asyncio.run(main())
"""


async def test_ten_processes_that_migrate_at_once_make_one_schema(postgres_url: str) -> None:
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", MIGRATE, postgres_url, stdin=pipe, stdout=pipe)
        for _ in range(PROCESSES)
    ]
    answers = await asyncio.gather(*(process.communicate(b"\n") for process in processes))

    latest = (await _status(postgres_url)).latest
    assert sum(int(out) for out, _ in answers) == latest
    assert [process.returncode for process in processes] == [0] * PROCESSES


async def test_the_status_tells_what_was_applied(postgres_url: str) -> None:
    before = await _status(postgres_url)
    store = PostgresStore(postgres_url, Settings())
    assert await store.migrate() == before.latest
    assert await store.migrate() == 0
    await store.close()
    after = await _status(postgres_url)

    assert (before.current, after.current) == (0, after.latest)


async def test_a_schema_newer_than_this_release_is_accepted(store: PostgresStore, postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("INSERT INTO kagzi.migrations (number, name) VALUES (999, '0999_of_a_later_release.sql')")
    await connection.close()

    assert await store.migrate() == 0
    status = await store.schema_status()
    assert status.current == 999


async def test_a_failing_migration_is_named_and_leaves_nothing(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = load_migrations(migrate._PACKAGE)
    bad = Migration(
        number=len(there) + 1,
        name="0999_bad.sql",
        sql="CREATE TABLE {schema}.half (n integer); SELECT 1/0",
    )
    monkeypatch.setattr(migrate, "load_migrations", lambda _: (*there, bad))

    with pytest.raises(MigrationError, match=r"0999_bad\.sql.*division by zero"):
        await store.migrate()

    assert (await store.schema_status()).current == len(there)


async def test_schemas_with_strange_names_live_beside_each_other(postgres_url: str) -> None:
    for schema in ("with \"quotes\" and 'more'", "größer", "{schema}", "a; DROP SCHEMA public"):
        store = PostgresStore(postgres_url, Settings(schema=schema))
        assert await store.migrate() > 0
        assert (await store.version_policy("n", "w")).default is None
        await store.close()


@pytest.mark.parametrize("schema", ["pg_mine", "x" * 64, "nul\0"])
def test_a_schema_name_that_postgres_would_change_is_refused(schema: str) -> None:
    with pytest.raises(ConfigError, match="schema is"):
        PostgresStore("postgresql://nowhere/db", Settings(schema=schema))


async def test_a_role_that_may_not_create_schemas_migrates_one_made_for_it(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    database = await connection.fetchval("SELECT current_database()")
    await connection.execute("CREATE SCHEMA kagzi")
    await connection.execute(f"CREATE ROLE \"{database}_app\" LOGIN PASSWORD 'app'")
    await connection.execute(f'GRANT ALL ON SCHEMA kagzi TO "{database}_app"')
    try:
        store = PostgresStore(re.sub("//.*@", f"//{database}_app:app@", postgres_url), Settings())
        assert await store.migrate() > 0
        await store.close()
    finally:
        await connection.execute(f'DROP OWNED BY "{database}_app"')
        await connection.execute(f'DROP ROLE "{database}_app"')
        await connection.close()


async def _status(url: str):  # type: ignore[no-untyped-def]  # a protocol of two numbers
    store = PostgresStore(url, Settings())
    status = await store.schema_status()
    await store.close()
    return status
