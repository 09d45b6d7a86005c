"""Behind a real pgbouncer in transaction mode, where the machine has one. The contract of stores is held there too."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from kagzi import Kagzi, Settings, WorkflowHandle
from kagzi.errors import ConfigError, StoreUnavailable
from kagzi.model.change import Applied
from kagzi.store.postgres.store import PostgresStore
from tests.conftest import PostgresServers, chosen_versions
from tests.faults.fleet import QUICK, Fleet
from tests.faults.verdict import check_chains
from tests.faults.workflows import Chain, Pace, register_chain
from tests.postgres.builders import a_checkpoint, a_request, a_run, a_worker, use_every_verb
from tests.servers import PgBouncer, PostgresServer, StopMode, has_pgbouncer

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(
        not has_pgbouncer(), reason="there is no pgbouncer on PATH (on Debian: apt-get install pgbouncer)"
    ),
]

FAULTS = 5
STARTERS = 4
DEADLINE_S = 60.0


@pytest.fixture
def straight_url(pytestconfig: pytest.Config, postgres_servers: PostgresServers) -> Iterator[str]:
    """An empty database on the newest PostgreSQL, with nothing in between."""
    databases = postgres_servers.databases(chosen_versions(pytestconfig)[-1])
    name = databases.create()
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture
def pooler(straight_url: str) -> Iterator[PgBouncer]:
    """A pooler in front of that database that holds one connection to it."""
    with PgBouncer(straight_url, default_pool_size="1") as pooler:
        yield pooler


async def test_nothing_is_left_on_the_server_for_its_next_user(pooler: PgBouncer, straight_url: str) -> None:
    store = PostgresStore(pooler.url(straight_url), Settings())
    await store.migrate()
    before = await _connection_as_others_find_it(pooler, straight_url)

    await use_every_verb(store)

    after = await _connection_as_others_find_it(pooler, straight_url)

    await store.close()
    assert after == before


async def test_many_stores_share_one_connection_to_the_server(pooler: PgBouncer, straight_url: str) -> None:
    stores = [PostgresStore(pooler.url(straight_url), Settings()) for _ in range(5)]
    await asyncio.gather(*(store.migrate() for store in stores))
    runs = [a_run() for _ in range(100)]

    started = await asyncio.gather(*(stores[place % 5].start([run]) for place, run in enumerate(runs)))
    workers = [await a_worker(store) for store in stores]
    requests = zip(stores, workers, strict=True)
    claimed = await asyncio.gather(*(store.claim(a_request(worker, slots=50)) for store, worker in requests))

    for store in stores:
        await store.close()
    assert all(answer.created for (answer,) in started)
    assert sorted(claim.run_id for each in claimed for claim in each.claims) == sorted(run.run_id for run in runs)


async def test_what_a_caller_gave_up_is_given_up_by_the_server_too(pooler: PgBouncer, straight_url: str) -> None:
    patient = PostgresStore(straight_url, Settings())
    await patient.migrate()
    worker = await a_worker(patient)
    await patient.start([run := a_run(owner=worker)])
    hasty = PostgresStore(pooler.url(straight_url), Settings(store_timeout=timedelta(seconds=0.5)))
    await hasty.open()
    blocker = await asyncpg.connect(straight_url)
    await blocker.execute("BEGIN")
    await blocker.execute("SELECT FROM kagzi.workflow_runs WHERE run_id = $1 FOR UPDATE", run.run_id)

    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await hasty.commit([a_checkpoint(run.run_id)])
    await _until_nobody_waits(blocker)
    await blocker.execute("ROLLBACK")

    assert (await hasty.commit([a_checkpoint(run.run_id)])).outcomes == (Applied.APPLIED,)
    await blocker.close()
    await hasty.close()
    await patient.close()


async def test_who_forgets_the_flag_is_told(pooler: PgBouncer, straight_url: str) -> None:
    store = PostgresStore(pooler.url(straight_url).partition("?")[0], Settings())
    with pytest.raises(ConfigError, match="pooler=transaction"):
        await store.open()
    await store.close()


async def test_a_store_goes_on_after_the_pooler_crashed(pooler: PgBouncer, straight_url: str) -> None:
    store = PostgresStore(pooler.url(straight_url), Settings())
    await store.open()
    await store.migrate()
    worker = await a_worker(store)
    await store.start([run := a_run(owner=worker)])
    await store.commit([change := a_checkpoint(run.run_id)])

    pooler.kill()
    for verb in (store.commit([change]), store.get(run.run_id), store.claim(a_request(worker))):
        with pytest.raises(StoreUnavailable):
            await verb
    pooler.start()

    assert (await store.commit([change])).outcomes == (Applied.ALREADY,)
    assert await store.get(run.run_id) is not None
    await store.close()


class Surroundings:
    """Workers behind a pooler of a server, and what can befall each of the three."""

    def __init__(self, server: PostgresServer, pooler: PgBouncer, fleet: Fleet) -> None:
        self._server = server
        self._pooler = pooler
        self._fleet = fleet

    def kill_a_worker(self) -> None:
        """`kill -9`, and another in its place."""
        self._fleet.replace_one(random.Random())

    def crash_the_pooler(self) -> None:
        """Every connection through it is cut, wherever its transaction stands."""
        self._pooler.kill()
        self._pooler.start()

    def crash_the_server(self) -> None:
        """The pooler stays, and its connections to the server break."""
        self._server.restart(StopMode.IMMEDIATE)


Fault = Callable[[Surroundings], None]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "fault",
    [Surroundings.kill_a_worker, Surroundings.crash_the_pooler, Surroundings.crash_the_server],
    ids=["workers-killed", "pooler-crashes", "server-crashes"],
)
async def test_behind_a_pooler_nothing_acknowledged_is_lost(
    own_postgres_server: PostgresServer, tmp_path: Path, fault: Fault
) -> None:
    """P2, P4, P10, P14."""
    straight = own_postgres_server.start().create_database()
    with PgBouncer(straight) as pooler, Fleet(pooler.url(straight), tmp_path) as fleet:
        surroundings = Surroundings(own_postgres_server, pooler, fleet)
        async with Kagzi(settings=Settings.from_environment(QUICK, database_url=fleet.url)) as kagzi:
            chain = register_chain(kagzi, fleet.ledger)
            fleet.start(2)
            await fleet.ready()
            starters = Starters(chain)
            async with asyncio.TaskGroup() as group:
                starters.begin(group)
                await starters.reach(10)

                for _ in range(FAULTS):
                    await asyncio.to_thread(fault, surroundings)
                    await starters.reach(len(starters.acknowledged) + 10)
                starters.stop()
            results = {each.run_id: await each.result(timeout=DEADLINE_S) for each in starters.acknowledged}

        fleet.url = straight  # the pooler refuses the options with which the verdict looks into the database
        check_chains(fleet, results)
        assert fleet.errors() == []
        assert fleet.ended_by_themselves == []


class Starters:
    """Tasks that start runs without a pause; `acknowledged` are those that were promised to be durable."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._numbers = count()
        self._stopping = False
        self._progress = asyncio.Condition()
        self.acknowledged: list[WorkflowHandle[list[str]]] = []

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Start runs until `stop`."""
        for _ in range(STARTERS):
            group.create_task(self._start_on())

    async def reach(self, number: int) -> None:
        """Return when so many runs are acknowledged."""
        async with asyncio.timeout(DEADLINE_S), self._progress:
            await self._progress.wait_for(lambda: len(self.acknowledged) >= number)

    def stop(self) -> None:
        """Start no more."""
        self._stopping = True

    async def _start_on(self) -> None:
        while not self._stopping:
            pace = Pace(work_s=random.uniform(0, 0.02), nap_s=random.choice([0.05, 0.3, 1.0]))
            handle = await self._chain.options(id=f"order-{next(self._numbers)}").start(pace)
            async with self._progress:
                self.acknowledged.append(handle)
                self._progress.notify_all()
            await asyncio.sleep(random.uniform(0, 0.1))


async def _connection_as_others_find_it(pooler: PgBouncer, url: str) -> list[tuple[object, ...]]:
    """What another user of the pooler's one connection has: its process, its settings, its statements and locks."""
    connection = await asyncpg.connect(pooler.url(url).partition("?")[0], statement_cache_size=0)
    rows: list[asyncpg.Record] = []
    for sql in (
        "SELECT pg_backend_pid()",
        "SELECT name, setting FROM pg_settings WHERE source = 'session' ORDER BY name",
        "SELECT name FROM pg_prepared_statements WHERE name <> '' AND name NOT LIKE 'PGBOUNCER%'",
        "SELECT pg_listening_channels()",
        "SELECT objid FROM pg_locks WHERE locktype = 'advisory'",
    ):
        rows += await connection.fetch(sql)
    await connection.close()
    return [tuple(row) for row in rows]


async def _until_nobody_waits(connection: asyncpg.Connection) -> None:
    async with asyncio.timeout(10):
        # ASYNC110: what is waited for happens in another process.
        while await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
