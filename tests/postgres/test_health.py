"""What PostgreSQL alone tells of itself: copies, and who may know of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg

from kagzi import HealthChecker, HealthStatus, Kagzi
from kagzi.settings import Settings
from kagzi.store.postgres.store import PostgresStore
from tests.app.applications import until
from tests.cli.commands import kagzi as command
from tests.postgres.builders import a_run
from tests.servers import PostgresServer

NONE_BEHIND = timedelta(0)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(url, Settings())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def run_sql(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_standby_takes_no_writes_and_tells_how_far_it_is_behind(own_postgres_server: PostgresServer) -> None:
    primary = own_postgres_server.start()
    with primary.standby() as standby:
        async with opened(primary.url("postgres")) as there, opened(standby.url("postgres")) as here:
            await there.migrate()

            async def followed() -> bool:
                status = await here.schema_status()
                return status.current == status.latest and await here.replication_lag() == NONE_BEHIND

            await until(followed)
            await run_sql(standby.url("postgres"), "SELECT pg_wal_replay_pause()")
            await there.start([a_run()])

            async def is_behind() -> bool:
                lag = await here.replication_lag()
                return lag is not None and lag > NONE_BEHIND

            await until(is_behind)
            probes = await there.probe(), await here.probe()
        async with await Kagzi.connect(standby.url("postgres")) as kagzi:
            health = await HealthChecker(kagzi).check_database_health()

    assert [probe.writable for probe in probes] == [True, False]
    assert health.status is HealthStatus.UNHEALTHY
    assert health.reasons[0] == "the database takes no writes: it is a standby, or set to be read only"


async def test_a_server_tells_how_far_its_slowest_standby_is_behind_to_whom_it_may(
    own_postgres_server: PostgresServer,
) -> None:
    primary = own_postgres_server.start()
    url = primary.url("postgres")
    plain = f"postgresql://plain:secret@127.0.0.1:{primary.port}/postgres"
    await run_sql(url, "CREATE ROLE plain LOGIN PASSWORD 'secret'")
    with primary.standby():
        async with opened(url) as store, opened(plain) as unprivileged:
            await store.migrate()

            async def is_told() -> bool:
                await store.start([a_run()])  # of a standby that has caught up and hears nothing new, no lag is known
                return await store.replication_lag() is not None

            await until(is_told)
            hidden = await unprivileged.replication_lag()
            await run_sql(url, "REVOKE SELECT ON pg_stat_replication FROM PUBLIC")
            refused = await unprivileged.replication_lag()
            probe = await unprivileged.probe()
        shown = await asyncio.to_thread(command, "health", url=plain)

    assert (shown.returncode, shown.stderr) == (1, "")
    assert "permission denied for schema kagzi" in shown.stdout
    assert hidden is None
    assert refused is None
    assert probe.writable


async def test_a_server_that_is_set_to_be_read_only_is_told(own_postgres_server: PostgresServer) -> None:
    own_postgres_server.start()
    url = own_postgres_server.create_database()
    async with opened(url) as store:
        await store.migrate()
    own_postgres_server.restart(default_transaction_read_only="on")

    async with opened(url) as store:
        probe = await store.probe()

    assert not probe.writable
