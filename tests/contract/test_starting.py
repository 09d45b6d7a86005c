"""Starting runs: `Store.start`."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from kagzi.model.run import RunFilter, RunStatus, WorkerKey
from kagzi.store.protocol import Store
from tests.contract.builders import (
    FAR_AHEAD,
    HOSTILE_TEXTS,
    LONG_AGO,
    NAMESPACE,
    a_registration,
    a_request,
    a_run,
    a_run_id,
    a_worker,
    a_worker_key,
    expire,
    start,
)


async def test_nothing_to_start_starts_nothing(store: Store) -> None:
    assert await store.start([]) == []


async def test_a_started_run_is_stored_as_it_was_given(store: Store) -> None:
    """P2: what `start` has answered is there."""
    (parent,) = await start(store)
    run = a_run(
        id="order-1",
        queue="slow",
        priority=-3,
        version=7,
        tags=("a", "b c"),
        attributes='{"x":1}',
        parent_run_id=parent,
    )

    (started,) = await store.start([run])

    stored = await store.get(run.run_id)
    assert stored is not None
    assert (started.run_id, started.created, started.claimed) == (run.run_id, True, False)
    assert (started.workflow, started.input) == (run.workflow, run.input)
    for field in (
        *("run_id", "id", "namespace", "workflow", "version", "input", "queue", "priority", "tags", "attributes"),
        "parent_run_id",
    ):
        assert getattr(stored, field) == getattr(run, field), field
    assert (stored.status, stored.fence, stored.attempts) == (RunStatus.PENDING, 0, 1)
    assert (stored.crashes, stored.wakeups, stored.inbox) == (0, 0, 0)
    assert (stored.output, stored.error, stored.waits, stored.worker_key) == (None, None, None, None)
    assert (stored.started_at, stored.finished_at) == (None, None)
    assert stored.created_at == stored.available_at == started.now
    assert started.now.utcoffset() == timedelta(0)


async def test_a_hundred_concurrent_starts_with_one_id_make_one_run(store: Store) -> None:
    """P1."""
    runs = [a_run(id="only", input=f'{{"args":[{number}]}}') for number in range(100)]

    answers = [answer for (answer,) in await asyncio.gather(*(store.start([run]) for run in runs))]

    assert len({answer.run_id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    assert len({answer.input for answer in answers}) == 1
    (stored,) = await store.find(RunFilter(namespace=NAMESPACE))
    assert stored.run_id == answers[0].run_id


async def test_a_start_under_a_taken_id_answers_with_the_run_that_is_there(store: Store) -> None:
    """P1: so that the caller can tell whether it conflicts."""
    first = a_run(id="taken", workflow="one", input='{"args":["first"]}')
    await store.start([first])

    (answer,) = await store.start([a_run(id="taken", workflow="two", input='{"args":["second"]}')])

    assert (answer.run_id, answer.created, answer.claimed) == (first.run_id, False, False)
    assert (answer.workflow, answer.input) == ("one", '{"args":["first"]}')


async def test_one_id_in_two_namespaces_is_two_runs(store: Store) -> None:
    """P1: at most one run per (namespace, id)."""
    answers = await store.start([a_run(id="same"), a_run(id="same", namespace="elsewhere")])

    assert [answer.created for answer in answers] == [True, True]


async def test_runs_without_an_id_are_all_different(store: Store) -> None:
    answers = await store.start([a_run() for _ in range(20)])

    assert all(answer.created for answer in answers)
    assert len(await store.find(RunFilter(namespace=NAMESPACE))) == 20


@pytest.mark.parametrize("given_id", [None, "mine"])
async def test_the_same_start_again_is_the_same_run(store: Store, given_id: str | None) -> None:
    """P4: a start whose answer was lost is tried again under its run_id, and counts as created."""
    run = a_run(id=given_id)
    await store.start([run])

    (again,) = await store.start([run])

    assert (again.run_id, again.created) == (run.run_id, True)
    assert len(await store.find(RunFilter(namespace=NAMESPACE))) == 1


async def test_a_batch_with_duplicates_answers_each_in_order(store: Store) -> None:
    first, other, twin = a_run(id="x"), a_run(id="y"), a_run(id="x")
    retried = a_run()

    answers = await store.start([first, retried, other, twin, retried])

    assert sum(answer.created for answer in (answers[0], answers[3])) == 1
    assert answers[0].run_id == answers[3].run_id
    assert [answers[place].run_id for place in (1, 2, 4)] == [retried.run_id, other.run_id, retried.run_id]
    assert all(answers[place].created for place in (1, 2, 4))
    assert len(await store.find(RunFilter(namespace=NAMESPACE))) == 3


async def test_batches_that_share_ids_in_opposite_orders_all_get_answers(store: Store) -> None:
    """P1, P14: two batches never wait for each other for ever."""
    ids = [f"id-{number}" for number in range(50)]
    batches = [[a_run(id=each) for each in (ids if number % 2 else reversed(ids))] for number in range(8)]

    answers = await asyncio.gather(*(store.start(batch) for batch in batches))

    by_id = {
        (run.id, answer.run_id)
        for batch, given in zip(batches, answers, strict=True)
        for run, answer in zip(batch, given, strict=True)
    }
    assert len(by_id) == len(ids)
    assert sum(answer.created for given in answers for answer in given) == len(ids)


async def test_many_in_one_batch_are_all_stored(store: Store) -> None:
    runs = [a_run() for _ in range(1003)]

    answers = await store.start(runs)

    assert [answer.run_id for answer in answers] == [run.run_id for run in runs]
    assert await store.existing([run.run_id for run in runs]) == {run.run_id for run in runs}


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS.keys())
async def test_texts_come_back_as_they_were_given(store: Store, text: str) -> None:
    """P24."""
    short = text[:500]  # where it stands in an index: PostgreSQL takes at most 2,700 bytes there
    run = a_run(id=short, workflow=short, queue=short, namespace=short, tags=(text, short), input=text, attributes=text)

    await store.start([run])

    stored = await store.get(run.run_id)
    assert stored is not None
    assert (stored.input, stored.tags, stored.attributes) == (text, (text, short), text)
    assert (stored.id, stored.workflow, stored.queue, stored.namespace) == (short, short, short, short)
    (found,) = await store.find(RunFilter(namespace=short, id=short, workflow=short, queue=short, tags=(text,)))
    assert found.run_id == run.run_id


async def test_a_megabyte_of_input_comes_back(store: Store) -> None:
    """P24."""
    run = a_run(input="é" * 1_000_000)

    await store.start([run])

    stored = await store.get(run.run_id)
    assert stored is not None
    assert stored.input == run.input


async def test_a_delayed_run_falls_due_by_the_clock_of_the_store(store: Store) -> None:
    """P7, P18."""
    run = a_run(delay_s=1234.567891)

    (started,) = await store.start([run])

    stored = await store.get(run.run_id)
    assert stored is not None
    assert stored.available_at == started.now + timedelta(seconds=1234.567891)


@pytest.mark.parametrize("moment", [LONG_AGO, FAR_AHEAD])
async def test_a_run_for_a_moment_falls_due_then(store: Store, moment: object) -> None:
    run = a_run(available_at=moment)

    await store.start([run])

    stored = await store.get(run.run_id)
    assert stored is not None
    assert stored.available_at == moment


# -- eager starts ------------------------------------------------------------------------------------------------


async def test_an_eager_start_is_born_with_its_owner(store: Store, worker: WorkerKey) -> None:
    run = a_run(owner=worker)

    (started,) = await store.start([run])

    stored = await store.get(run.run_id)
    assert stored is not None
    assert started.claimed
    assert (stored.status, stored.fence, stored.worker_key) == (RunStatus.RUNNING, 1, worker)
    assert (stored.started_at, stored.available_at) == (started.now, None)
    assert [(owned.run_id, owned.fence) for owned in await store.owned(worker)] == [(run.run_id, 1)]
    assert (await store.claim(a_request(worker))).claims == ()


async def test_the_same_eager_start_again_is_still_claimed(store: Store, worker: WorkerKey) -> None:
    """P4."""
    run = a_run(owner=worker)
    await store.start([run])

    (again,) = await store.start([run])

    assert (again.created, again.claimed) == (True, True)


async def test_an_eager_start_of_a_run_that_another_worker_has_claims_nothing(store: Store, worker: WorkerKey) -> None:
    """P5."""
    run = a_run(owner=worker)
    await store.start([run])

    (again,) = await store.start([a_run(run_id=run.run_id, owner=await a_worker(store))])

    assert (again.created, again.claimed) == (True, False)


async def test_an_eager_start_under_a_taken_id_claims_nothing(store: Store, worker: WorkerKey) -> None:
    """P5: the run that is there has its own owner, or none."""
    await store.start([a_run(id="taken", owner=worker)])

    (answer,) = await store.start([a_run(id="taken", owner=worker)])

    assert (answer.created, answer.claimed) == (False, False)


@pytest.mark.parametrize("how", ["unknown", "stopped", "expired"])
async def test_an_eager_start_for_a_worker_that_is_gone_is_pending(store: Store, how: str) -> None:
    """P14: the run is stored all the same, for others to take."""
    owner = a_worker_key()
    if how != "unknown":
        await store.register(a_registration(key=owner))
    if how == "stopped":
        await store.leave(owner)
    if how == "expired":
        await expire(store, owner)
    run = a_run(owner=owner)

    (started,) = await store.start([run])

    stored = await store.get(run.run_id)
    assert stored is not None
    assert (started.created, started.claimed) == (True, False)
    assert (stored.status, stored.fence, stored.worker_key) == (RunStatus.PENDING, 0, None)
    assert stored.available_at == started.now


async def test_an_eager_start_that_is_not_due_yet_is_pending(store: Store, worker: WorkerKey) -> None:
    """P18."""
    (started,) = await store.start([a_run(owner=worker, delay_s=3600)])

    assert not started.claimed
    assert await store.owned(worker) == []


async def test_a_batch_may_mix_eager_and_other_starts(store: Store, worker: WorkerKey) -> None:
    runs = [a_run(owner=worker if number % 2 else None, run_id=a_run_id()) for number in range(7)]

    answers = await store.start(runs)

    assert [answer.claimed for answer in answers] == [bool(number % 2) for number in range(7)]
