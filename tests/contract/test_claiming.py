"""Taking runs: `Store.claim`."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from kagzi.model.claim import Claim
from kagzi.model.run import RunStatus, WorkerKey
from kagzi.model.step import OpenStep, StepKind, StepStatus, Tries
from kagzi.model.worker import Beat
from kagzi.store.protocol import Store
from tests.contract.builders import (
    FAR_AHEAD,
    LONG_AGO,
    a_change,
    a_record,
    a_request,
    a_run,
    a_worker,
    a_worker_key,
    asleep,
    claim_one,
    commit,
    completed,
    expire,
    given_back,
    ids_of,
    kill,
    start,
    start_and_claim,
)


async def test_a_claim_takes_a_run_with_all_that_its_execution_needs(store: Store, worker: WorkerKey) -> None:
    """P5."""
    (parent,) = await start(store, a_run(queue="nobody's"))
    run = a_run(id="mine", priority=3, parent_run_id=parent)
    await store.start([run])

    claimed = await store.claim(a_request(worker))

    (claim,) = claimed.claims
    for field in ("run_id", "id", "workflow", "version", "queue", "priority", "input", "parent_run_id"):
        assert getattr(claim, field) == getattr(run, field), field
    assert (claim.fence, claim.inbox, claim.attempts, claim.history, claim.tries) == (1, 0, 1, (), {})
    assert claim.started_at == claimed.now
    stored = await store.get(run.run_id)
    assert stored is not None
    assert (stored.status, stored.fence, stored.worker_key) == (RunStatus.RUNNING, 1, worker)
    assert (stored.started_at, stored.available_at) == (claimed.now, None)


async def test_a_claim_of_nothing_finds_nothing(store: Store, worker: WorkerKey) -> None:
    claimed = await store.claim(a_request(worker))

    assert (claimed.claims, claimed.next_due) == ((), None)


async def test_a_run_that_is_taken_is_not_given_again(store: Store, worker: WorkerKey) -> None:
    """P5: also not to the same worker."""
    await start_and_claim(store, worker)

    assert (await store.claim(a_request(worker))).claims == ()


async def test_two_workers_never_get_the_same_run(store: Store, worker: WorkerKey) -> None:
    """P5."""
    other = await a_worker(store)
    runs = await start(store, *(a_run() for _ in range(300)))

    async def take_all(key: WorkerKey) -> list[str]:
        taken: list[str] = []
        while claims := (await store.claim(a_request(key, slots=7))).claims:
            taken += ids_of(claims)
        return taken

    shares = await asyncio.gather(*(take_all(key) for key in (worker, other) * 4))

    taken = Counter(run_id for share in shares for run_id in share)
    assert set(taken) == set(runs)
    assert max(taken.values()) == 1


async def test_every_claim_increments_the_fence(store: Store, worker: WorkerKey) -> None:
    """P5: also when the same worker claims again."""
    first = await start_and_claim(store, worker)
    await commit(store, a_change(first, transition=given_back()))

    second = await claim_one(store, worker)

    assert (second.run_id, first.fence, second.fence) == (first.run_id, 1, 2)


async def test_a_run_has_started_when_it_was_first_taken(store: Store, worker: WorkerKey) -> None:
    first = await start_and_claim(store, worker)
    await commit(store, a_change(first, transition=given_back()))

    second = await claim_one(store, worker)

    stored = await store.get(first.run_id)
    assert stored is not None
    assert second.started_at == stored.started_at == first.started_at


# -- order -------------------------------------------------------------------------------------------------------


async def test_high_priority_comes_first_then_the_longest_due(store: Store, worker: WorkerKey) -> None:
    wanted = await start(
        store,
        *(
            a_run(priority=priority, available_at=LONG_AGO + timedelta(seconds=second))
            for priority in (10, 2, 0, -5)
            for second in (0, 1, 2)
        ),
    )
    claims: list[Claim] = []

    for slots in (1, 4, 2, 100):
        claims += (await store.claim(a_request(worker, slots=slots))).claims

    assert ids_of(claims) == wanted


async def test_the_order_holds_over_all_queues_and_workflows(store: Store, worker: WorkerKey) -> None:
    wanted = await start(
        store,
        *(
            a_run(priority=priority, queue=queue, workflow=workflow, available_at=LONG_AGO + timedelta(seconds=second))
            for priority, second, queue, workflow in (
                (7, 9, "b", "ship"),
                (1, 1, "a", "order"),
                (1, 2, "b", "order"),
                (1, 3, "a", "ship"),
                (0, 0, "b", "ship"),
                (0, 1, "a", "ship"),
                (-1, 0, "a", "order"),
            )
        ),
    )
    request = a_request(worker, queues=("a", "b"), workflows=(("order", 1), ("ship", 1)), slots=3)
    claims: list[Claim] = []

    while taken := (await store.claim(request)).claims:
        claims += taken

    assert ids_of(claims) == wanted


async def test_a_claim_takes_no_more_than_there_are_slots(store: Store, worker: WorkerKey) -> None:
    await start(store, *(a_run(queue=queue, priority=priority) for queue in "ab" for priority in range(5)))

    claimed = await store.claim(a_request(worker, queues=("a", "b"), slots=3))

    assert [claim.priority for claim in claimed.claims] == [4, 4, 3]


async def test_a_queue_named_twice_gives_each_run_once(store: Store, worker: WorkerKey) -> None:
    runs = await start(store, a_run(), a_run())

    claimed = await store.claim(a_request(worker, queues=("default",) * 2, workflows=(("order", 1),) * 2))

    assert ids_of(claimed.claims) == runs


@pytest.mark.parametrize(
    "others",
    [{"queue": "other"}, {"workflow": "other"}, {"version": 2}, {"namespace": "other"}],
    ids=lambda fields: next(iter(fields)),
)
async def test_runs_that_nobody_here_can_run_hold_nobody_up(
    store: Store, worker: WorkerKey, others: dict[str, object]
) -> None:
    """P17, P27: they wait, and those behind them don't."""
    unservable = await start(store, *(a_run(priority=100, available_at=LONG_AGO, **others) for _ in range(200)))
    (mine,) = await start(store)

    claimed = await store.claim(a_request(worker, slots=5))

    assert ids_of(claimed.claims) == [mine]
    left = await store.get(unservable[0])
    assert left is not None
    assert left.status is RunStatus.PENDING


# -- due times ---------------------------------------------------------------------------------------------------


async def test_a_run_is_not_taken_before_it_is_due_and_the_claim_says_when(store: Store, worker: WorkerKey) -> None:
    """P18: timers never fire early."""
    run = a_run(delay_s=3600)
    await store.start([run, a_run(delay_s=7200), a_run(delay_s=60, queue="other")])

    claimed = await store.claim(a_request(worker))

    stored = await store.get(run.run_id)
    assert stored is not None
    assert (claimed.claims, claimed.next_due) == ((), stored.available_at)


async def test_the_next_due_time_is_given_beside_claims_that_leave_slots_free(store: Store, worker: WorkerKey) -> None:
    await start(store, a_run(), a_run(available_at=FAR_AHEAD, priority=9))

    claimed = await store.claim(a_request(worker, slots=2))

    assert len(claimed.claims) == 1
    assert claimed.next_due == FAR_AHEAD


async def test_a_claim_that_filled_every_slot_gives_no_due_time(store: Store, worker: WorkerKey) -> None:
    await start(store, a_run(), a_run(available_at=FAR_AHEAD))

    claimed = await store.claim(a_request(worker, slots=1))

    assert (len(claimed.claims), claimed.next_due) == (1, None)


async def test_a_sleeper_is_taken_when_it_is_due_and_the_wake_up_is_counted(store: Store, worker: WorkerKey) -> None:
    """P21: wake-ups are counted apart from attempts and crashes."""
    first = await start_and_claim(store, worker)
    await commit(store, a_change(first, transition=asleep(LONG_AGO, waits='["timer wait"]')))

    second = await claim_one(store, worker)

    stored = await store.get(first.run_id)
    assert stored is not None
    assert (second.run_id, second.fence, second.attempts) == (first.run_id, 2, 1)
    assert (stored.wakeups, stored.crashes, stored.attempts, stored.waits) == (1, 0, 1, None)


async def test_a_run_given_back_is_no_wake_up(store: Store, worker: WorkerKey) -> None:
    """P21."""
    first = await start_and_claim(store, worker)
    await commit(store, a_change(first, transition=given_back()))

    await claim_one(store, worker)

    stored = await store.get(first.run_id)
    assert stored is not None
    assert stored.wakeups == 0


async def test_a_sleeper_that_waits_for_events_alone_is_never_due(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await commit(store, a_change(claim, transition=asleep()))

    claimed = await store.claim(a_request(worker))

    assert (claimed.claims, claimed.next_due) == ((), None)


async def test_a_claim_tells_where_the_run_parked_last(store: Store, worker: WorkerKey) -> None:
    """P16, P17: it is kept through everything that lets go of the run without parking it."""
    claim = await start_and_claim(store, worker)
    assert claim.parked is None
    now = (await store.beat(Beat(worker=worker, lease=timedelta(minutes=1)))).now
    first, second = '{"seq":0,"on":["TIMER 0/rest#1"]}', '{"seq":1,"on":[]}'

    other = await start_and_claim(store, worker, priority=1)
    parked = asleep(now, parked=first, waits='["rest"]')
    await store.commit([a_change(claim, transition=parked), a_change(other, transition=completed())])
    claim = await claim_one(store, worker)
    assert claim.parked == first

    for let_go in (given_back(), asleep(now, error="{}"), asleep(now, parked=second)):
        await commit(store, a_change(claim, transition=let_go))
        expected = let_go.parked or first
        claim = await claim_one(store, worker)
        assert claim.parked == expected


async def test_sleepers_hold_nobody_up(store: Store, worker: WorkerKey) -> None:
    """P27."""
    await start(store, *(a_run(priority=50) for _ in range(50)))
    sleepers = (await store.claim(a_request(worker))).claims
    await commit(
        store,
        *(a_change(claim, transition=asleep(FAR_AHEAD if place % 2 else None)) for place, claim in enumerate(sleepers)),
    )
    (mine,) = await start(store)

    claimed = await store.claim(a_request(worker, slots=2))

    assert ids_of(claimed.claims) == [mine]
    assert claimed.next_due == FAR_AHEAD


async def test_an_ended_run_is_never_taken(store: Store, worker: WorkerKey) -> None:
    claim = await start_and_claim(store, worker)
    await commit(store, a_change(claim, transition=completed()))

    assert (await store.claim(a_request(worker))).claims == ()


# -- histories ---------------------------------------------------------------------------------------------------


async def test_a_claim_gives_the_history_in_order_of_delivery(store: Store, worker: WorkerKey) -> None:
    """P11: a replay sees what the first execution saw."""
    (child,) = await start(store, a_run(queue="other"))
    first = await start_and_claim(store, worker)
    records = [
        a_record(2, step_id="0/a#0", started_at=LONG_AGO, attempts=3),
        a_record(1, step_id="0/z#0", kind=StepKind.TIMER, output=None),
        a_record(3, step_id="0.1/b#0", status=StepStatus.FAILED, output=None, error='{"kind":"TIMEOUT"}'),
        a_record(10, step_id="0/j#0", kind=StepKind.CHILD, child_run_id=child),
    ]
    committed = await commit(store, a_change(first, *records, transition=given_back()))

    second = await claim_one(store, worker)

    wanted = sorted(records, key=lambda record: record.seq)
    assert [record.seq for record in second.history] == [1, 2, 3, 10]
    for record, given in zip(second.history, wanted, strict=True):
        for field in ("step_id", "kind", "status", "output", "error", "attempts", "started_at", "child_run_id"):
            assert getattr(record, field) == getattr(given, field), field
        assert record.finished_at == committed.now


async def test_each_run_of_a_claim_gets_its_own_history(store: Store, worker: WorkerKey) -> None:
    await start(store, *(a_run() for _ in range(10)))
    firsts = (await store.claim(a_request(worker))).claims
    await commit(
        store,
        *(
            a_change(claim, *(a_record(seq + 1, output=f'"{claim.run_id}"') for seq in range(place)))
            for place, claim in enumerate(firsts)
        ),
    )
    await commit(store, *(a_change(claim, transition=given_back()) for claim in firsts))

    seconds = (await store.claim(a_request(worker))).claims

    for place, first in enumerate(firsts):
        (second,) = (claim for claim in seconds if claim.run_id == first.run_id)
        assert [record.output for record in second.history] == [f'"{first.run_id}"'] * place


async def test_attempts_of_unfinished_operations_are_told(store: Store, worker: WorkerKey) -> None:
    """P21: attempts already used are not forgotten with the worker that used them."""
    first = await start_and_claim(store, worker)
    step = OpenStep(run_id=first.run_id, fence=1, step_id="0/slow#0", started_at=LONG_AGO, attempts=3)
    await store.beat(Beat(worker=worker, lease=timedelta(minutes=1), open_steps=(step,)))
    await commit(store, a_change(first, a_record(1), transition=given_back()))

    second = await claim_one(store, worker)

    assert second.tries == {"0/slow#0": Tries(used=2)}
    assert [record.step_id for record in second.history] == [a_record(1).step_id]


# -- who may claim -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["unknown", "stopped", "expired", "dead"])
async def test_a_worker_that_is_gone_takes_nothing(store: Store, worker: WorkerKey, how: str) -> None:
    """P5, P8: what it took would be recovered at once."""
    (run_id,) = await start(store)
    match how:
        case "unknown":
            worker = a_worker_key()
        case "stopped":
            await store.leave(worker)
        case "expired":
            await expire(store, worker)
        case "dead":
            await kill(store, worker)

    claimed = await store.claim(a_request(worker))
    # Beside writes of others, too: a backend may do them together.
    *_, beside = await asyncio.gather(
        *(store.start([a_run(queue="other")]) for _ in range(9)), claim_for(store, worker)
    )

    stored = await store.get(run_id)
    assert stored is not None
    assert claimed.claims == beside == ()
    assert (stored.status, stored.fence) == (RunStatus.PENDING, 0)


async def claim_for(store: Store, worker: WorkerKey) -> tuple[Claim, ...]:
    return (await store.claim(a_request(worker))).claims
