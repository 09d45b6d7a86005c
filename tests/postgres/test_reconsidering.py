"""Runs that were set aside are woken although somebody holds their rows at that moment."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg

from kagzi.model.change import Change, Transition
from kagzi.model.run import RunStatus
from kagzi.store.postgres.store import PostgresStore
from tests.postgres.builders import a_request, a_run, a_worker

_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def test_a_row_that_is_locked_is_waited_for_and_not_passed_over(store: PostgresStore, postgres_url: str) -> None:
    """P16: whoever awaits the run marks its row, and often does so just when the worker with the right code comes."""
    worker = await a_worker(store)
    await store.start([a_run()])
    (claim,) = (await store.claim(a_request(worker))).claims
    soon = (await store.probe()).now + timedelta(seconds=20)
    aside = Transition(status=RunStatus.SLEEPING, wake_at=soon, error="{}")
    await store.commit([Change(run_id=claim.run_id, fence=claim.fence, transition=aside)])
    holder, watcher = await asyncpg.connect(postgres_url), await asyncpg.connect(postgres_url)

    async with holder.transaction():
        await holder.execute("UPDATE kagzi.workflow_runs SET awaited = true WHERE run_id = $1", claim.run_id)
        waking = asyncio.ensure_future(store.reconsider(a_request(worker), within=timedelta(seconds=30)))
        async with asyncio.timeout(10):
            while not await watcher.fetchval(_WAITING):
                assert not waking.done(), "the row was passed over"
                await asyncio.sleep(0.01)
    found = await waking
    await holder.close()
    await watcher.close()

    assert found == 1
    assert len((await store.claim(a_request(worker))).claims) == 1
