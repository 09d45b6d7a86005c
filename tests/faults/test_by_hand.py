"""Retries and forks by hand, and runs that continue as new, while connections are cut and workers are killed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kagzi import Kagzi, RunStatus, WorkflowFailed
from tests.faults import ROUNDS
from tests.faults.applications import application
from tests.faults.database import query
from tests.faults.fleet import Fleet
from tests.faults.ledger import Ledger
from tests.faults.proxy import CUTS, Proxy
from tests.faults.statements import Verb
from tests.faults.workflows import NUMBER, ROUNDS_OF_A_LOOP, register_loop, register_stumble

DEADLINE_S = 60.0
CHAINS = 10


@pytest.fixture
async def proxy(newest_postgres_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(newest_postgres_url) as proxy:
        yield proxy


@pytest.mark.postgres
async def test_a_retry_whose_connection_is_cut_begins_one_attempt(
    newest_postgres_url: str, proxy: Proxy, ledger: Ledger, tmp_path: Path
) -> None:
    """P4, P10: before it reached the server, after it was committed, and where it comes late, beside its repetition."""
    mended = tmp_path / "mended"
    async with application(newest_postgres_url, ledger) as (near, _), application(proxy.url, ledger) as (distant, _):
        stumble = register_stumble(near, ledger, mended)
        for moment in CUTS:
            mended.unlink(missing_ok=True)
            async with near.create_worker():
                handle = await stumble.start()
                with pytest.raises(WorkflowFailed):
                    await handle.result(timeout=DEADLINE_S)
            mended.touch()
            cut = proxy.order(Verb.RETRY, moment)
            await distant.handle(handle.run_id).retry()
            async with asyncio.timeout(DEADLINE_S):
                await cut.happened.wait()
            assert (await handle.describe()).attempts == 2, f"{cut}"
            async with near.create_worker():
                await handle.result(timeout=DEADLINE_S)
            executed = Counter(each.step_id for each in ledger.read() if each.run_id == handle.run_id)
            assert executed == {"0/first#1": 1, "0/second#1": 1, "0/third#1": 2}, f"{cut}"


@pytest.mark.postgres
async def test_a_fork_whose_connection_is_cut_is_made_once(
    newest_postgres_url: str, proxy: Proxy, ledger: Ledger, tmp_path: Path
) -> None:
    """P4."""
    async with application(newest_postgres_url, ledger) as (near, _), application(proxy.url, ledger) as (distant, _):
        stumble = register_stumble(near, ledger, tmp_path)
        async with near.create_worker():
            handle = await stumble.start()
            tokens = await handle.result(timeout=DEADLINE_S)
            for made, moment in enumerate(CUTS, 1):
                cut = proxy.order(Verb.FORK, moment)
                fork = await distant.handle(handle.run_id).fork(at_step="third")
                async with asyncio.timeout(DEADLINE_S):
                    await cut.happened.wait()
                result = await near.handle(fork.run_id).result(timeout=DEADLINE_S)
                assert result[:2] == tokens[:2]
                assert query(newest_postgres_url, "SELECT count(*) FROM workflow_runs") == [(made + 1,)], f"{cut}"


@pytest.mark.postgres
async def test_a_run_whose_connection_is_cut_as_it_continues_has_one_successor(
    newest_postgres_url: str, proxy: Proxy, ledger: Ledger
) -> None:
    """P4, P13, P19: exactly one takes its place, with what was sent and not received."""
    async with application(newest_postgres_url, ledger) as (near, _), application(proxy.url, ledger) as (distant, _):
        loop = register_loop(near, ledger)
        register_loop(distant, ledger)
        async with distant.create_worker():
            for moment in CUTS:
                cuts = [proxy.order(Verb.CONTINUING, moment) for _ in range(3)]
                handle = await loop.options(id=f"loop-{moment.name}").start(6, [])
                for number in range(6):
                    await near.signal(f"loop-{moment.name}", NUMBER, number)
                assert await handle.result(timeout=DEADLINE_S) == list(range(6)), f"{moment}"
                async with asyncio.timeout(DEADLINE_S):
                    for cut in cuts:
                        await cut.happened.wait()
    assert query(newest_postgres_url, "SELECT status, count(*) FROM workflow_runs GROUP BY 1") == [("COMPLETED", 18)]
    assert query(newest_postgres_url, "SELECT count(DISTINCT continued_from) FROM workflow_runs") == [(15,)]
    executed = Counter((each.run_id, each.step_id) for each in ledger.read())
    assert set(executed.values()) == {1}


@pytest.mark.slow
@pytest.mark.timeout(60 + 90 * ROUNDS)
async def test_chains_go_on_whole_however_often_their_workers_are_killed(fleet: Fleet) -> None:
    """P14, P19: no link is lost or made twice, and every signal is received once, in order."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    async with Kagzi(fleet.url) as kagzi:
        loop = register_loop(kagzi, fleet.ledger)
        handles = [await loop.options(id=f"loop-{n}").start(ROUNDS_OF_A_LOOP, []) for n in range(CHAINS * ROUNDS)]
        fleet.start(3, KAGZI_PARK_AFTER="0.05")

        async def feed(own_id: str) -> None:
            for number in range(ROUNDS_OF_A_LOOP):
                await kagzi.signal(own_id, NUMBER, number)
                await asyncio.sleep(random.Random(f"{seed}{own_id}{number}").uniform(0, 0.3))

        async with asyncio.timeout(DEADLINE_S * ROUNDS):
            feeding = asyncio.gather(*(feed(f"loop-{number}") for number in range(len(handles))))
            for _ in range(6 * ROUNDS):
                await asyncio.wait({feeding}, timeout=chance.uniform(0.2, 1.0))
                fleet.replace_one(chance)
            await feeding
            results = await asyncio.gather(*(handle.result() for handle in handles))

        assert results == [list(range(ROUNDS_OF_A_LOOP))] * len(handles), f"seed {seed}"
        assert {run.status for run in await kagzi.find_runs(limit=1000)} == {RunStatus.COMPLETED}
        links = query(fleet.url, "SELECT count(*), count(DISTINCT continued_from) FROM workflow_runs")
        assert links == [(ROUNDS_OF_A_LOOP * len(handles), (ROUNDS_OF_A_LOOP - 1) * len(handles))]
    assert fleet.errors() == []
