"""What a store tells of itself: `probe`, `replication_lag`, `backlog`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kagzi.model.probe import LaneBacklog
from kagzi.model.run import WorkerKey
from kagzi.store.protocol import Store
from kagzi.store.sql import budget
from tests.contract.builders import (
    HOSTILE_TEXTS,
    LONG_AGO,
    NAMESPACE,
    a_change,
    a_request,
    a_run,
    asleep,
    claim_one,
    commit,
    completed,
    start,
)

HOUR = timedelta(hours=1)


def counts(lanes: tuple[LaneBacklog, ...]) -> dict[tuple[str, str, int], int]:
    return {(lane.queue, lane.workflow, lane.version): lane.due for lane in lanes}


async def test_a_probe_tells_the_store_s_time_and_that_it_takes_writes(store: Store, worker: WorkerKey) -> None:
    before = (await store.workers(NAMESPACE))[0].now

    probe = await store.probe()

    after = (await store.workers(NAMESPACE))[0].now
    assert before <= probe.now <= after
    assert probe.now.utcoffset() == timedelta(0)
    assert probe.writable


async def test_a_store_that_is_not_migrated_can_be_probed(empty_store: Store) -> None:
    probe = await empty_store.probe()

    assert probe.writable


async def test_where_nothing_is_copied_no_lag_is_known(store: Store) -> None:
    assert await store.replication_lag() is None


async def test_an_empty_store_has_no_backlog(store: Store) -> None:
    backlog = await store.backlog(NAMESPACE, limit=10)

    assert backlog.lanes == ()
    assert backlog.complete
    assert abs(backlog.now - (await store.probe()).now) < timedelta(minutes=1)


async def test_due_runs_are_counted_by_queue_workflow_and_version(store: Store) -> None:
    await start(
        store,
        *(a_run(queue="mail") for _ in range(3)),
        *(a_run(queue="mail", version=2) for _ in range(2)),
        a_run(queue="mail", workflow="ship"),
        *(a_run(queue="fax", priority=priority) for priority in (-100, 0, 0, 100)),
        a_run(namespace="other"),
    )

    lanes = (await store.backlog(NAMESPACE, limit=10)).lanes

    assert list(counts(lanes).items()) == [
        (("fax", "order", 1), 4),
        (("mail", "order", 1), 3),
        (("mail", "order", 2), 2),
        (("mail", "ship", 1), 1),
    ]
    assert not any(lane.more for lane in lanes)


async def test_what_is_not_due_is_not_in_the_backlog(store: Store, worker: WorkerKey) -> None:
    await start(store, *(a_run() for _ in range(4)))
    claims = (await store.claim(a_request(worker, slots=4))).claims
    later = datetime.now(UTC) + HOUR
    await commit(
        store,
        a_change(claims[0], transition=completed()),
        a_change(claims[1], transition=asleep(later)),
        a_change(claims[2], transition=asleep(None)),
    )
    await start(store, a_run(delay_s=3600), a_run(workflow="ship", delay_s=3600))

    backlog = await store.backlog(NAMESPACE, limit=10)

    assert backlog.lanes == ()


async def test_the_oldest_run_of_a_lane_is_the_one_that_is_due_longest_whatever_its_priority(store: Store) -> None:
    await start(store, a_run(priority=5), a_run(available_at=LONG_AGO), a_run(priority=-5))

    (lane,) = (await store.backlog(NAMESPACE, limit=10)).lanes

    assert lane.oldest_due_at == LONG_AGO


async def test_a_run_waits_from_when_it_fell_due_not_from_when_it_was_started(store: Store, worker: WorkerKey) -> None:
    await start(store)
    claim = await claim_one(store, worker)
    await commit(store, a_change(claim, transition=asleep(LONG_AGO)))

    (lane,) = (await store.backlog(NAMESPACE, limit=10)).lanes

    assert lane.oldest_due_at == LONG_AGO


@pytest.mark.parametrize(("due", "counted", "more"), [(4, 4, False), (5, 5, False), (6, 5, True), (30, 5, True)])
async def test_counting_a_lane_ends_at_the_limit(store: Store, due: int, counted: int, more: bool) -> None:
    await start(store, *(a_run(priority=number % 2) for number in range(due)), a_run(queue="other"))

    lane, other = (await store.backlog(NAMESPACE, limit=5)).lanes

    assert (lane.due, lane.more) == (counted, more)
    assert (other.due, other.more) == (1, False)


async def test_counting_all_lanes_ends_at_ten_limits_and_every_lane_is_still_named(store: Store) -> None:
    await start(store, *(a_run(queue=f"q{number:02}") for number in range(30) for _ in range(3)))

    lanes = (await store.backlog(NAMESPACE, limit=2)).lanes

    assert len(lanes) == 30
    assert all(lane.due >= 1 for lane in lanes)
    assert sum(lane.due for lane in lanes) <= 30 + 2 * budget.LIMITS
    assert all(lane.more for lane in lanes)


async def test_no_more_lanes_are_looked_into_than_the_budget_allows(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for backend in ("postgres", "sqlite"):
        monkeypatch.setattr(f"kagzi.store.{backend}.health.LANES", 3)
    await start(store, *(a_run(queue=f"q{number}") for number in range(2)))
    few = await store.backlog(NAMESPACE, limit=10)
    await start(store, *(a_run(queue=f"q{number}") for number in range(5)))

    many = await store.backlog(NAMESPACE, limit=10)

    assert (len(few.lanes), few.complete) == (2, True)
    assert (len(many.lanes), many.complete) == (3, False)


@pytest.mark.parametrize("text", [text[:255] for text in HOSTILE_TEXTS.values()], ids=HOSTILE_TEXTS)
async def test_names_come_back_as_they_are(store: Store, text: str) -> None:
    await start(store, a_run(queue=text, workflow=text), a_run(queue="other"))

    lanes = (await store.backlog(NAMESPACE, limit=10)).lanes

    assert {(lane.queue, lane.workflow) for lane in lanes} == {(text, text), ("other", "order")}
