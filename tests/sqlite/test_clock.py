"""The store's time is the clock that it is given (P7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kagzi.model.change import Applied
from kagzi.model.run import WorkerKey
from kagzi.store.sqlite.store import SqliteStore
from kagzi.store.sqlite.times import later, micros, moment
from tests.contract.builders import (
    NAMESPACE,
    a_change,
    a_record,
    a_request,
    a_run,
    a_worker,
    asleep,
    claim_one,
    commit,
    recover,
    start,
    start_and_claim,
)
from tests.sqlite.conftest import MovedClock, OpenStore


@pytest.fixture
async def store(open_store: OpenStore, clock: MovedClock) -> SqliteStore:
    store: SqliteStore = await open_store("sqlite://", clock=clock)
    return store


@pytest.fixture
async def worker(store: SqliteStore) -> WorkerKey:
    return await a_worker(store, lease=timedelta(days=400))


async def test_every_stored_time_is_the_clocks(store: SqliteStore, clock: MovedClock, worker: WorkerKey) -> None:
    (started,) = await store.start([a_run()])
    clock.move(timedelta(microseconds=1))
    claim = await claim_one(store, worker)
    clock.move(timedelta(days=1))
    committed = await commit(store, a_change(claim, a_record(1)))

    assert started.now == datetime(2030, 1, 1, tzinfo=UTC)
    assert claim.started_at - started.now == timedelta(microseconds=1)
    assert committed.now == clock.now


async def test_a_month_of_sleep_passes_at_once(store: SqliteStore, clock: MovedClock, worker: WorkerKey) -> None:
    """P18: never early, and on time."""
    claim = await start_and_claim(store, worker)
    wake_at = clock.now + timedelta(days=30)
    await commit(store, a_change(claim, transition=asleep(wake_at)))
    clock.move(timedelta(days=30) - timedelta(microseconds=1))
    early = await store.claim(a_request(worker))
    clock.move(timedelta(microseconds=1))

    (woken,) = (await store.claim(a_request(worker))).claims

    assert (early.claims, early.next_due) == ((), wake_at)
    assert woken.run_id == claim.run_id


async def test_a_lease_ends_at_its_very_end(store: SqliteStore, clock: MovedClock) -> None:
    """P8."""
    mortal = await a_worker(store, lease=timedelta(seconds=60))
    await start(store)
    clock.move(timedelta(seconds=60) - timedelta(microseconds=1))
    before = await recover(store)
    taken = await store.claim(a_request(mortal))
    clock.move(timedelta(microseconds=1))

    after = await recover(store)

    assert before.dead == ()
    assert len(taken.claims) == 1
    assert after.dead == (mortal,)
    assert len(after.released) == 1


async def test_a_repeated_commit_is_recognised_while_time_stands_still(store: SqliteStore, worker: WorkerKey) -> None:
    """P4."""
    claim = await start_and_claim(store, worker)
    change = a_change(claim, a_record(1))
    first = await commit(store, change)

    again = await commit(store, change)

    assert again.outcomes == (Applied.ALREADY,)
    assert again.earlier == {0: first.now}


async def test_ended_registrations_are_forgotten_after_a_day(store: SqliteStore, clock: MovedClock) -> None:
    gone = await a_worker(store)
    await store.leave(gone)
    clock.move(timedelta(hours=23))
    listed = [each.key for each in await store.workers(NAMESPACE)]
    clock.move(timedelta(hours=2))

    new = await a_worker(store)

    assert listed == [gone]
    assert [each.key for each in await store.workers(NAMESPACE)] == [new]


async def test_a_registration_is_kept_as_long_as_a_run_stands_under_it(store: SqliteStore, clock: MovedClock) -> None:
    """P21: or its runs would be taken for those of a crashed worker."""
    worker = await a_worker(store)
    claim = await start_and_claim(store, worker)
    await store.leave(worker)
    clock.move(timedelta(days=3))
    await a_worker(store)

    recovery = await recover(store)

    run = await store.get(claim.run_id)
    assert run is not None
    assert recovery.released == (claim.run_id,)
    assert run.crashes == 0


async def test_a_delay_beyond_the_calendar_ends_with_it(store: SqliteStore, clock: MovedClock) -> None:
    """P23: a stored time can always be read."""
    (run_id,) = await start(store, a_run(delay_s=1e300))

    run = await store.get(run_id)

    assert run is not None
    assert run.available_at == datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "when",
    [
        datetime.min.replace(tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 11, 5, 12, 0, 0, 1, tzinfo=UTC),
        datetime(5138, 11, 16, 9, 46, 39, 999999, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_moments_are_exact(when: datetime) -> None:
    """P24: `float` would lose microseconds in some of them."""
    assert moment(micros(when)) == when


def test_delays_are_exact_to_the_microsecond() -> None:
    assert later(5, 0.000001) == 6
    assert later(0, 86400.123456) == 86_400_123_456
