"""PostgreSQL crashes and comes back, over and over, while runs are started and executed."""

from __future__ import annotations

import asyncio
import random
from itertools import count
from pathlib import Path

import pytest

from kagzi import Kagzi, Settings, WorkflowHandle
from tests.faults import ROUNDS
from tests.faults.database import query
from tests.faults.fleet import QUICK, Fleet
from tests.faults.verdict import check_chains
from tests.faults.workflows import Chain, Pace, register_chain
from tests.servers import PostgresServer, StopMode

CRASHES = 10 * ROUNDS
STARTERS = 4
DEADLINE_S = 60.0


class Starters:
    """Tasks that start runs without a pause; `acknowledged` are the runs that were promised to be durable."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._numbers = count()
        self._stopping = False
        self.acknowledged: dict[str, WorkflowHandle[list[str]]] = {}

    async def run(self) -> None:
        """Start runs until `stop`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(STARTERS):
                group.create_task(self._start_on())

    def stop(self) -> None:
        """Start no more."""
        self._stopping = True

    async def _start_on(self) -> None:
        while not self._stopping:
            name = f"order-{next(self._numbers)}"
            pace = Pace(work_s=random.uniform(0, 0.02), nap_s=random.choice([0.05, 0.3, 1.0]))
            self.acknowledged[name] = await self._chain.options(id=name).start(pace)
            await asyncio.sleep(random.uniform(0, 0.1))


@pytest.mark.slow
@pytest.mark.timeout(60 + 120 * ROUNDS)
async def test_nothing_acknowledged_is_lost_when_the_server_crashes_ten_times(
    own_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """P2, P4, P10, P14: acknowledged runs and results survive, workers resume by themselves, no run is stranded."""
    url = own_postgres_server.start().create_database()
    with Fleet(url, tmp_path) as fleet:
        async with Kagzi(settings=Settings.from_environment(QUICK, database_url=url)) as kagzi:
            chain = register_chain(kagzi, fleet.ledger)
            fleet.start(2)
            await fleet.ready()
            starters = Starters(chain)
            starting = asyncio.create_task(starters.run())
            seen: dict[str, list[str]] = {}

            for crash in range(CRASHES):
                await asyncio.sleep(random.uniform(0.1, 0.5))
                await asyncio.to_thread(own_postgres_server.stop, StopMode.IMMEDIATE)
                # Every tenth time for longer than a lease lasts.
                await asyncio.sleep(2.5 if crash % 10 == 5 else random.uniform(0, 0.3))
                await asyncio.to_thread(own_postgres_server.start)
                handle = await chain.start(Pace(work_s=0, nap_s=0.05))
                seen[handle.run_id] = await handle.result(timeout=DEADLINE_S)
                assert fleet.ended_by_themselves == [], fleet.logs()
            begun = len(fleet.ledger.read())
            starters.stop()
            await starting
            for handle in starters.acknowledged.values():
                seen[handle.run_id] = await handle.result(timeout=DEADLINE_S)
            await _see_every_worker_work(fleet, chain, begun, seen)

        repeated = check_chains(fleet, seen)
        print(f"{CRASHES} crashes, {len(seen)} runs, {repeated} executions repeated")
        assert query(url, "SELECT count(*) FROM workflow_runs") == [(len(seen),)]
        assert fleet.errors() == []
        assert fleet.ended_by_themselves == []


async def _see_every_worker_work(fleet: Fleet, chain: Chain, begun: int, seen: dict[str, list[str]]) -> None:
    """Start runs until every worker has executed a step since the last crash."""
    async with asyncio.timeout(DEADLINE_S):
        while {execution.pid for execution in fleet.ledger.read()[begun:]} != set(fleet.pids):
            handles = [await chain.start(Pace(work_s=0.05, nap_s=0)) for _ in range(20)]
            for handle in handles:
                seen[handle.run_id] = await handle.result(timeout=DEADLINE_S)
