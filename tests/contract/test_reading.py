"""Looking at runs: `get`, `find`, `steps`, `outcomes`, `existing`, `count_open`, and the default versions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest

from kagzi.model.change import Transition
from kagzi.model.run import RunFilter, RunId, RunStatus, WorkerKey
from kagzi.store.protocol import Store
from tests.contract.builders import (
    NAMESPACE,
    a_change,
    a_record,
    a_request,
    a_run,
    a_run_id,
    asleep,
    commit,
    completed,
    start,
    start_and_claim,
)


def wanted(**fields: object) -> RunFilter:
    return RunFilter(**({"namespace": NAMESPACE} | fields))  # type: ignore[arg-type]  # the test names real fields


async def test_what_is_not_there_is_not_found(store: Store) -> None:
    nobody = a_run_id()

    assert await store.get(nobody) is None
    assert await store.steps(nobody) == []
    assert await store.outcomes([nobody]) == []
    assert await store.existing([nobody]) == set()
    assert await store.find(wanted()) == []


@pytest.mark.parametrize("text", ["", "nonsense", "01890000-0000", "' OR 1=1 --", "x" * 5000])
async def test_an_id_that_nobody_can_have_is_not_found(store: Store, text: str) -> None:
    """P23: it may come from a command line."""
    assert await store.get(RunId(text)) is None
    assert await store.steps(RunId(text)) == []
    assert await store.outcomes([RunId(text)]) == []
    assert await store.existing([RunId(text)]) == set()


# -- listings ----------------------------------------------------------------------------------------------------


async def test_a_listing_is_newest_first_and_without_payloads(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker, attributes='{"a":1}', tags=("t",))
    await commit(store, a_change(claim, transition=completed()))
    runs = [claim.run_id, *await start(store, *(a_run() for _ in range(3)))]

    found = await store.find(wanted())

    assert [run.run_id for run in found] == runs[::-1]
    assert {(run.input, run.output, run.error) for run in found} == {(None, None, None)}
    assert (found[-1].status, found[-1].attributes, found[-1].tags) == (RunStatus.COMPLETED, '{"a":1}', ("t",))


async def test_pages_are_stable_while_runs_are_started(store: Store) -> None:
    runs = sorted(await start(store, *(a_run() for _ in range(25))), reverse=True)
    pages: list[list[RunId]] = []
    cursor = None

    while page := await store.find(wanted(limit=7, cursor=cursor)):
        pages.append([run.run_id for run in page])
        cursor = page[-1].run_id
        await start(store)

    assert [len(page) for page in pages] == [7, 7, 7, 4]
    assert [run_id for page in pages for run_id in page] == runs


@pytest.mark.parametrize(
    "fields",
    [
        {"workflow": "ship"},
        {"queue": "slow"},
        {"tags": ("red",)},
        {"tags": ("red", "blue")},
        {"id": "special"},
        {"namespace": "other"},
        {"workflow": "ship", "queue": "slow", "tags": ("blue", "red"), "id": "special", "namespace": "other"},
    ],
    ids=lambda fields: "+".join(fields),
)
async def test_a_listing_holds_what_fits_all_that_is_asked(store: Store, fields: Mapping[str, object]) -> None:
    given = dict(fields)
    (hit,) = await start(store, a_run(**(given | {"tags": ("red", "green", "blue")} if "tags" in given else given)))
    await start(store, a_run(), a_run(tags=("green", "re", "redd")), a_run(id="other"))

    found = await store.find(wanted(**given))

    assert [run.run_id for run in found] == [hit]


async def test_a_listing_of_children_by_pages(store: Store) -> None:
    (parent, other) = await start(store, a_run(), a_run())
    children = await start(store, *(a_run(parent_run_id=parent) for _ in range(5)))
    await start(store, a_run(parent_run_id=other), a_run(parent_run_id=parent, namespace="elsewhere"))

    first = await store.find(wanted(parent=parent, limit=3))
    second = await store.find(wanted(parent=parent, limit=3, cursor=first[-1].run_id))
    narrowed = await store.find(wanted(parent=parent, status=RunStatus.RUNNING))

    assert [run.run_id for run in (*first, *second)] == sorted(children, reverse=True)
    assert narrowed == []


async def test_a_listing_by_status(store: Store, worker: WorkerKey) -> None:
    endings = {
        RunStatus.COMPLETED: completed(),
        RunStatus.FAILED: Transition(status=RunStatus.FAILED, error="{}"),
        RunStatus.CANCELLED: Transition(status=RunStatus.CANCELLED),
        RunStatus.SLEEPING: asleep(),
        RunStatus.RUNNING: None,
    }
    runs = {status: (await start_and_claim(store, worker)) for status in endings}
    for status, transition in endings.items():
        if transition is not None:
            await commit(store, a_change(runs[status], transition=transition))
    (pending,) = await start(store)

    found = {status: [run.run_id for run in await store.find(wanted(status=status))] for status in RunStatus}

    assert found == {status: [claim.run_id] for status, claim in runs.items()} | {RunStatus.PENDING: [pending]}


async def test_a_listing_of_what_was_created_after_a_moment(store: Store) -> None:
    (old,) = await start(store)
    stored = await store.get(old)
    assert stored is not None
    (new,) = await start(store)

    found = await store.find(wanted(created_after=stored.created_at))
    both = await store.find(wanted(created_after=stored.created_at - timedelta(microseconds=1)))

    assert [run.run_id for run in found] == [new]
    assert [run.run_id for run in both] == [new, old]


# -- outcomes ----------------------------------------------------------------------------------------------------


async def test_outcomes_are_given_of_the_runs_that_have_ended(store: Store, worker: WorkerKey) -> None:
    done, failed, open_one = [await start_and_claim(store, worker) for _ in range(3)]
    await commit(
        store,
        a_change(done, transition=completed('"yes"')),
        a_change(failed, transition=Transition(status=RunStatus.FAILED, error='{"kind":"TIMEOUT"}')),
    )

    outcomes = await store.outcomes([open_one.run_id, failed.run_id, a_run_id(), done.run_id])

    assert {(each.run_id, each.status, each.output, each.error) for each in outcomes} == {
        (done.run_id, RunStatus.COMPLETED, '"yes"', None),
        (failed.run_id, RunStatus.FAILED, None, '{"kind":"TIMEOUT"}'),
    }


async def test_an_outcome_is_there_as_soon_as_the_commit_is_answered(store: Store, worker: WorkerKey) -> None:
    """P2: what was answered is seen by every later read."""
    for _ in range(50):
        claim = await start_and_claim(store, worker)
        assert await store.outcomes([claim.run_id]) == []
        await commit(store, a_change(claim, a_record(1), transition=completed()))

        (outcome,) = await store.outcomes([claim.run_id])

        assert outcome.status is RunStatus.COMPLETED
        assert len(await store.steps(claim.run_id)) == 1


async def test_asking_for_many_outcomes_at_once(store: Store, worker: WorkerKey) -> None:
    runs = await start(store, *(a_run() for _ in range(500)))
    claims = (await store.claim(a_request(worker, slots=250))).claims
    await commit(store, *(a_change(claim, transition=completed()) for claim in claims))

    outcomes = await store.outcomes(runs)

    assert {outcome.run_id for outcome in outcomes} == {claim.run_id for claim in claims}


async def test_nothing_asked_is_nothing_answered(store: Store) -> None:
    assert await store.outcomes([]) == []
    assert await store.existing([]) == set()


async def test_existing_says_which_are_there(store: Store) -> None:
    runs = await start(store, a_run(), a_run(namespace="other"))

    assert await store.existing([*runs, a_run_id(), runs[0]]) == set(runs)


async def test_open_runs_are_counted_by_workflow_and_version(store: Store, worker: WorkerKey) -> None:
    claims = [await start_and_claim(store, worker) for _ in range(3)]
    await commit(store, a_change(claims[0], transition=completed()), a_change(claims[1], transition=asleep()))
    await start(store, a_run(version=2), a_run(version=2, delay_s=60), a_run(namespace="other"), a_run(workflow="ship"))

    assert await store.count_open(NAMESPACE) == {("order", 1): 2, ("order", 2): 2, ("ship", 1): 1}
