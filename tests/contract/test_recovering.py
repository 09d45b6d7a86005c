"""Bringing back the runs of workers that are gone: `Store.recover`."""

from __future__ import annotations

import asyncio

from kagzi.model.run import RunStatus, WorkerKey
from kagzi.model.worker import Recovery, WorkerState
from kagzi.store.protocol import Store
from tests.contract.builders import (
    NAMESPACE,
    POISON_ERROR,
    a_change,
    a_policy,
    a_record,
    a_request,
    a_run,
    a_worker,
    asleep,
    claim_one,
    commit,
    completed,
    expire,
    given_back,
    ids_of,
    kill,
    recover,
    start,
    start_and_claim,
)


async def test_where_nothing_is_wrong_nothing_happens(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)

    recovery = await recover(store)

    assert recovery == Recovery()
    assert [owned.run_id for owned in await store.owned(worker)] == [claim.run_id]


async def test_the_runs_of_a_dead_worker_are_due_at_once(store: Store, worker: WorkerKey) -> None:
    """P8."""
    await start(store, *(a_run() for _ in range(5)))
    claims = (await store.claim(a_request(worker))).claims

    recovery = await kill(store, worker)

    assert set(recovery.released) == set(ids_of(claims))
    assert (recovery.poisoned, recovery.dead, recovery.more) == ((), (worker,), False)
    for run_id in recovery.released:
        run = await store.get(run_id)
        assert run is not None
        assert (run.status, run.worker_key, run.fence, run.crashes) == (RunStatus.PENDING, None, 2, 1)
        assert run.available_at is not None
    again = (await store.claim(a_request(await a_worker(store)))).claims
    assert set(ids_of(again)) == set(recovery.released)
    assert {claim.fence for claim in again} == {3}


async def test_a_dead_worker_is_told_so_and_stays_dead(store: Store, worker: WorkerKey) -> None:
    await kill(store, worker)

    (stored,) = await store.workers(NAMESPACE)
    assert stored.state is WorkerState.DEAD
    assert await recover(store) == Recovery()


async def test_a_lease_renewed_in_time_keeps_its_runs(store: Store, worker: WorkerKey) -> None:
    """P8: the other side of it."""
    claim = await start_and_claim(store, worker)
    other = await a_worker(store)

    recovery = await kill(store, other)

    run = await store.get(claim.run_id)
    assert run is not None
    assert recovery.dead == (other,)
    assert run.status is RunStatus.RUNNING


async def test_runs_that_the_worker_had_let_go_of_are_left_alone(store: Store, worker: WorkerKey) -> None:
    """P13."""
    transitions = [given_back(), asleep(), completed()]
    claims = [await start_and_claim(store, worker) for _ in transitions]
    changes = [a_change(claim, transition=each) for claim, each in zip(claims, transitions, strict=True)]
    await commit(store, *changes)
    before = [await store.get(claim.run_id) for claim in claims]

    recovery = await kill(store, worker)

    assert recovery.released == ()
    assert [await store.get(claim.run_id) for claim in claims] == before


async def test_the_runs_of_a_stopped_worker_come_back_without_a_crash(store: Store, worker: WorkerKey) -> None:
    """P21: leaving is no crash."""
    claim = await start_and_claim(store, worker)
    await store.leave(worker)

    recovery = await recover(store, a_policy(poison_after=1))

    run = await store.get(claim.run_id)
    assert run is not None
    assert (recovery.released, recovery.poisoned, recovery.dead) == ((claim.run_id,), (), ())
    assert (run.status, run.crashes, run.fence) == (RunStatus.PENDING, 0, 2)


async def test_other_namespaces_are_left_alone(store: Store) -> None:
    expired, stopped = [await a_worker(store, namespace="other") for _ in range(2)]
    for other in (expired, stopped):
        await store.start([a_run(namespace="other")])
        await store.claim(a_request(other, namespace="other"))
    await expire(store, expired)
    await store.leave(stopped)

    assert await recover(store) == Recovery()
    assert [len(await store.owned(other)) for other in (expired, stopped)] == [1, 1]


async def test_recovery_goes_on_a_batch_at_a_time(store: Store, worker: WorkerKey) -> None:
    runs = await start(store, *(a_run() for _ in range(25)))
    await store.claim(a_request(worker))
    passes = [await kill(store, worker, a_policy(batch=10))]

    while passes[-1].more:
        passes.append(await recover(store, a_policy(batch=10)))

    assert [len(each.released) for each in passes] == [10, 10, 5]
    assert {run_id for each in passes for run_id in each.released} == set(runs)


async def test_concurrent_recoveries_bring_each_run_back_once(store: Store, worker: WorkerKey) -> None:
    """P5: the fence goes up by one."""
    runs = await start(store, *(a_run() for _ in range(40)))
    await store.claim(a_request(worker))
    await store.leave(worker)

    passes = await asyncio.gather(*(recover(store, a_policy(batch=7)) for _ in range(12)))

    released = [run_id for each in passes for run_id in each.released]
    assert sorted(released) == sorted(runs)
    for run_id in runs:
        run = await store.get(run_id)
        assert run is not None
        assert run.fence == 2


# -- poison ------------------------------------------------------------------------------------------------------


async def test_a_run_that_keeps_killing_its_worker_is_set_aside(store: Store) -> None:
    """P22."""
    (run_id,) = await start(store)
    policy = a_policy(poison_after=3)
    recoveries = []

    for _ in range(3):
        worker = await a_worker(store)
        await claim_one(store, worker)
        recoveries.append(await kill(store, worker, policy))

    run = await store.get(run_id)
    assert run is not None
    assert [each.released for each in recoveries] == [(run_id,), (run_id,), ()]
    assert recoveries[-1].poisoned == (run_id,)
    assert (run.status, run.error, run.crashes, run.fence) == (RunStatus.FAILED, POISON_ERROR, 3, 6)
    assert run.finished_at is not None
    assert (run.worker_key, run.available_at) == (None, None)


async def test_a_run_set_aside_can_not_be_written_by_its_last_owner(store: Store, worker: WorkerKey) -> None:
    """P6, P13."""
    claim = await start_and_claim(store, worker)
    await kill(store, worker, a_policy(poison_after=1))

    await commit(store, a_change(claim, a_record(1), transition=completed()))

    run = await store.get(claim.run_id)
    assert run is not None
    assert (run.status, run.output) == (RunStatus.FAILED, None)
    assert await store.steps(claim.run_id) == []


async def test_a_new_checkpoint_begins_the_count_of_crashes_afresh(store: Store) -> None:
    """P22: only crashes in a row, without one new checkpoint, count."""
    (run_id,) = await start(store)
    crashes = []

    for crash in range(6):
        worker = await a_worker(store)
        claim = await claim_one(store, worker)
        if crash in {2, 4}:
            await commit(store, a_change(claim, a_record(crash)))
        await kill(store, worker, a_policy(poison_after=3))
        run = await store.get(run_id)
        assert run is not None
        crashes.append(run.crashes)

    assert crashes == [1, 2, 1, 2, 1, 2]


async def test_a_stop_between_crashes_neither_counts_nor_clears(store: Store) -> None:
    """P21, P22."""
    (run_id,) = await start(store)
    crashes = []

    for how in ("crash", "stop", "crash"):
        worker = await a_worker(store)
        await claim_one(store, worker)
        if how == "crash":
            await kill(store, worker)
        else:
            await store.leave(worker)
            await recover(store, a_policy(poison_after=1))
        run = await store.get(run_id)
        assert run is not None
        crashes.append(run.crashes)

    assert crashes == [1, 1, 2]


async def test_a_claim_tells_how_many_workers_died_with_the_run_in_a_row(store: Store, worker: WorkerKey) -> None:
    """P22: and none once something was recorded since, although the next crash has not told yet."""
    claim = await start_and_claim(store, worker)
    told = [claim.crashes]
    for _ in range(2):
        await kill(store, worker)
        worker = await a_worker(store)
        claim = await claim_one(store, worker)
        told.append(claim.crashes)

    await commit(store, a_change(claim, a_record(1), transition=given_back()))
    told.append((await claim_one(store, worker)).crashes)
    await kill(store, worker)
    told.append((await claim_one(store, await a_worker(store))).crashes)

    assert told == [0, 1, 2, 0, 1]
