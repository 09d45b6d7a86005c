"""Transactions while connections are cut, server processes ended and workers killed: the books come out right."""

from __future__ import annotations

import asyncio
import random

import pytest

from kagzi import Kagzi, Settings
from tests.faults.bank import check_books, open_bank, register_bank
from tests.faults.database import query
from tests.faults.fleet import QUICK, Fleet
from tests.faults.proxy import Moment, Proxy
from tests.faults.statements import Verb

DEADLINE_S = 60.0


def application(url: str) -> Kagzi:
    return Kagzi(settings=Settings.from_environment({**QUICK, "KAGZI_STORE_TIMEOUT": "5"}, database_url=url))


@pytest.mark.postgres
@pytest.mark.parametrize("verb", [Verb.COMMIT, Verb.CHECKPOINT])
@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AFTER, Moment.LATE])
async def test_a_transfer_whose_connection_is_cut_happens_once(
    newest_postgres_url: str, verb: Verb, moment: Moment
) -> None:
    """P4, P12: before the COMMIT, after it, or while it is on its way."""
    open_bank(newest_postgres_url)
    async with Proxy(newest_postgres_url) as proxy:
        kagzi = application(proxy.url)
        bank = register_bank(kagzi)
        async with kagzi, kagzi.create_worker():
            for seed in range(6):
                cut = proxy.order(verb, moment)
                handle = await bank.start(seed)
                async with asyncio.timeout(DEADLINE_S):
                    await handle.result()
                    await cut.happened.wait()

    check_books(newest_postgres_url, runs=6)


@pytest.mark.postgres
@pytest.mark.timeout(180)
async def test_transfers_whose_server_processes_are_ended_happen_once(newest_postgres_url: str) -> None:
    """P4, P12, P14: by pg_terminate_backend, at any moment of theirs."""
    open_bank(newest_postgres_url)
    kagzi = application(newest_postgres_url)
    bank = register_bank(kagzi)
    chance = random.Random(seed := random.randrange(2**32))
    ended = 0
    async with kagzi, kagzi.create_worker():
        handles = [await bank.start(number) for number in range(60)]
        results = asyncio.gather(*[handle.result(timeout=DEADLINE_S * 2) for handle in handles])
        while not results.done():
            ended += await asyncio.to_thread(_end_some, newest_postgres_url, chance)
            await asyncio.sleep(chance.uniform(0, 0.08))
        await results

    print(f"seed {seed}: {ended} server processes ended")
    assert ended > 0
    check_books(newest_postgres_url, runs=60)


def _end_some(url: str, chance: random.Random) -> int:
    rows = query(
        url,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'kagzi'",
    )
    if not rows:
        return 0
    pid = chance.choice(rows)[0]
    query(url, f"SELECT pg_terminate_backend({pid})")
    return 1


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_transfers_whose_workers_are_killed_happen_once(fleet: Fleet) -> None:
    """P5, P6, P12, on PostgreSQL and SQLite."""
    chance = random.Random(seed := random.randrange(2**32))
    async with Kagzi(fleet.url) as kagzi:
        open_bank(fleet.url)
        bank = register_bank(kagzi)
        fleet.start(3)
        await fleet.ready()
        handles = [await bank.start(number) for number in range(60)]
        results = asyncio.gather(*[handle.result(timeout=180) for handle in handles])
        for _ in range(12):
            await asyncio.sleep(chance.uniform(0, 0.4))  # the moment is what is random
            if results.done():
                break
            fleet.replace_one(chance)
        await results

    print(f"seed {seed}: {len(fleet.killed)} workers killed")
    check_books(fleet.url, runs=60)
    assert fleet.errors() == []
