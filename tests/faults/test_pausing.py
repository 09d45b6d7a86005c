"""Pauses whose connection is cut, and whose worker hears of nothing."""

from __future__ import annotations

import asyncio

import pytest

from kagzi import Kagzi, Settings
from tests.faults.fleet import Fleet
from tests.faults.proxy import CUTS, Proxy
from tests.faults.statements import Verb
from tests.faults.workflows import STEPS, Pace, register_chain

DEADLINE_S = 60.0


@pytest.mark.postgres
async def test_a_pause_and_a_resumption_whose_connection_is_cut_are_done_once(newest_postgres_url: str) -> None:
    """P4."""
    async with (
        Proxy(newest_postgres_url) as proxy,
        Kagzi(settings=Settings(database_url=proxy.url)) as kagzi,
    ):

        @kagzi.workflow
        async def idle(ctx: object) -> None: ...

        handle = await idle.start()
        for moment in CUTS:
            for verb in (Verb.PAUSE, Verb.RESUME):
                cut = proxy.order(verb, moment)
                async with asyncio.timeout(DEADLINE_S):
                    await (handle.pause(moment.name) if verb is Verb.PAUSE else handle.resume())
                    await cut.happened.wait()
                run = await handle.describe()
                assert run.pause_reason == (moment.name if verb is Verb.PAUSE else None)


async def test_a_run_whose_worker_dies_while_it_pauses_rests_and_goes_on_elsewhere(fleet: Fleet) -> None:
    """P8, P14."""
    async with Kagzi(fleet.url) as kagzi:
        chain = register_chain(kagzi, fleet.ledger)
        fleet.start(1)
        await fleet.ready()
        handle = await chain.start(Pace(work_s=600))
        async with asyncio.timeout(DEADLINE_S):
            while not fleet.ledger.read():  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.02)
            await handle.pause()
            fleet.kill(fleet.pids[0])
            fleet.start(1)
            while (await handle.status()) == "RUNNING":  # noqa: ASYNC110 - another process brings it back
                await asyncio.sleep(0.02)
            other = await chain.start(Pace(work_s=0.001, nap_s=0.01))
            await other.result()
        held, begun = await handle.describe(), [each for each in fleet.ledger.read() if each.run_id == handle.run_id]
        await handle.terminate()

    assert (held.status, held.paused_at is None, len(begun)) == ("PENDING", False, 1)
    assert len({each.step_id for each in fleet.ledger.read()}) == STEPS
