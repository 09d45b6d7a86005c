"""Runs whose code did not fit: looking at them again, and reading them without taking them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from kagzi.model.change import Transition
from kagzi.model.run import WorkerKey
from kagzi.store.protocol import Store
from tests.contract.builders import (
    FAR_AHEAD,
    NAMESPACE,
    QUEUE,
    WORKFLOW,
    a_change,
    a_record,
    a_request,
    a_run,
    a_worker_key,
    asleep,
    commit,
    ids_of,
    start,
    start_and_claim,
)


async def test_runs_set_aside_are_reconsidered_in_the_lanes_of_the_worker(store: Store, worker: WorkerKey) -> None:
    """P16, P27: they become due, and neither plain sleepers nor other lanes do."""
    now = (await store.probe()).now
    soon, late = now + timedelta(seconds=20), now + timedelta(hours=1)
    kinds: dict[str, tuple[dict[str, Any], Transition]] = {
        "aside": ({"priority": 3}, asleep(soon, error="{}")),
        "asleep": ({}, asleep(soon)),
        "late": ({}, asleep(late, error="{}")),
        "elsewhere": ({"queue": "other"}, asleep(soon, error="{}")),
        "version 2": ({"version": 2}, asleep(soon, error="{}")),
        "in another namespace": ({"namespace": "other"}, asleep(soon, error="{}")),
    }
    everything = {"queues": (QUEUE, "other"), "workflows": ((WORKFLOW, 1), (WORKFLOW, 2))}
    runs = {}
    for name, (fields, transition) in kinds.items():
        (runs[name],) = await start(store, a_run(**fields))
        namespace = fields.get("namespace", NAMESPACE)
        claimed = await store.claim(a_request(worker, namespace=namespace, **everything))
        await commit(store, a_change(claimed.claims[0], transition=transition))
    await start(store, a_run(delay_s=20))

    assert await store.reconsider(a_request(a_worker_key()), within=timedelta(seconds=30)) == 0
    assert await store.reconsider(a_request(worker), within=timedelta(seconds=30)) == 1
    assert ids_of((await store.claim(a_request(worker, **everything))).claims) == [runs["aside"]]


async def test_no_more_runs_are_reconsidered_than_asked_for(store: Store, worker: WorkerKey) -> None:
    now = (await store.probe()).now
    await start(store, *[a_run(priority=number % 3) for number in range(9)])
    claims = (await store.claim(a_request(worker))).claims
    aside = asleep(now + timedelta(seconds=20), error="{}")
    await store.commit([a_change(claim, transition=aside) for claim in claims])

    found = [await store.reconsider(a_request(worker, slots=5), within=timedelta(seconds=30)) for _ in range(3)]

    assert found == [5, 4, 0]


async def test_runs_are_recalled_as_a_claim_gives_them_and_stay_as_they_are(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    parked = asleep(FAR_AHEAD, parked='{"seq":2,"on":[]}')
    await commit(store, a_change(claim, a_record(2), a_record(1)), a_change(claim, transition=parked))
    (fresh,) = await start(store, a_run(delay_s=60))
    before = [await store.get(run_id) for run_id in (claim.run_id, fresh)]

    recalled = {each.run_id: each for each in await store.recall([claim.run_id, fresh, "no id", claim.run_id])}  # type: ignore[list-item] # people type them

    assert set(recalled) == {claim.run_id, fresh}
    found = recalled[claim.run_id]
    assert [record.seq for record in found.history] == [1, 2]
    assert (found.fence, found.parked, found.input) == (1, '{"seq":2,"on":[]}', claim.input)
    assert found.started_at == claim.started_at
    assert (recalled[fresh].fence, recalled[fresh].history) == (0, ())
    assert [await store.get(run_id) for run_id in (claim.run_id, fresh)] == before


async def test_a_run_in_its_worker_s_hands_is_recalled_with_what_it_has_recorded(
    store: Store, worker: WorkerKey
) -> None:
    claim = await start_and_claim(store, worker)
    await commit(store, a_change(claim, a_record(1)))

    (recalled,) = await store.recall([claim.run_id])

    assert [record.seq for record in recalled.history] == [1]
