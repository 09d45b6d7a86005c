"""Workers whose wall clock is wrong by hours, one ahead and one behind."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from kagzi import Kagzi
from tests.faults.clock import VARIABLE
from tests.faults.database import query
from tests.faults.fleet import Fleet
from tests.faults.verdict import check_chains
from tests.faults.workflows import Pace, register_chain, register_clock

OFFSET_S = 5 * 3600.0
NAP_S = 1.0


@pytest.mark.parametrize("offset_s", [OFFSET_S, -OFFSET_S], ids=["ahead", "behind"])
@pytest.mark.postgres
async def test_a_wrong_wall_clock_of_a_worker_decides_nothing_durable(
    newest_postgres_url: str, tmp_path: Path, offset_s: float
) -> None:
    """P7, P18: timers fire neither early nor late by it, leases hold, and all stored times are the database's."""
    with Fleet(newest_postgres_url, tmp_path) as fleet:
        async with Kagzi(newest_postgres_url) as kagzi:
            chain, clock = register_chain(kagzi, fleet.ledger), register_clock(kagzi)
            fleet.start(2, **{VARIABLE: str(offset_s)})
            await fleet.ready()
            believed = await (await clock.start()).result(timeout=20)
            assert abs(believed - time.time() - offset_s) < 60, "the workers' clock is right"

            # Parked, and in memory.
            handles = [await chain.start(Pace(work_s=0.01, nap_s=nap_s)) for nap_s in (NAP_S, 0.15) for _ in range(10)]
            async with asyncio.timeout(NAP_S + 10):
                tokens = await asyncio.gather(*[handle.result() for handle in handles])

        check_chains(fleet, {handle.run_id: mine for handle, mine in zip(handles, tokens, strict=True)})
        began = {(each.run_id, each.step_id): each.at for each in fleet.ledger.read()}
        for place, handle in enumerate(handles):
            nap_s = began[handle.run_id, "0/step-3#1"] - began[handle.run_id, "0/step-2#1"]
            asked_s = NAP_S if place < 10 else 0.15
            assert asked_s <= nap_s < asked_s + 5
        assert _times_astray(newest_postgres_url) == []
        assert fleet.declared_dead() == set()
        assert fleet.errors() == []


def _times_astray(url: str) -> list[tuple[object, ...]]:
    """Times in the database that are not within the last five minutes of its own clock."""
    return query(
        url,
        """
        SELECT * FROM (
            SELECT unnest(ARRAY[created_at, started_at, finished_at]) AS at FROM workflow_runs
            UNION ALL SELECT unnest(ARRAY[started_at, finished_at]) FROM step_runs
            UNION ALL SELECT unnest(ARRAY[registered_at, beat_at, lease_until]) FROM workers
        ) AS times
        WHERE at NOT BETWEEN now() - interval '5 minutes' AND now() + interval '5 minutes'
        """,
    )
