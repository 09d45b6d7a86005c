"""What a run waits for, told exactly (P17): from the run, its open steps and the workers that are up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kagzi.model.error import ErrorKind, StepError
from kagzi.model.run import Run, RunStatus
from kagzi.model.step import Step, StepKind, StepStatus
from kagzi.model.worker import RegisteredWorker, WorkerState
from kagzi.rules.waiting import told, unserved, waits, with_statuses

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
AGO, AHEAD = NOW - timedelta(seconds=90), NOW + timedelta(hours=3)
ERROR = StepError(kind=ErrorKind.UNKNOWN, type="LookupError", message="not there")


def a_run(**fields: Any) -> Run:
    defaults: dict[str, Any] = {
        "run_id": "r",
        "id": "r",
        "namespace": "default",
        "workflow": "order",
        "version": 3,
        "queue": "default",
        "priority": 0,
        "status": RunStatus.PENDING,
        "created_at": AGO,
        "wake_at": AGO,
    }
    return Run(**(defaults | fields))


def a_worker(name: str = "w1", **fields: Any) -> RegisteredWorker:
    defaults: dict[str, Any] = {
        "worker_id": name,
        "key": f"key of {name}",
        "host": "h",
        "pid": 1,
        "queues": ("default",),
        "slots": 10,
        "workflows": (("order", 3),),
        "state": WorkerState.RUNNING,
        "registered_at": AGO,
        "beat_at": AGO,
        "lease_until": AHEAD,
        "seen_at": NOW,
    }
    return RegisteredWorker(**(defaults | fields))


def a_step(**fields: Any) -> Step:
    defaults: dict[str, Any] = {"step_id": "0/charge#1", "name": "charge", "kind": StepKind.STEP}
    return Step(**(defaults | {"status": StepStatus.RUNNING, "started_at": AGO} | fields))


VERSIONS: dict[str, Any] = {"workflows": (("order", 1), ("order", 2), ("ship", 3))}
DRAINING: dict[str, Any] = {"state": WorkerState.DRAINING}


@pytest.mark.parametrize(
    ("workers", "told"),
    [
        ([], "no worker is up"),
        ([a_worker(lease_until=AGO)], "no worker is up"),
        ([a_worker(state=WorkerState.STOPPED)], "no worker is up"),
        (
            [a_worker(**VERSIONS)],
            "no worker serves version 3 of workflow 'order' on queue 'default'; "
            "workers that are up know versions 1 and 2",
        ),
        (
            [a_worker(workflows=(("order", 1),)), a_worker("w2", queues=("mail",))],
            "no worker serves version 3 of workflow 'order' on queue 'default'; "
            "workers that are up know version 1; on queue 'mail' it is served",
        ),
        (
            [a_worker(queues=("mail", "post")), a_worker("w2", queues=("mail",))],
            "no worker takes runs from queue 'default'; workers that are up take runs from 'mail', 'post'",
        ),
        ([a_worker(workflows=(("ship", 3),))], "no worker on queue 'default' knows workflow 'order'"),
        (
            [a_worker(**DRAINING), a_worker("w2", drain_asked=True), a_worker("w3", **VERSIONS)],
            "no worker takes new runs of version 3 of workflow 'order' on queue 'default': "
            "those that serve it are draining ('w1', 'w2')",
        ),
        ([a_worker(**VERSIONS, **DRAINING)], "no worker takes new runs: those that are up are draining"),
        ([a_worker(**VERSIONS), a_worker("w2")], None),
        ([a_worker(state=WorkerState.STARTING)], None),
    ],
)
def test_why_no_worker_takes_a_run_is_told(workers: list[RegisteredWorker], told: str | None) -> None:
    assert unserved(a_run(), workers) == told


SINCE = "it is due since 2026-05-04T11:58:30+00:00, 90 s"


@pytest.mark.parametrize(
    ("run", "workers", "told"),
    [
        (a_run(), [], [f"a worker: no worker is up ({SINCE})"]),
        (a_run(), [a_worker()], [f"its turn: {SINCE}, and workers serve it ('w1')"]),
        (a_run(), [a_worker(load={"runs": 9}), a_worker("w2", load={"runs": 10})], ["its turn: "]),
        (
            a_run(status=RunStatus.SLEEPING, waiting_for=("timer 'rest' until then",)),
            [a_worker(load={"runs": 10}), a_worker("w2", slots=3, load={"runs": 4})],
            [f"a free slot: every worker that serves it is full ('w1' has 10 of 10, 'w2' has 4 of 3 runs; {SINCE})"],
        ),
        (a_run(), [a_worker(load={"runs": "many"})], ["its turn: "]),
        (a_run(wake_at=AHEAD), [a_worker()], ["its time: it falls due at 2026-05-04T15:00:00+00:00, in 3 h"]),
        (
            a_run(wake_at=AHEAD, status=RunStatus.SLEEPING, waiting_for=("timer 'rest' until then",)),
            [],
            ["timer 'rest' until then", "and then for a worker: no worker is up"],
        ),
        (
            a_run(wake_at=AHEAD, waiting_for=("the run, retrying",), error=ERROR),
            [a_worker()],
            ["the run, retrying"],
        ),
        (a_run(wake_at=None, status=RunStatus.SLEEPING), [a_worker()], ["an event from outside"]),
        (
            a_run(wake_at=AHEAD, status=RunStatus.SLEEPING, error=ERROR, waiting_for=("code that fits\n- its record",)),
            [a_worker()],
            ["code that fits\n- its record", "or another look at 2026-05-04T15:00:00+00:00; a worker that registers"],
        ),
        (
            a_run(status=RunStatus.FAILED, finished_at=AGO, error=ERROR),
            [],
            ["nothing: it ended FAILED at 2026-05-04T11:58:30+00:00: LookupError: not there"],
        ),
        (
            a_run(status=RunStatus.COMPLETED, finished_at=AGO),
            [],
            ["nothing: it ended COMPLETED at 2026"],
        ),
    ],
)
def test_what_a_run_waits_for_is_told(run: Run, workers: list[RegisteredWorker], told: list[str]) -> None:
    found = waits(run, [], workers, now=NOW)

    assert len(found) == len(told)
    assert all(text.startswith(start) for text, start in zip(found, told, strict=True)), found


def in_hand(*steps: Step, worker: RegisteredWorker | None = None, **fields: Any) -> list[str]:
    run = a_run(status=RunStatus.RUNNING, wake_at=None, worker_id="w1", **fields)
    return waits(run, steps, [worker] if worker else [], now=NOW)


def test_a_run_in_a_worker_s_hands_tells_of_its_steps() -> None:
    executing = in_hand(a_step(), a_step(name="pay", attempts=3), worker=a_worker())
    retrying = in_hand(
        a_step(status=StepStatus.RETRYING), worker=a_worker(), waiting_for=("step 'charge', retrying: 1 of 5",)
    )
    resting = in_hand(worker=a_worker())

    since = "which worker 'w1' executes since 2026-05-04T11:58:30+00:00, 90 s"
    assert executing == [f"step 'charge', {since}", f"step 'pay', {since} (attempt 3)"]
    assert retrying == ["step 'charge', retrying: 1 of 5"]
    assert resting[0].startswith("worker 'w1', which has it in memory")


def test_a_step_that_has_told_how_far_it_is_is_named_once_with_that() -> None:
    long = {"pages": "x" * 500}
    all_told = enumerate((None, 7, long))
    steps = [a_step(name=f"s{at}", heartbeat_at=AGO, heartbeat_details=details) for at, details in all_told]
    executing = in_hand(*steps, worker=a_worker(), waiting_for=tuple(told(step) for step in steps))

    heartbeats = [text.partition("; its last heartbeat was ")[2] for text in executing]
    assert heartbeats[:2] == ["90 s ago", "90 s ago: 7"]
    assert heartbeats[2].endswith("xxx...")
    assert len(executing[2]) < 400
    assert told(steps[1]) == "step 's1', whose last heartbeat was at 2026-05-04T11:58:30+00:00: 7"


def test_a_run_whose_worker_is_gone_waits_for_recovery() -> None:
    lapsed = in_hand(a_step(), worker=a_worker(lease_until=AGO))
    unknown = in_hand(a_step())

    assert lapsed[0].startswith("recovery: worker 'w1', whose lease ran out at 2026-05-04T11:58:30+00:00 is gone")
    assert unknown[0].startswith("recovery: worker 'w1' is gone")


def test_a_run_in_a_worker_s_hands_names_the_children_that_it_awaits() -> None:
    child = a_step(step_id="0/ship#1", name="ship", kind=StepKind.CHILD, status=StepStatus.RUNNING, child_run_id="c1")

    assert in_hand(child, worker=a_worker()) == ["child 'ship' (c1)"]


def test_children_are_named_with_how_they_stand() -> None:
    texts = ["child 'ship' (c1)", "child 'bill' (c2)", "signal 'go'"]

    named = with_statuses(texts, {"c1": RunStatus.SLEEPING})

    assert named == ["child 'ship' (c1, SLEEPING)", "child 'bill' (c2)", "signal 'go'"]
