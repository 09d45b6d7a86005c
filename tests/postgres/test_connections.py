"""Lost connections, stopped servers, slow answers, poolers, durability."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from kagzi.errors import ConfigError, MigrationError, StoreUnavailable
from kagzi.model.change import Applied, Change, Transition
from kagzi.model.run import RunId, RunStatus
from kagzi.settings import Settings
from kagzi.store.postgres.address import parse_address
from kagzi.store.postgres.failures import explain
from kagzi.store.postgres.store import PostgresStore
from tests.postgres.builders import a_checkpoint, a_request, a_run, a_worker, use_every_verb
from tests.servers import PostgresServer, StopMode


async def test_a_store_goes_on_after_the_server_crashed(own_postgres_server: PostgresServer) -> None:
    own_postgres_server.start()
    store = PostgresStore(own_postgres_server.create_database(), Settings(store_timeout=timedelta(seconds=10)))
    await store.open()
    await store.migrate()
    worker = await a_worker(store)
    await store.start([run := a_run(owner=worker)])
    change = a_checkpoint(run.run_id)
    await store.commit([change])

    own_postgres_server.stop(StopMode.IMMEDIATE)
    for verb in (store.commit([change]), store.get(run.run_id), store.claim(a_request(worker))):
        with pytest.raises(StoreUnavailable):
            await verb
    own_postgres_server.start()

    assert (await store.commit([change])).outcomes == (Applied.ALREADY,)
    assert await store.get(run.run_id) is not None
    await store.close()


async def test_calls_under_way_end_when_the_server_dies(own_postgres_server: PostgresServer) -> None:
    own_postgres_server.start()
    url = own_postgres_server.create_database()
    store = PostgresStore(url, Settings())
    await store.migrate()
    worker = await a_worker(store)
    await store.start([run := a_run(owner=worker)])
    blocker = await _lock(url, run.run_id)

    commit = asyncio.create_task(store.commit([a_checkpoint(run.run_id)]))
    await _until_somebody_waits(url)
    own_postgres_server.stop(StopMode.IMMEDIATE)

    with pytest.raises(StoreUnavailable):
        await commit
    blocker.terminate()
    await store.close()


async def test_an_answer_that_comes_too_late_is_given_up_and_the_next_call_works(postgres_url: str) -> None:
    patient = PostgresStore(postgres_url, Settings())
    await patient.migrate()
    worker = await a_worker(patient)
    await patient.start([run := a_run(owner=worker)])
    hasty = PostgresStore(postgres_url, Settings(store_timeout=timedelta(seconds=0.3), pool_size=1))
    await hasty.open()
    blocker = await _lock(postgres_url, run.run_id)

    with pytest.raises(StoreUnavailable, match=r"did not answer in time|can't be used now"):
        await hasty.commit([a_checkpoint(run.run_id)])
    await blocker.execute("ROLLBACK")

    assert (await hasty.commit([a_checkpoint(run.run_id)])).outcomes == (Applied.APPLIED,)
    await blocker.close()
    await hasty.close()
    await patient.close()


async def test_a_cancelled_call_leaves_no_broken_connection_behind(postgres_url: str) -> None:
    store = PostgresStore(postgres_url, Settings(pool_size=1))
    await store.migrate()
    worker = await a_worker(store)
    await store.start([run := a_run(owner=worker)])
    blocker = await _lock(postgres_url, run.run_id)

    commit = asyncio.create_task(store.commit([a_checkpoint(run.run_id)]))
    await _until_somebody_waits(postgres_url)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    await blocker.execute("ROLLBACK")

    assert await store.get(run.run_id) is not None
    await blocker.close()
    await store.close()


async def test_calls_share_few_connections_and_all_get_one(postgres_url: str) -> None:
    store = PostgresStore(postgres_url, Settings(pool_size=3))
    await store.migrate()
    await asyncio.gather(*(store.start([a_run()]) for _ in range(50)))

    connection = await asyncpg.connect(postgres_url)
    ours = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kagzi' AND datname = current_database()"
    )
    await connection.close()
    await store.close()
    assert ours <= 3


async def test_no_error_shows_the_password() -> None:
    store = PostgresStore("postgresql://user:s3cret@127.0.0.1:1/db?password=s3cret", Settings())
    with pytest.raises(StoreUnavailable) as caught:
        await store.open()
    assert "s3cret" not in str(caught.value)
    assert "127.0.0.1:1/db" in str(caught.value)


async def test_an_unmigrated_database_is_told_as_such(postgres_url: str) -> None:
    store = PostgresStore(postgres_url, Settings())
    with pytest.raises(MigrationError, match="kagzi db migrate"):
        await store.get(a_run().run_id)
    await store.close()


async def test_a_database_that_is_not_in_utf8_is_refused(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    name = f"{await connection.fetchval('SELECT current_database()')}_latin"
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    store = PostgresStore(postgres_url.rpartition("/")[0] + f"/{name}", Settings())
    try:
        with pytest.raises(ConfigError, match="LATIN1"):
            await store.open()
    finally:
        await store.close()
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


@pytest.mark.parametrize(
    ("configured", "used"), [("off", "on"), ("local", "on"), ("on", "on"), ("remote_apply", "remote_apply")]
)
async def test_a_commit_is_on_disk_however_the_server_is_configured(
    postgres_url: str, configured: str, used: str
) -> None:
    connection = await asyncpg.connect(postgres_url)
    database = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {database} SET synchronous_commit = '{configured}'")
    store = PostgresStore(postgres_url, Settings())
    await store.open()

    rows = await store._writing.fetch("SHOW synchronous_commit")
    pooled = PostgresStore(f"{postgres_url}?pooler=transaction", Settings())
    pooled_rows = await pooled._writing.fetch("SELECT current_setting('synchronous_commit')")

    assert (rows[0][0], pooled_rows[0][0]) == (used, used)
    await pooled.close()
    await store.close()
    await connection.close()


async def test_marking_a_run_as_awaited_does_not_weaken_the_connection(store: PostgresStore) -> None:
    await store.start([run := a_run()])
    await store.outcomes([run.run_id])
    for connections in (store._looking, store._writing):
        assert (await connections.fetch("SHOW synchronous_commit"))[0][0] == "on"


async def test_behind_a_pooler_a_run_goes_its_whole_way(pooled_store: PostgresStore) -> None:
    """Without a pgbouncer here: the flag on a straight connection, which shows the statements, not the pooler."""
    heard: list[object] = []
    deaf = pooled_store.listen(heard.append)
    worker = await a_worker(pooled_store)
    await pooled_store.start([run := a_run()])
    (claim,) = (await pooled_store.claim(a_request(worker))).claims
    await pooled_store.commit([a_checkpoint(run.run_id, fence=claim.fence)])
    end = Change(run_id=run.run_id, fence=claim.fence, transition=Transition(status=RunStatus.COMPLETED, output="2"))
    await pooled_store.commit([end])

    (outcome,) = await pooled_store.outcomes([run.run_id])
    assert (outcome.status, outcome.output) == (RunStatus.COMPLETED, "2")
    assert heard == []
    deaf()


async def test_behind_a_pooler_nothing_outlives_a_transaction(postgres_url: str) -> None:
    store = PostgresStore(f"{postgres_url}?pooler=transaction", Settings(pool_size=1))
    await store.migrate()

    await use_every_verb(store)

    (connection,) = store._writing._idle
    assert await connection.fetch("SELECT name FROM pg_prepared_statements WHERE name <> ''") == []
    assert await connection.fetch("SELECT name FROM pg_settings WHERE source = 'session'") == []
    assert await connection.fetch("SELECT objid FROM pg_locks WHERE locktype = 'advisory'") == []
    await store.close()


async def test_behind_a_pooler_a_call_is_given_up_by_the_server_too(postgres_url: str) -> None:
    hasty = PostgresStore(f"{postgres_url}?pooler=transaction", Settings(store_timeout=timedelta(seconds=0.5)))
    for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
        assert (await hasty._writing.fetch(f"SHOW {limit}"))[0][0] == "500ms"
    await hasty.close()


@pytest.mark.parametrize(
    "error", [asyncpg.InvalidSQLStatementNameError("gone"), asyncpg.DuplicatePreparedStatementError("twice")]
)
def test_lost_statements_point_to_the_flag_for_poolers(error: Exception) -> None:
    told = explain(error, parse_address("postgresql://h/db"))
    assert isinstance(told, StoreUnavailable)
    assert "`pooler=transaction`" in str(told)


def test_an_unknown_pooler_is_refused() -> None:
    with pytest.raises(ConfigError, match="pooler=session"):
        parse_address("postgresql://h/db?pooler=session")


def test_the_flag_is_ours_and_everything_else_the_drivers() -> None:
    address = parse_address("postgresql://u:p@h1:1,h2:2/db?target_session_attrs=read-write&pooler=transaction")
    assert address.url == "postgresql://u:p@h1:1,h2:2/db?target_session_attrs=read-write"
    assert (address.shown, address.pooled) == ("postgresql://h1:1,h2:2/db", True)


async def _lock(url: str, run_id: RunId) -> asyncpg.Connection:
    connection = await asyncpg.connect(url)
    await connection.execute("BEGIN")
    await connection.execute("SELECT FROM kagzi.workflow_runs WHERE run_id = $1 FOR UPDATE", run_id)
    return connection


async def _until_somebody_waits(url: str) -> None:
    connection = await asyncpg.connect(url)
    async with asyncio.timeout(10):
        # ASYNC110: what is waited for happens in another process.
        while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await connection.close()
