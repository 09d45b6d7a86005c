"""Events against waits, held by locks so that each interleaving is certain."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from kagzi.model.event import Awaiting, EventWait
from kagzi.model.run import RunId
from kagzi.store.postgres.store import PostgresStore
from tests.contract.builders import an_event, eventually
from tests.postgres.builders import a_request, a_run, a_worker

LOCK = "SELECT FROM kagzi.workflow_runs WHERE run_id = $1 FOR UPDATE"


async def await_event(store: PostgresStore, run_id: RunId, *, lookback_s: float = 0.0) -> int:
    wait = EventWait(step_id="0/paid#1", name="paid", lookback_s=lookback_s)
    return await store.await_events([Awaiting(run_id=run_id, fence=1, waits=(wait,))])


async def two_runs(store: PostgresStore) -> list[RunId]:
    worker = await a_worker(store)
    runs = [a_run(), a_run()]
    await store.start(runs)
    claimed = await store.claim(a_request(worker))
    assert len(claimed.claims) == 2
    return [run.run_id for run in runs]


async def came_to(store: PostgresStore, run_id: RunId) -> int:
    return len(await store.undelivered(run_id))


@pytest.mark.parametrize(("lookback_s", "comes"), [(0.0, 0), (60.0, 1)])
async def test_a_wait_that_is_being_written_while_an_event_is_distributed_looks_by_itself(
    store: PostgresStore, postgres_url: str, lookback_s: float, comes: int
) -> None:
    (run_id, _) = await two_runs(store)
    event = an_event(namespace="tests")
    gate = await asyncpg.connect(postgres_url)

    async with gate.transaction():
        await gate.execute(LOCK, run_id)
        waiting = asyncio.ensure_future(await_event(store, run_id, lookback_s=lookback_s))
        await eventually(lambda: _somebody_waits(gate))
        await store.emit([event])
        distributed = await store.distribute([event.event_id], limit=10)
    given = await waiting

    assert (distributed.given, distributed.left) == (0, 0), "it did not see the wait"
    assert (given, await came_to(store, run_id)) == (comes, comes)
    await gate.close()


async def test_an_event_that_is_not_committed_yet_finds_the_wait_that_did_not_find_it(
    store: PostgresStore, postgres_url: str
) -> None:
    (run_id, _) = await two_runs(store)
    event = an_event(namespace="tests")
    caller = await asyncpg.connect(postgres_url)

    async with caller.transaction():
        await caller.execute(
            "INSERT INTO kagzi.events (event_id, namespace, name, key, payload, call, is_within) "
            "VALUES ($1, 'tests', 'paid', '', '1', '[1]', true)",
            event.event_id,
        )
        given = await await_event(store, run_id)
        pending = await store.pending_events("tests", limit=10)
    distributed = await store.distribute([event.event_id], limit=10)

    assert (given, pending) == (0, []), "it did not see the event"
    assert (distributed.given, await came_to(store, run_id)) == (1, 1)
    await caller.close()


async def test_a_run_that_somebody_has_locked_holds_up_no_other_and_is_not_forgotten(
    store: PostgresStore, postgres_url: str
) -> None:
    locked, other = await two_runs(store)
    event = an_event(namespace="tests")
    gate = await asyncpg.connect(postgres_url)
    for run_id in (locked, other):
        await await_event(store, run_id)
    await store.emit([event])

    async with gate.transaction():
        await gate.execute(LOCK, locked)
        async with asyncio.timeout(5):
            first = await store.distribute([event.event_id], limit=10)
    second = await store.distribute([event.event_id], limit=10)

    assert [(each.given, each.left) for each in (first, second)] == [(1, 1), (1, 0)]
    assert [await came_to(store, run_id) for run_id in (locked, other)] == [1, 1]
    await gate.close()


async def test_waits_of_a_run_that_was_deleted_hold_no_event_up(store: PostgresStore, postgres_url: str) -> None:
    deleted, other = await two_runs(store)
    event = an_event(namespace="tests")
    for run_id in (deleted, other):
        await await_event(store, run_id)
    by_hand = await asyncpg.connect(postgres_url)
    await by_hand.execute("DELETE FROM kagzi.workflow_runs WHERE run_id = $1", deleted)
    await by_hand.close()
    await store.emit([event])

    async def until_done() -> bool | None:
        await store.distribute([event.event_id], limit=10)
        return None if await store.pending_events("tests", limit=10) else True

    assert await eventually(until_done)
    assert await came_to(store, other) == 1


async def test_many_that_distribute_at_once_give_each_wait_one_event(store: PostgresStore) -> None:
    first, second = await two_runs(store)
    events = [an_event(namespace="tests") for _ in range(20)]
    for run_id in (first, second):
        await await_event(store, run_id)
    await store.emit(events)

    async with asyncio.timeout(timedelta(seconds=20).total_seconds()):
        for _ in range(5):
            await asyncio.gather(*(store.distribute([event.event_id], limit=10) for event in events))

    assert [await came_to(store, run_id) for run_id in (first, second)] == [1, 1]
    assert await store.pending_events("tests", limit=10) == []


async def _somebody_waits(gate: asyncpg.Connection) -> bool | None:
    waits = await gate.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return True if waits else None
