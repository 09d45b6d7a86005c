"""`kill -9` of workers at random times."""

from __future__ import annotations

import asyncio
import random

import pytest

from kagzi import Kagzi
from tests.faults import ROUNDS
from tests.faults.fleet import Fleet
from tests.faults.verdict import check_chains
from tests.faults.workflows import Pace, register_chain

RUNS = 300
DEADLINE_S = 60 * ROUNDS


@pytest.mark.slow
@pytest.mark.timeout(60 + 90 * ROUNDS)
async def test_no_checkpointed_step_is_executed_again_however_often_workers_are_killed(fleet: Fleet) -> None:
    """P5, P8, P10, P11, P13, P14."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    async with Kagzi(fleet.url) as kagzi:
        chain = register_chain(kagzi, fleet.ledger)
        paces = [
            Pace(work_s=chance.uniform(0, 0.2), nap_s=chance.choice([0.05, 0.3, 1.5])) for _ in range(RUNS * ROUNDS)
        ]
        handles = await kagzi.start_many(chain, paces)
        fleet.start(3, KAGZI_MAX_CONCURRENT_WORKFLOWS="30")

        results = asyncio.gather(*[handle.result(timeout=DEADLINE_S) for handle in handles])
        kills = 0
        while not results.done():
            await asyncio.wait({results}, timeout=chance.uniform(0.05, 1.0))
            assert fleet.ended_by_themselves == [], fleet.logs()
            if kills < 12 * ROUNDS:
                fleet.replace_one(chance)
                kills += 1

        tokens = await results
    repeated = check_chains(fleet, {handle.run_id: mine for handle, mine in zip(handles, tokens, strict=True)})
    print(f"seed {seed}: {kills} kills, {repeated} executions repeated")
    assert fleet.errors() == []
