"""A worker that stands still for longer than its lease and then goes on, as after a suspended machine."""

from __future__ import annotations

import asyncio

import pytest

from kagzi import Kagzi
from tests.faults.database import dump_runs, query
from tests.faults.fleet import Fleet
from tests.faults.pausing import pause_holding_no_lock
from tests.faults.polling import until
from tests.faults.verdict import check_chains
from tests.faults.workflows import STEPS, TOO_LATE, Chain, Pace, register_chain, register_hedge

LEASE_S = 1.0
LEASES = 3
RUNS = 20
ENVIRONMENT = {"KAGZI_LEASE": str(LEASE_S), "KAGZI_HEARTBEAT_INTERVAL": "0.25"}


@pytest.mark.timeout(90)
async def test_a_worker_that_stood_still_for_three_leases_writes_nothing_and_begins_anew(fleet: Fleet) -> None:
    """P6, P8, P9: its late writes change nothing, it drops its runs, registers anew and takes runs again."""
    async with Kagzi(fleet.url) as kagzi:
        chain, hedge = register_chain(kagzi, fleet.ledger), register_hedge(kagzi, fleet.ledger)
        sleeper = await _start_alone(fleet, chain)
        # Stopped in the middle of their steps, whose functions return at once when the process goes on. What the
        # hedges then bring is stored nowhere, for the other worker gives the step up: written late, it would show.
        chains = await kagzi.start_many(chain, [Pace(work_s=0.4, nap_s=0.05)] * RUNS)
        hedges = await kagzi.start_many(hedge, [Pace(work_s=1.2, nap_s=1.5)] * RUNS)
        await until(lambda: len(fleet.ledger.read()) >= STEPS + 2 * RUNS + 5, "the chains are at their second steps")

        await pause_holding_no_lock(fleet, sleeper)
        stopped_at = asyncio.get_running_loop().time()
        fleet.start(1, **ENVIRONMENT)
        tokens = await asyncio.gather(*[handle.result(timeout=30) for handle in chains])
        given_up = await asyncio.gather(*[handle.result(timeout=30) for handle in hedges])
        await asyncio.sleep(stopped_at + LEASES * LEASE_S - asyncio.get_running_loop().time())
        before, begun = dump_runs(fleet.url), len(fleet.ledger.read())
        fleet.go_on(sleeper)
        await until(lambda: sleeper in fleet.declared_dead(), "the worker sees that it was declared dead")
        await until(lambda: _registrations(fleet, sleeper) == 2, "the worker has registered anew")

        assert dump_runs(fleet.url) == before
        assert len(fleet.ledger.read()) == begun, "it began a step after its lease was over"
        assert set(given_up) == {TOO_LATE}
        check_chains(fleet, {handle.run_id: mine for handle, mine in zip(chains, tokens, strict=True)})
        await _check_that_it_takes_runs_again(fleet, chain, sleeper)
    assert fleet.errors() == []
    assert fleet.ended_by_themselves == []


async def _start_alone(fleet: Fleet, chain: Chain) -> int:
    """Start a worker and wait until it takes runs."""
    (pid,) = fleet.start(1, **ENVIRONMENT)
    await (await chain.start(Pace(work_s=0, nap_s=0))).result(timeout=30)
    return pid


async def _check_that_it_takes_runs_again(fleet: Fleet, chain: Chain, sleeper: int) -> None:
    for pid in fleet.pids:
        if pid != sleeper:
            fleet.kill(pid)
    begun = len(fleet.ledger.read())
    await (await chain.start(Pace(work_s=0, nap_s=0))).result(timeout=30)
    assert {execution.pid for execution in fleet.ledger.read()[begun:]} == {sleeper}


def _registrations(fleet: Fleet, pid: int) -> int:
    return [row[0] for row in query(fleet.url, "SELECT pid FROM workers")].count(pid)
