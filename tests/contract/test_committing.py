"""Writing what executions did: `Store.commit`."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from kagzi.model.change import Applied, Change, Transition
from kagzi.model.run import RunStatus, WorkerKey
from kagzi.model.step import OpenStep, StepStatus
from kagzi.model.worker import Beat
from kagzi.store.protocol import Store
from tests.contract.builders import (
    FAR_AHEAD,
    HOSTILE_TEXTS,
    LONG_AGO,
    a_change,
    a_record,
    a_request,
    a_run,
    a_run_id,
    a_worker,
    asleep,
    claim_one,
    commit,
    completed,
    given_back,
    kill,
    start,
    start_and_claim,
)

APPLIED, ALREADY, LOST = Applied.APPLIED, Applied.ALREADY, Applied.LOST


async def test_no_changes_change_nothing(store: Store) -> None:
    committed = await commit(store)

    assert (committed.outcomes, committed.earlier) == ((), {})


async def test_records_are_stored_with_the_time_of_the_store(store: Store, worker: WorkerKey) -> None:
    """P7, P11."""
    claim = await start_and_claim(store, worker)

    committed = await commit(store, a_change(claim, a_record(1, started_at=LONG_AGO, attempts=2), a_record(2)))

    first, second = await store.steps(claim.run_id)
    assert (committed.outcomes, committed.earlier) == ((APPLIED,), {})
    assert committed.now.utcoffset() == timedelta(0)
    assert (first.step_id, first.seq, first.status) == ("0/step-1#0", 1, StepStatus.COMPLETED)
    assert (first.output, first.error, first.attempts) == ('"result 1"', None, 2)
    assert (first.started_at, first.finished_at) == (LONG_AGO, committed.now)
    assert (second.seq, second.started_at, second.finished_at) == (2, None, committed.now)


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS.keys())
async def test_texts_come_back_as_they_were_given(store: Store, worker: WorkerKey, text: str) -> None:
    """P24."""
    first, second = await start_and_claim(store, worker), await start_and_claim(store, worker)
    step_id = f"0/{text[:500]}#0"

    await commit(
        store,
        a_change(first, a_record(1, step_id=step_id, output=text), transition=completed(text)),
        a_change(second, a_record(1, step_id=step_id, error=text), transition=asleep(error=text, waits=text)),
    )

    (step,), (other,) = await store.steps(first.run_id), await store.steps(second.run_id)
    run, sleeper = await store.get(first.run_id), await store.get(second.run_id)
    assert run is not None
    assert sleeper is not None
    assert (step.step_id, step.output, other.error) == (step_id, text, text)
    assert (run.output, sleeper.error, sleeper.waits) == (text, text, text)


async def test_a_batch_of_many_runs_is_written(store: Store, worker: WorkerKey) -> None:
    await start(store, *(a_run() for _ in range(333)))
    claims = (await store.claim(a_request(worker, slots=333))).claims

    committed = await commit(store, *(a_change(claim, a_record(1), a_record(2)) for claim in claims))

    assert committed.outcomes == (APPLIED,) * 333
    for claim in (claims[0], claims[166], claims[332]):
        assert [step.seq for step in await store.steps(claim.run_id)] == [1, 2]


async def test_many_callers_at_once_each_get_their_own_answer(store: Store, worker: WorkerKey) -> None:
    await start(store, *(a_run() for _ in range(60)))
    claims = (await store.claim(a_request(worker))).claims

    async def write(place: int) -> tuple[Applied, ...]:
        right = a_change(claims[place], a_record(1))
        wrong = Change(run_id=claims[place].run_id, fence=99, records=(a_record(2),))
        return (await commit(store, *((right, wrong) if place % 3 == 0 else (right,)))).outcomes

    outcomes = await asyncio.gather(*(write(place) for place in range(60)))

    assert list(outcomes) == [(APPLIED, LOST) if place % 3 == 0 else (APPLIED,) for place in range(60)]
    for claim in claims:
        assert [step.seq for step in await store.steps(claim.run_id)] == [1]


# -- transitions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "transition",
    [
        completed('"done"'),
        Transition(status=RunStatus.FAILED, error='{"kind":"UNKNOWN"}'),
        Transition(status=RunStatus.CANCELLED, error='{"kind":"CANCELLED"}'),
    ],
    ids=lambda transition: transition.status,
)
async def test_an_ending_is_stored(store: Store, worker: WorkerKey, transition: Transition) -> None:
    """P13."""
    claim = await start_and_claim(store, worker)

    committed = await commit(store, a_change(claim, transition=transition))

    run = await store.get(claim.run_id)
    assert run is not None
    assert committed.outcomes == (APPLIED,)
    assert (run.status, run.output, run.error) == (transition.status, transition.output, transition.error)
    assert (run.finished_at, run.worker_key, run.available_at) == (committed.now, None, None)
    assert await store.owned(worker) == []


async def test_a_run_given_back_is_due_at_once_and_has_no_owner(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)

    committed = await commit(store, a_change(claim, transition=given_back()))

    run = await store.get(claim.run_id)
    assert run is not None
    assert (run.status, run.worker_key, run.attempts) == (RunStatus.PENDING, None, 1)
    assert (run.available_at, run.finished_at) == (committed.now, None)


@pytest.mark.parametrize("wake_at", [FAR_AHEAD, None])
async def test_a_sleeper_shows_when_and_for_what_it_waits(store: Store, worker: WorkerKey, wake_at: object) -> None:
    claim = await start_and_claim(store, worker)
    transition = Transition(status=RunStatus.SLEEPING, wake_at=FAR_AHEAD if wake_at else None, waits='["signal paid"]')

    await commit(store, a_change(claim, transition=transition))

    run = await store.get(claim.run_id)
    assert run is not None
    assert (run.status, run.worker_key) == (RunStatus.SLEEPING, None)
    assert (run.available_at, run.waits, run.finished_at) == (wake_at, '["signal paid"]', None)


async def test_records_and_a_transition_are_written_together(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)

    committed = await commit(store, a_change(claim, a_record(1), a_record(2), transition=completed()))

    run = await store.get(claim.run_id)
    assert run is not None
    assert run.status is RunStatus.COMPLETED
    assert [step.finished_at for step in await store.steps(claim.run_id)] == [committed.now] * 2
    assert run.finished_at == committed.now


async def test_a_run_may_stand_in_a_batch_more_than_once(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)

    committed = await commit(
        store,
        a_change(claim, a_record(1)),
        a_change(claim, a_record(2)),
        a_change(claim, a_record(3), transition=completed()),
    )

    run = await store.get(claim.run_id)
    assert run is not None
    assert committed.outcomes == (APPLIED,) * 3
    assert [step.seq for step in await store.steps(claim.run_id)] == [1, 2, 3]
    assert run.status is RunStatus.COMPLETED


# -- fences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fence", [0, 2, 99])
async def test_a_write_under_another_fence_is_lost_with_all_it_holds(
    store: Store, worker: WorkerKey, fence: int
) -> None:
    """P6."""
    claim = await start_and_claim(store, worker)

    committed = await commit(
        store, Change(run_id=claim.run_id, fence=fence, records=(a_record(1), a_record(2)), transition=completed())
    )

    run = await store.get(claim.run_id)
    assert run is not None
    assert committed.outcomes == (LOST,)
    assert (run.status, run.output) == (RunStatus.RUNNING, None)
    assert await store.steps(claim.run_id) == []


async def test_a_run_that_was_never_taken_can_not_be_written(store: Store) -> None:
    """P6: the fence alone is not enough, the run must be RUNNING."""
    (run_id,) = await start(store)

    committed = await commit(store, Change(run_id=run_id, fence=0, records=(a_record(1),)))

    assert committed.outcomes == (LOST,)
    assert await store.steps(run_id) == []


async def test_a_run_that_is_not_there_can_not_be_written(store: Store) -> None:
    """P6."""
    run_id = a_run_id()

    committed = await commit(store, Change(run_id=run_id, fence=1, records=(a_record(1),), transition=completed()))

    assert committed.outcomes == (LOST,)
    assert await store.steps(run_id) == []


async def test_a_worker_that_lost_its_lease_cannot_checkpoint(store: Store, worker: WorkerKey) -> None:
    """P6: from the moment that the run is recovered."""
    claim = await start_and_claim(store, worker)
    await kill(store, worker)

    committed = await commit(store, a_change(claim, a_record(1)))

    assert committed.outcomes == (LOST,)
    assert await store.steps(claim.run_id) == []


async def test_the_former_owner_cannot_write_beside_the_new_one(store: Store, worker: WorkerKey) -> None:
    """P5, P6."""
    old = await start_and_claim(store, worker)
    await kill(store, worker)
    new = await claim_one(store, await a_worker(store))

    committed = await commit(
        store,
        a_change(old, a_record(1, output='"old"'), transition=completed('"old"')),
        a_change(new, a_record(1, output='"new"')),
    )

    run = await store.get(old.run_id)
    assert run is not None
    assert committed.outcomes == (LOST, APPLIED)
    assert run.status is RunStatus.RUNNING
    assert [step.output for step in await store.steps(old.run_id)] == ['"new"']


@pytest.mark.parametrize("transition", [given_back(), asleep(), completed()], ids=lambda each: each.status)
async def test_nothing_can_be_written_after_letting_go(store: Store, worker: WorkerKey, transition: Transition) -> None:
    """P6, P13."""
    claim = await start_and_claim(store, worker)
    await commit(store, a_change(claim, transition=transition))

    committed = await commit(store, a_change(claim, a_record(1)))

    assert committed.outcomes == (LOST,)
    assert await store.steps(claim.run_id) == []


async def test_a_refused_change_does_not_take_its_neighbours_along(store: Store, worker: WorkerKey) -> None:
    """P6: each change stands on its own predicate."""
    good, bad, last = [await start_and_claim(store, worker) for _ in range(3)]
    wrong = Change(run_id=bad.run_id, fence=7, records=(a_record(1),))

    committed = await commit(store, a_change(good, a_record(1)), wrong, a_change(last, transition=completed()))

    run = await store.get(last.run_id)
    assert run is not None
    assert committed.outcomes == (APPLIED, LOST, APPLIED)
    assert len(await store.steps(good.run_id)) == 1
    assert await store.steps(bad.run_id) == []
    assert run.status is RunStatus.COMPLETED


# -- written once ------------------------------------------------------------------------------------------------


async def test_the_same_records_again_are_recognised_with_their_time(store: Store, worker: WorkerKey) -> None:
    """P4: the answer to the first try was lost, and the journal tries again."""
    claim = await start_and_claim(store, worker)
    change = a_change(claim, a_record(1), a_record(2))
    first = await commit(store, change)

    again = await commit(store, change)

    assert again.outcomes == (ALREADY,)
    assert again.earlier == {0: first.now}
    assert [step.finished_at for step in await store.steps(claim.run_id)] == [first.now] * 2


@pytest.mark.parametrize("records", [(), (a_record(1),)], ids=["alone", "with a record"])
@pytest.mark.parametrize("transition", [given_back(), asleep(FAR_AHEAD), completed()], ids=lambda each: each.status)
async def test_the_same_transition_again_is_recognised(
    store: Store, worker: WorkerKey, transition: Transition, records: tuple[object, ...]
) -> None:
    """P4."""
    claim = await start_and_claim(store, worker)
    change = a_change(claim, *(a_record(1) for _ in records), transition=transition)
    first = await commit(store, change)
    before = await store.get(claim.run_id)

    again = await commit(store, change)

    assert again.outcomes == (ALREADY,)
    assert again.earlier == ({0: first.now} if records else {})
    assert await store.get(claim.run_id) == before


async def test_a_whole_batch_again_is_recognised_change_by_change(store: Store, worker: WorkerKey) -> None:
    """P4: with new changes among them."""
    one, two, three = [await start_and_claim(store, worker) for _ in range(3)]
    batch = [a_change(one, a_record(1)), a_change(one, transition=completed()), a_change(two, a_record(1))]
    first = await commit(store, *batch)

    again = await commit(store, *batch, a_change(three, a_record(1)))

    assert again.outcomes == (ALREADY, ALREADY, ALREADY, APPLIED)
    assert again.earlier == {0: first.now, 2: first.now}


async def test_a_transition_that_the_next_owner_has_overtaken_is_lost(store: Store, worker: WorkerKey) -> None:
    """P5: whoever asks has no say any more, whatever it wrote."""
    claim = await start_and_claim(store, worker)
    change = a_change(claim, transition=given_back())
    await commit(store, change)
    next_claim = await claim_one(store, worker)

    while_it_runs = await commit(store, change)
    await commit(store, a_change(next_claim, transition=given_back()))
    afterwards = await commit(store, change)

    assert while_it_runs.outcomes == afterwards.outcomes == (LOST,)


async def test_a_finished_operation_stays_as_it_is(store: Store, worker: WorkerKey) -> None:
    """P11: one immutable result per step."""
    claim = await start_and_claim(store, worker)
    first = await commit(store, a_change(claim, a_record(1, output='"first"')))

    await commit(store, a_change(claim, a_record(2, step_id=a_record(1).step_id, output='"second"')))

    (step,) = await store.steps(claim.run_id)
    assert (step.seq, step.output, step.finished_at) == (1, '"first"', first.now)


async def test_a_result_is_written_once(store: Store, worker: WorkerKey) -> None:
    """P13."""
    claim = await start_and_claim(store, worker)
    await commit(store, a_change(claim, transition=completed('"first"')))
    before = await store.get(claim.run_id)

    same = await commit(store, a_change(claim, transition=completed('"second"')))
    other = await commit(store, a_change(claim, transition=Transition(status=RunStatus.FAILED, error="{}")))

    assert (same.outcomes, other.outcomes) == ((ALREADY,), (LOST,))
    assert await store.get(claim.run_id) == before


async def test_of_two_endings_at_once_one_wins(store: Store, worker: WorkerKey) -> None:
    """P20: the first commit wins, and the other is told."""
    claims = [await start_and_claim(store, worker) for _ in range(20)]
    endings = (completed(), Transition(status=RunStatus.CANCELLED, error="{}"))

    async def race(place: int) -> list[Applied]:
        answers = await asyncio.gather(
            *(commit(store, a_change(claims[place], transition=ending)) for ending in endings)
        )
        return [answer.outcomes[0] for answer in answers]

    outcomes = await asyncio.gather(*(race(place) for place in range(20)))

    for claim, both in zip(claims, outcomes, strict=True):
        run = await store.get(claim.run_id)
        assert run is not None
        assert sorted(outcome.name for outcome in both) == ["APPLIED", "LOST"]
        assert run.status is endings[both.index(APPLIED)].status


# -- open steps --------------------------------------------------------------------------------------------------


async def test_an_open_step_is_shown_until_it_is_finished(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    step = OpenStep(run_id=claim.run_id, fence=1, step_id="0/slow#0", started_at=LONG_AGO)
    beat = Beat(worker=worker, lease=timedelta(minutes=1), open_steps=(step,))

    await store.beat(beat)
    await store.beat(beat)
    (shown,) = await store.steps(claim.run_id)
    committed = await commit(store, a_change(claim, a_record(1, step_id="0/slow#0")))
    await store.beat(beat)

    (finished,) = await store.steps(claim.run_id)
    assert (shown.seq, shown.status, shown.started_at) == (None, StepStatus.RUNNING, LONG_AGO)
    assert (shown.finished_at, shown.output, shown.attempts) == (None, None, 1)
    assert committed.outcomes == (APPLIED,)
    assert (finished.seq, finished.status, finished.output) == (1, StepStatus.COMPLETED, '"result 1"')
    assert (finished.started_at, finished.finished_at) == (LONG_AGO, committed.now)


async def test_open_steps_come_after_the_finished_ones(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    steps = tuple(
        OpenStep(run_id=claim.run_id, fence=1, step_id=f"0/{name}#0", started_at=LONG_AGO) for name in ("a", "z")
    )
    await store.beat(Beat(worker=worker, lease=timedelta(minutes=1), open_steps=steps))

    await commit(store, a_change(claim, a_record(1)))

    assert [step.seq for step in await store.steps(claim.run_id)] == [1, None, None]


async def test_open_steps_of_a_run_that_was_lost_are_not_shown(store: Store, worker: WorkerKey) -> None:
    """P6."""
    claim = await start_and_claim(store, worker)
    await commit(store, a_change(claim, transition=given_back()))
    step = OpenStep(run_id=claim.run_id, fence=1, step_id="0/slow#0", started_at=LONG_AGO)

    answer = await store.beat(Beat(worker=worker, lease=timedelta(minutes=1), open_steps=(step,)))

    assert answer.alive
    assert await store.steps(claim.run_id) == []
