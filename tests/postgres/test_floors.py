"""Slow claims begin further on in their lanes, and still find everything that is due."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from kagzi.model.run import RunId, WorkerKey
from kagzi.store.postgres import claim as claim_module
from kagzi.store.postgres import floors as floors_module
from kagzi.store.postgres.connections import Connection
from kagzi.store.postgres.floors import SLOW_LOOKS, Floors, Lane
from kagzi.store.postgres.store import PostgresStore
from tests.postgres.builders import a_request, a_run, a_worker

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
REQUEST = a_request(WorkerKey("w"))
LANE = ("default", "order", 1, 0)


def test_fast_claims_look_at_everything() -> None:
    floors = Floors()
    floors.looked(REQUEST, lanes=None, took_s=0.001, at_s=100)
    floors.took(REQUEST, last={LANE: NOON}, full=True, now=NOON)
    assert floors.lanes(REQUEST, at_s=100) is None


def look_slowly(floors: Floors, *lanes: Lane) -> None:
    """Find these lanes as often in a row as it takes for claims to count as slow."""
    for _ in range(SLOW_LOOKS):
        floors.looked(REQUEST, lanes=lanes, took_s=0.1, at_s=100)


def test_a_look_that_was_slow_by_chance_hides_nothing() -> None:
    floors = Floors()
    for _ in range(2 * SLOW_LOOKS):
        floors.looked(REQUEST, lanes=[], took_s=0.1, at_s=100)
        floors.looked(REQUEST, lanes=None, took_s=0.001, at_s=100)
    assert floors.lanes(REQUEST, at_s=100) is None


def test_after_slow_looks_claims_are_short_for_twenty_times_as_long() -> None:
    floors = Floors()
    look_slowly(floors)
    assert floors.lanes(REQUEST, at_s=101.9) is not None
    assert floors.lanes(REQUEST, at_s=102) is None


def test_a_lane_from_which_a_claim_took_its_fill_begins_at_the_last_run_taken() -> None:
    floors = Floors()
    other = Lane(queue="default", workflow="order", version=1, priority=9)
    look_slowly(floors, other)
    floors.took(REQUEST, last={LANE: NOON}, full=True, now=NOON + timedelta(hours=1))
    lanes = floors.lanes(REQUEST, at_s=101) or []
    assert {(lane.priority, lane.floor) for lane in lanes} == {(0, NOON), (9, None)}


def test_lanes_in_which_nothing_due_was_left_begin_a_second_ago() -> None:
    floors = Floors()
    look_slowly(floors)
    floors.took(REQUEST, last={}, full=False, now=NOON)
    (lane,) = floors.lanes(REQUEST, at_s=101) or []
    assert lane.floor == NOON - timedelta(seconds=1)


@pytest.fixture
def every_claim_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_module, "SLOW", timedelta(0))
    monkeypatch.setattr(floors_module, "SLOW_LOOKS", 1)


@pytest.mark.usefixtures("every_claim_is_slow")
async def test_slow_claims_take_every_run_once_and_in_order(store: PostgresStore) -> None:
    worker = await a_worker(store)
    runs = [a_run(priority=number % 3) for number in range(60)]
    for run in runs:
        await store.start([run])

    taken: list[RunId] = []
    while claims := (await store.claim(a_request(worker, slots=7))).claims:
        taken += [claim.run_id for claim in claims]

    assert taken == [run.run_id for priority in (2, 1, 0) for run in runs if run.priority == priority]


@pytest.mark.usefixtures("every_claim_is_slow")
async def test_slow_claims_find_a_run_that_came_in_behind(store: PostgresStore, postgres_url: str) -> None:
    worker = await a_worker(store)
    await store.start([a_run() for _ in range(20)])
    await store.claim(a_request(worker, slots=15))
    await store.start([late := a_run(available_at=NOON)])

    found: set[RunId] = set()
    async with asyncio.timeout(10):
        while late.run_id not in found:
            found |= {claim.run_id for claim in (await store.claim(a_request(worker, slots=1))).claims}


@pytest.fixture
async def old_and_filler(postgres_url: str) -> AsyncIterator[tuple[Connection, Connection]]:
    connections = await asyncpg.connect(postgres_url), await asyncpg.connect(postgres_url)
    yield connections
    for connection in connections:
        await connection.close()


@pytest.mark.usefixtures("every_claim_is_slow")
async def test_claims_stay_fast_while_an_old_transaction_keeps_dead_entries_alive(
    store: PostgresStore, old_and_filler: tuple[Connection, Connection]
) -> None:
    worker = await a_worker(store)
    old, filler = old_and_filler
    await filler.execute(
        """
        INSERT INTO kagzi.workflow_runs (
            run_id, namespace, workflow, version, queue, priority, status, input, available_at
        )
        SELECT gen_random_uuid(), 'tests', 'order', 1, 'default', 0, 'PENDING', '1', now()
        FROM generate_series(1, 100000)
        """
    )
    await old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await old.execute("SELECT FROM kagzi.workers")
    await filler.execute("UPDATE kagzi.workflow_runs SET status = 'COMPLETED', available_at = NULL")

    async def claim() -> tuple[set[RunId], float]:
        start = asyncio.get_running_loop().time()
        claims = (await store.claim(a_request(worker))).claims
        return {claim.run_id for claim in claims}, asyncio.get_running_loop().time() - start

    _, whole_look_s = await claim()  # meets them all
    await store.start([run := a_run()])
    claimed, took = zip(*[await claim() for _ in range(10)], strict=True)

    assert set().union(*claimed) == {run.run_id}
    # 0.0003 s of 0.02 as a rule. Whole looks after the first, which finds the table in no cache, take a quarter of it.
    assert sorted(took)[5] < whole_look_s / 8
