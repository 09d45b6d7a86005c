"""Parents and children whose workers are killed at random times."""

from __future__ import annotations

import asyncio
import random

import pytest

from kagzi import Kagzi
from tests.faults import ROUNDS
from tests.faults.fleet import Fleet
from tests.faults.workflows import register_family

PARENTS, CHILDREN = 100, 5
DEADLINE_S = 90 * ROUNDS


@pytest.mark.slow
@pytest.mark.timeout(60 + 120 * ROUNDS)
async def test_each_child_is_started_once_and_heard_however_often_workers_are_killed(fleet: Fleet) -> None:
    """P10, P11, P14."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    async with Kagzi(fleet.url) as kagzi:
        parent = register_family(kagzi, fleet.ledger)
        handles = await kagzi.start_many(parent, [CHILDREN] * PARENTS * ROUNDS)
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
        histories = [await handle.history() for handle in handles]

    last = {execution.run_id: execution.token for execution in fleet.ledger.read()}
    born = {run_id for history in histories for run_id in (step.child_run_id for step in history) if run_id}
    print(f"seed {seed}: {kills} kills")
    assert len(born) == PARENTS * ROUNDS * CHILDREN
    assert set(last) == born, "a child was executed that no parent knows"
    for history, mine in zip(histories, tokens, strict=True):
        children = dict.fromkeys(step.child_run_id for step in history)
        assert sorted(mine) == sorted(last[child or ""] for child in children)
    assert fleet.errors() == []
