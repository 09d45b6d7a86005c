"""Opening, closing and bringing the schema up to date."""

from __future__ import annotations

import asyncio
import sys

import pytest

from kagzi.errors import KagziError, MigrationError, StoreUnavailable
from kagzi.model.run import RunFilter, WorkerKey
from kagzi.settings import Settings
from kagzi.store.protocol import Store
from kagzi.store.urls import open_store
from tests.contract.builders import NAMESPACE, a_request, a_run, start

MIGRATE = """
import asyncio, sys
from kagzi.settings import Settings
from kagzi.store.urls import open_store

async def main():
    store = open_store(sys.argv[1], Settings())
    print("ready", flush=True)
    sys.stdin.readline()
    await store.open()
    applied = await store.migrate()
    await store.close()
    print(applied, flush=True)

asyncio.run(main())
"""


async def test_an_empty_database_is_migrated_once(empty_store: Store) -> None:
    before = await empty_store.schema_status()

    first, second = await empty_store.migrate(), await empty_store.migrate()

    after = await empty_store.schema_status()
    assert (before.current, after.current, after.latest) == (0, first, first)
    assert first > 0
    assert second == 0


async def test_ten_calls_at_once_are_one_migration(empty_store: Store) -> None:
    """P28."""
    applied = await asyncio.gather(*(empty_store.migrate() for _ in range(10)))

    status = await empty_store.schema_status()
    assert sum(applied) == status.current == status.latest


async def test_ten_processes_at_once_are_one_migration(database_url: str) -> None:
    """P28."""
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MIGRATE, database_url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(10)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"

    results = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))

    assert [error for _, error in results if error] == []
    store = open_store(database_url, Settings())
    await store.open()
    status = await store.schema_status()
    await store.close()
    assert sum(int(output) for output, _ in results) == status.current == status.latest


async def test_a_database_that_is_not_migrated_says_so(empty_store: Store, worker_key: WorkerKey) -> None:
    for verb in (empty_store.start([a_run()]), empty_store.claim(a_request(worker_key)), empty_store.workers("x")):
        with pytest.raises(MigrationError, match="kagzi db migrate"):
            await verb


async def test_opening_twice_is_opening_once(store: Store) -> None:
    await start(store)

    await store.open()

    assert len(await store.find(RunFilter(namespace=NAMESPACE))) == 1


async def test_what_was_answered_outlives_the_store(database_url: str) -> None:
    """P2."""
    first, second = (open_store(database_url, Settings()) for _ in range(2))
    await first.open()
    await first.migrate()
    (run_id,) = await start(first)
    await first.close()

    await second.open()

    assert await second.existing([run_id]) == {run_id}
    await second.close()


async def test_a_closed_store_refuses_every_verb(store: Store, worker_key: WorkerKey) -> None:
    await store.close()
    await store.close()

    for verb in (store.start([a_run()]), store.commit([]), store.claim(a_request(worker_key)), store.workers("x")):
        with pytest.raises(StoreUnavailable):
            await verb


async def test_closing_under_load_answers_every_caller(store: Store) -> None:
    """P14: nobody waits for ever. What was said to be stored is."""
    calls = [asyncio.ensure_future(store.start([a_run()])) for _ in range(200)]
    await asyncio.sleep(0)

    await store.close()

    answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
    assert all(isinstance(answer, list | StoreUnavailable) for answer in answers)


@pytest.fixture
def worker_key() -> WorkerKey:
    return WorkerKey("01890000-0000-7000-8000-000000000000")


@pytest.mark.parametrize("url", ["mysql://u:secret@h/db", "kagzi.db", "", "http://x:secret@y"])
def test_a_url_of_no_store_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(KagziError, match=r"sqlite://") as caught:
        open_store(url, Settings())
    assert "secret" not in str(caught.value)
