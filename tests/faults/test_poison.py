"""P22 with real processes: a step that kills its worker is set aside, and nobody else is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kagzi import ErrorKind, Kagzi, RunStatus, WorkflowFailed, WorkflowHandle
from tests.faults.failing import Trouble, register_deadly, register_persist
from tests.faults.fleet import Fleet
from tests.faults.workflows import Pace, register_chain

QUICK = {"KAGZI_LEASE": "1", "KAGZI_HEARTBEAT_INTERVAL": "0.25", "KAGZI_POISON_AFTER": "5"}


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_step_that_kills_its_worker_five_times_is_poison_and_everything_else_goes_on(fleet: Fleet) -> None:
    """P14, P22: whatever retry policies the step and its run have."""
    async with Kagzi(fleet.url) as kagzi:
        chain, persist = register_chain(kagzi, fleet.ledger), register_persist(kagzi, fleet.ledger)
        deadly = await register_deadly(kagzi, fleet.ledger).start()
        others: list[WorkflowHandle[Any]] = [
            *await kagzi.start_many(chain, [Pace(work_s=0.2, nap_s=1)] * 20),
            *await kagzi.start_many(persist, [Trouble(wait_s=1)] * 20),
        ]
        fleet.start(2, **QUICK)

        results = asyncio.gather(*[other.result(timeout=150) for other in others])
        failing = asyncio.gather(deadly.result(timeout=150), return_exceptions=True)
        every: set[asyncio.Future[Any]] = {results, failing}
        deaths = 0
        while not all(each.done() for each in every):
            await asyncio.wait(every, timeout=0.1)
            for pid in fleet.ended_by_themselves:
                fleet.kill(pid)
                fleet.start(1, **QUICK)
                deaths += 1
        (failure,), run = await failing, await deadly.describe()
        await results

    assert isinstance(failure, WorkflowFailed)
    assert failure.error.kind is ErrorKind.POISON_RUN
    assert (run.status, run.attempts, run.crashes) == (RunStatus.FAILED, 1, 5)
    assert deaths == 5
    assert [each.attempt for each in fleet.ledger.read() if each.run_id == run.run_id] == [1] * 5
    assert fleet.errors() == []
