"""The register of workers: `register`, `beat`, `leave`, `owned`, `workers`."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kagzi.model.run import WorkerKey
from kagzi.model.worker import Beat, WorkerState
from kagzi.store.protocol import Store
from tests.contract.builders import (
    NAMESPACE,
    a_change,
    a_registration,
    a_request,
    a_run,
    a_worker,
    a_worker_key,
    commit,
    expire,
    given_back,
    kill,
    start,
)

MINUTE = timedelta(minutes=1)


async def test_a_registration_is_stored_as_it_was_given(store: Store) -> None:
    registration = a_registration(
        worker_id="wörker '1'",
        queues=("b", "a"),
        workflows=(("ship", 2), ("order", 1)),
        slots=7,
        build_id="abc",
        lease=timedelta(seconds=30, microseconds=1),
    )

    answer = await store.register(registration)

    (stored,) = await store.workers(NAMESPACE)
    assert answer.alive
    for field in ("key", "worker_id", "namespace", "host", "pid", "queues", "workflows", "slots", "build_id"):
        assert getattr(stored, field) == getattr(registration, field), field
    assert (stored.state, stored.load) == (WorkerState.STARTING, None)
    assert stored.registered_at == stored.beat_at == answer.now
    assert stored.lease_until == answer.now + registration.lease


async def test_the_same_registration_again_only_renews(store: Store) -> None:
    """P4."""
    registration = a_registration()
    first = await store.register(registration)

    again = await store.register(registration)

    (stored,) = await store.workers(NAMESPACE)
    assert again.alive
    assert stored.registered_at == first.now
    assert stored.lease_until == again.now + registration.lease


async def test_a_beat_renews_the_lease_and_shows_what_goes_on(store: Store, worker: WorkerKey) -> None:
    answer = await store.beat(
        Beat(worker=worker, lease=timedelta(hours=1), state=WorkerState.DRAINING, load='{"running":3}')
    )

    (stored,) = await store.workers(NAMESPACE)
    assert answer.alive
    assert (stored.state, stored.load) == (WorkerState.DRAINING, '{"running":3}')
    assert (stored.beat_at, stored.lease_until) == (answer.now, answer.now + timedelta(hours=1))


async def test_a_lease_that_ran_out_can_be_renewed_until_somebody_declares_the_worker_dead(
    store: Store, worker: WorkerKey
) -> None:
    await start(store)
    await expire(store, worker)

    answer = await store.beat(Beat(worker=worker, lease=MINUTE))

    assert answer.alive
    assert len((await store.claim(a_request(worker))).claims) == 1


@pytest.mark.parametrize("how", ["unknown", "stopped", "dead"])
async def test_a_beat_never_revives(store: Store, worker: WorkerKey, how: str) -> None:
    """P5: its runs may have other owners already."""
    match how:
        case "unknown":
            worker = a_worker_key()
        case "stopped":
            await store.leave(worker)
        case "dead":
            await kill(store, worker)

    answer = await store.beat(Beat(worker=worker, lease=MINUTE))

    assert not answer.alive
    assert answer.now.utcoffset() == timedelta(0)
    states = {stored.key: stored.state for stored in await store.workers(NAMESPACE)}
    assert states.get(worker) is {"unknown": None, "stopped": WorkerState.STOPPED, "dead": WorkerState.DEAD}[how]


async def test_a_registration_that_ended_can_not_be_entered_again(store: Store) -> None:
    registration = a_registration()
    await store.register(registration)
    await store.leave(registration.key)

    answer = await store.register(registration)

    (stored,) = await store.workers(NAMESPACE)
    assert not answer.alive
    assert stored.state is WorkerState.STOPPED


async def test_a_worker_that_is_asked_to_drain_learns_it_from_its_next_beat(store: Store, worker: WorkerKey) -> None:
    other = await a_worker(store)
    before = await store.beat(Beat(worker=worker, lease=MINUTE))

    asked = await store.ask_drain(NAMESPACE, [worker])

    answers = [await store.beat(Beat(worker=worker, lease=MINUTE)) for _ in range(2)]
    flags = {stored.key: stored.drain_asked for stored in await store.workers(NAMESPACE)}
    assert asked == {worker}
    assert not before.drain
    assert all(answer.alive and answer.drain for answer in answers)
    assert not (await store.beat(Beat(worker=other, lease=MINUTE))).drain
    assert flags == {worker: True, other: False}
    assert await store.is_asked_to_drain(worker)
    assert not await store.is_asked_to_drain(other)


async def test_only_living_workers_of_the_namespace_can_be_asked_to_drain(store: Store, worker: WorkerKey) -> None:
    elsewhere, stopped, dead = await a_worker(store, namespace="other"), await a_worker(store), await a_worker(store)
    await store.leave(stopped)
    await kill(store, dead)
    nobody = a_worker_key()

    asked = await store.ask_drain(NAMESPACE, [worker, elsewhere, stopped, dead, nobody, WorkerKey("w'1")])
    again = await store.ask_drain(NAMESPACE, [worker])
    none = await store.ask_drain(NAMESPACE, [])

    assert (asked, again, none) == ({worker}, {worker}, set())
    for key in (elsewhere, stopped, dead, nobody):
        assert not await store.is_asked_to_drain(key)


async def test_a_worker_declared_dead_before_it_learned_that_it_is_to_drain_learns_it_all_the_same(
    store: Store, worker: WorkerKey
) -> None:
    await store.ask_drain(NAMESPACE, [worker])
    await kill(store, worker)

    answer = await store.beat(Beat(worker=worker, lease=MINUTE))

    assert (answer.alive, answer.drain) == (False, True)


async def test_leaving_twice_or_unknown_is_nothing_special(store: Store, worker: WorkerKey) -> None:
    await store.leave(worker)
    await store.leave(worker)
    await store.leave(a_worker_key())

    (stored,) = await store.workers(NAMESPACE)
    assert stored.state is WorkerState.STOPPED


async def test_a_dead_worker_that_leaves_stays_dead(store: Store, worker: WorkerKey) -> None:
    await kill(store, worker)

    await store.leave(worker)

    (stored,) = await store.workers(NAMESPACE)
    assert stored.state is WorkerState.DEAD


async def test_workers_are_listed_latest_first_and_by_namespace(store: Store) -> None:
    keys = [await a_worker(store) for _ in range(3)]
    await a_worker(store, namespace="other")

    listed = [stored.key for stored in await store.workers(NAMESPACE)]

    assert listed == keys[::-1]


async def test_owned_lists_what_the_store_holds_for_a_worker(store: Store, worker: WorkerKey) -> None:
    other = await a_worker(store)
    await start(store, *(a_run() for _ in range(6)))
    mine = (await store.claim(a_request(worker, slots=4))).claims
    await store.claim(a_request(other, slots=2))
    await commit(store, a_change(mine[0], transition=given_back()))

    owned = await store.owned(worker)

    assert {(each.run_id, each.fence) for each in owned} == {(claim.run_id, claim.fence) for claim in mine[1:]}
    assert await store.owned(a_worker_key()) == []
