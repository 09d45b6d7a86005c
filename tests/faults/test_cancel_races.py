"""Runs that are cancelled, terminated or timed out at any moment, by another process, while workers die."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from typing import Any

import pytest

from kagzi import Kagzi, RunClosed, Settings, Signal, WorkflowCancelled, WorkflowContext, WorkflowFailed, WorkflowHandle
from tests.faults.fleet import Fleet
from tests.faults.proxy import CUTS, Proxy
from tests.faults.statements import Verb
from tests.faults.workflows import Pace, register_chain

RUNS = 1_000
AT_A_TIME = 40
PACE = Pace(work_s=0.002, nap_s=0.02)
QUICKER = {"KAGZI_LEASE": "1", "KAGZI_HEARTBEAT_INTERVAL": "0.3", "KAGZI_POLL_INTERVAL": "0.1"}
HEARTBEAT_S = 0.3
SLACK_S = 1.0  # of a busy machine


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_run_that_is_ended_at_any_moment_has_one_outcome_and_begins_nothing_after(fleet: Fleet) -> None:
    """P13, P14, P20."""
    chance = random.Random(seed := random.randrange(2**32))
    seen: Counter[str] = Counter()
    async with Kagzi(fleet.url) as kagzi:
        chain = register_chain(kagzi, fleet.ledger)
        fleet.start(2, **QUICKER)
        await fleet.ready()
        ended_at: dict[str, float] = {}
        turns = asyncio.Semaphore(AT_A_TIME)

        async def one() -> None:
            async with turns:
                how = chance.choice(["cancel", "terminate", "timeout"])
                after_s = chance.uniform(0, 0.25)
                start = chain.options(timeout=after_s) if how == "timeout" else chain.options()
                handle = await start.start(PACE)
                if how != "timeout":
                    await asyncio.sleep(after_s)  # the moment is what is random
                    with contextlib.suppress(RunClosed):
                        await (handle.cancel(how) if how == "cancel" else handle.terminate(how))
                outcome = await the_outcome(handle)
                ended_at[handle.run_id] = time.monotonic()
                assert await the_outcome(handle) == outcome
                seen[outcome] += 1

        ending = asyncio.gather(*(one() for _ in range(RUNS)))
        while not ending.done():
            await asyncio.wait({ending}, timeout=3)
            if not ending.done():
                fleet.kill(chance.choice(fleet.pids))
                fleet.start(1, **QUICKER)
        await ending

    print(f"seed {seed}: {dict(seen)}")
    late = [each for each in fleet.ledger.read() if each.at > ended_at[each.run_id] + HEARTBEAT_S + SLACK_S]
    assert late == []
    assert set(seen) <= {"COMPLETED", "cancel", "terminate", "TIMEOUT"}
    assert len(seen) > 1


@pytest.mark.postgres
@pytest.mark.parametrize("at_once", [False, True], ids=["cancel", "terminate"])
async def test_an_order_to_end_whose_connection_is_cut_is_given_once(newest_postgres_url: str, at_once: bool) -> None:
    """P4: to a run that nobody has begun, and to one that waits."""
    async with (
        Proxy(newest_postgres_url) as proxy,
        Kagzi(settings=Settings(database_url=proxy.url)) as kagzi,
        Kagzi(newest_postgres_url) as here,
    ):

        @here.workflow
        async def wait(ctx: WorkflowContext) -> int:
            return await ctx.wait_for(Signal("never", int))

        async with here.create_worker():
            for moment in CUTS:
                for queue in ("default", "nobody's"):
                    handle = kagzi.handle((await wait.options(queue=queue).start()).run_id)
                    while queue == "default" and not (await handle.describe()).waiting_for:  # noqa: ASYNC110 - no event
                        await asyncio.sleep(0.01)
                    cut = proxy.order(Verb.CANCEL, moment)
                    async with asyncio.timeout(60):
                        await (handle.terminate(moment.name) if at_once else handle.cancel(moment.name))
                        await cut.happened.wait()
                    with pytest.raises(WorkflowCancelled) as ended:
                        await handle.result(timeout=60)
                    assert ended.value.reason == moment.name


async def the_outcome(handle: WorkflowHandle[Any]) -> str:
    """How a run ended: COMPLETED with all its steps, or why not."""
    try:
        tokens = await handle.result(timeout=60)
    except WorkflowCancelled as error:
        return error.reason or "cancelled"
    except WorkflowFailed as error:
        return str(error.error.kind)
    recorded = [step.output for step in await handle.history() if step.kind == "STEP"]
    assert recorded == tokens
    return "COMPLETED"
