"""Judgements on health: pure, by values and the store's time alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from kagzi import DatabaseHealth, HealthCheckConfig, HealthReport, HealthStatus, QueueHealth, WorkerHealth
from kagzi.model.probe import Backlog, LaneBacklog
from kagzi.model.worker import RegisteredWorker, WorkerState
from kagzi.rules import health as rules
from kagzi.rules.health import DatabaseReading

HEALTHY, DEGRADED, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY
STARTING, RUNNING, DRAINING, STOPPED, DEAD = WorkerState
NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CONFIG = HealthCheckConfig()


def a_reading(**fields: Any) -> DatabaseReading:
    values: dict[str, Any] = {
        "latency": timedelta(milliseconds=1),
        "writable": True,
        "schema_current": 2,
        "schema_latest": 2,
        "clock_offset": timedelta(0),
        "replication_lag": None,
    }
    return DatabaseReading(**(values | fields))


def a_worker(name: str = "w1", *, silent_s: float = 1, lease_s: float = 60, **fields: Any) -> RegisteredWorker:
    """A worker whose last heartbeat was `silent_s` ago and renewed its lease for `lease_s`."""
    beat_at = NOW - silent_s * SECOND
    values: dict[str, Any] = {
        "worker_id": name,
        "key": f"key of {name}",
        "host": "here",
        "pid": 1,
        "queues": ("default",),
        "workflows": (("order", 1),),
        "slots": 10,
        "state": RUNNING,
        "registered_at": NOW - timedelta(hours=1),
        "beat_at": beat_at,
        "lease_until": beat_at + lease_s * SECOND,
        "seen_at": NOW,
    }
    return RegisteredWorker(**(values | fields))


def a_lane(queue: str = "default", *, waits_s: float = 1, **fields: Any) -> LaneBacklog:
    values: dict[str, Any] = {"workflow": "order", "version": 1, "due": 1, "oldest_due_at": NOW - waits_s * SECOND}
    return LaneBacklog(queue=queue, **(values | fields))


def a_backlog(*lanes: LaneBacklog) -> Backlog:
    return Backlog(now=NOW, lanes=lanes)


def judge_system(*workers: RegisteredWorker, lanes: tuple[LaneBacklog, ...] = (), **bounds: Any) -> HealthReport:
    database = rules.judge_database(a_reading(), CONFIG)
    return rules.judge_system(database, workers, a_backlog(*lanes), HealthCheckConfig(**bounds))


# -- the database ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({}, HEALTHY),
        ({"clock_offset": None}, HEALTHY),
        ({"schema_current": 3}, HEALTHY),  # of a later release
        ({"schema_current": 1}, UNHEALTHY),
        ({"writable": False}, UNHEALTHY),
        ({"latency": 0.499 * SECOND}, HEALTHY),
        ({"latency": 0.5 * SECOND}, DEGRADED),
        ({"clock_offset": 2 * SECOND}, HEALTHY),
        ({"clock_offset": 2.1 * SECOND}, DEGRADED),
        ({"clock_offset": -2.1 * SECOND}, DEGRADED),
        ({"replication_lag": 59 * SECOND}, HEALTHY),
        ({"replication_lag": 60 * SECOND}, DEGRADED),
        ({"writable": False, "replication_lag": 60 * SECOND}, UNHEALTHY),
    ],
)
def test_a_database_is_judged_by_what_it_answers(found: dict[str, Any], status: HealthStatus) -> None:
    health = rules.judge_database(a_reading(**found), CONFIG)

    assert health.status is status
    assert bool(health.reasons) is (status is not HEALTHY)
    assert health.is_healthy is (status is HEALTHY)


def test_a_slow_trip_is_no_wrong_clock() -> None:
    """The database may have looked at its clock at any moment of the trip."""
    slow = a_reading(latency=0.4 * SECOND, clock_offset=2.19 * SECOND)

    assert rules.judge_database(slow, CONFIG).status is HEALTHY


def test_a_database_says_which_way_its_clock_is_off() -> None:
    ahead = rules.judge_database(a_reading(clock_offset=30 * SECOND), CONFIG)
    behind = rules.judge_database(a_reading(clock_offset=-30 * SECOND), CONFIG)

    assert ahead.reasons[0].startswith("the database's clock is 30 s ahead of this machine's")
    assert behind.reasons[0].startswith("the database's clock is 30 s behind this machine's")


# -- workers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [STARTING, RUNNING, DRAINING])
@pytest.mark.parametrize(
    ("silent_s", "status"), [(0, HEALTHY), (59, HEALTHY), (60, DEGRADED), (119, DEGRADED), (120, UNHEALTHY)]
)
def test_a_living_worker_is_judged_by_the_age_of_its_last_heartbeat(
    state: WorkerState, silent_s: float, status: HealthStatus
) -> None:
    health = rules.judge_worker(a_worker(silent_s=silent_s, lease_s=1000, state=state), CONFIG)

    assert (health.status, health.state, health.is_gone) == (status, state, False)
    assert health.silent_for == silent_s * SECOND
    assert bool(health.reasons) is (status is not HEALTHY)


def test_a_worker_whose_lease_ran_out_is_degraded_however_recent_its_heartbeat_is() -> None:
    health = rules.judge_worker(a_worker(silent_s=2, lease_s=1), CONFIG)

    assert health.status is DEGRADED
    assert "lease" in health.reasons[0]


def test_a_state_of_a_later_release_is_that_of_a_living_worker() -> None:
    """P23."""
    worker = a_worker(state="RESTING")

    assert rules.judge_worker(worker, CONFIG).status is HEALTHY
    assert worker.takes_runs
    assert judge_system(worker).to_dict()["workers"][0]["state"] == "RESTING"


def test_a_worker_whose_heartbeat_is_later_than_the_reading_is_not_silent() -> None:
    health = rules.judge_worker(a_worker(silent_s=-3), CONFIG)

    assert health.silent_for == timedelta(0)


@pytest.mark.parametrize(
    ("load", "status"),
    [
        ({}, HEALTHY),
        ({"loop_lag_ms": 999}, HEALTHY),
        ({"loop_lag_ms": 1000.0}, DEGRADED),
        ({"memory_mib": 511}, HEALTHY),
        ({"memory_mib": 512}, DEGRADED),
        ({"loop_lag_ms": "much", "memory_mib": None}, HEALTHY),
        ({"loop_lag_ms": True, "memory_mib": [1024]}, HEALTHY),
    ],
)
def test_a_worker_is_judged_by_its_load_where_that_is_told(load: dict[str, Any], status: HealthStatus) -> None:
    health = rules.judge_worker(a_worker(load=load), HealthCheckConfig(memory_warning_mib=512))

    assert health.status is status
    assert health.load == load


def test_memory_is_not_judged_unless_that_is_asked_for() -> None:
    assert rules.judge_worker(a_worker(load={"memory_mib": 1e9}), CONFIG).status is HEALTHY


def test_a_worker_that_has_stopped_is_gone_and_not_unwell() -> None:
    health = rules.judge_worker(a_worker(state=STOPPED, silent_s=5000), CONFIG)

    assert (health.status, health.is_gone, health.reasons) == (HEALTHY, True, ())


def test_a_worker_that_died_is_unhealthy_for_ten_minutes_and_then_forgotten() -> None:
    dead, long_dead = (rules.judge_worker(a_worker(state=DEAD, silent_s=s), CONFIG) for s in (600, 601))

    assert (dead.status, dead.is_gone) == (UNHEALTHY, False)
    assert "last sign of life 600 s ago" in dead.reasons[0]
    assert (long_dead.status, long_dead.is_gone, long_dead.reasons) == (HEALTHY, True, ())


CAME_AFTER = NOW - 30 * SECOND
CAME_BEFORE = NOW - 500 * SECOND


@pytest.mark.parametrize(
    ("other", "replaced"),
    [
        (a_worker("w2", registered_at=CAME_AFTER, queues=("mail", "default")), True),
        (a_worker("w2", registered_at=CAME_AFTER, state=STARTING), True),
        (a_worker("w2", registered_at=CAME_AFTER, queues=("mail",)), False),
        (a_worker("w2", registered_at=CAME_BEFORE), False),  # it had work of its own
        (a_worker("w2", registered_at=CAME_AFTER, state=DRAINING), False),
        (a_worker("w2", registered_at=CAME_AFTER, state=DEAD), False),
        (a_worker("w2", registered_at=CAME_AFTER, silent_s=70), False),
        (a_worker("w1", registered_at=CAME_BEFORE, queues=("mail",)), True),  # its own name
    ],
)
def test_a_dead_worker_whose_place_was_taken_is_gone(other: RegisteredWorker, replaced: bool) -> None:
    dead = a_worker("w1", state=DEAD, silent_s=90)

    health = rules.judge_worker(dead, CONFIG, others=[other, dead])

    assert health.is_gone is replaced
    assert health.status is (HEALTHY if replaced else UNHEALTHY)


# -- queues ------------------------------------------------------------------------------------------------------


def judge_queue(*lanes: LaneBacklog, workers: tuple[RegisteredWorker, ...] = (a_worker(),)) -> QueueHealth:
    (health,) = rules.judge_queues(a_backlog(*lanes), workers, CONFIG)
    return health


@pytest.mark.parametrize(
    ("waits_s", "status"),
    [(-5, HEALTHY), (0, HEALTHY), (59, HEALTHY), (60, DEGRADED), (599, DEGRADED), (600, UNHEALTHY)],
)
def test_a_queue_that_is_served_is_judged_by_its_oldest_waiting_run(waits_s: float, status: HealthStatus) -> None:
    health = judge_queue(
        a_lane(waits_s=waits_s),
        a_lane(workflow="ship", waits_s=-9),
        workers=(a_worker(workflows=(("order", 1), ("ship", 1))),),
    )

    assert health.status is status
    assert health.oldest_waiting == max(waits_s, 0) * SECOND
    assert health.unserved == ()


@pytest.mark.parametrize(
    "worker",
    [
        a_worker(queues=("mail",)),
        a_worker(workflows=(("order", 2),)),
        a_worker(workflows=(("ship", 1),)),
    ],
)
@pytest.mark.parametrize(("waits_s", "status"), [(0, DEGRADED), (599, DEGRADED), (600, UNHEALTHY)])
def test_due_runs_that_nobody_serves_are_named(worker: RegisteredWorker, waits_s: float, status: HealthStatus) -> None:
    """P17: no worker for that version; it waits, and the reason is visible."""
    queues = rules.judge_queues(a_backlog(a_lane(waits_s=waits_s, due=12)), [worker], CONFIG)

    (health,) = [queue for queue in queues if queue.queue == "default"]
    assert health.status is status
    assert health.unserved == (("order", 1),)
    for word in ("version 1", "'order'", "'default'", "12 runs are due"):
        assert word in health.reasons[0]


@pytest.mark.parametrize(
    "worker",
    [
        a_worker(state=DRAINING),
        a_worker(drain_asked=True),
        a_worker(state=STOPPED),
        a_worker(state=DEAD),
        a_worker(silent_s=61),
    ],
)
def test_without_any_worker_that_takes_runs_due_ones_are_unhealthy_at_once(worker: RegisteredWorker) -> None:
    health = judge_queue(a_lane(waits_s=0), workers=(worker,))

    assert health.status is UNHEALTHY


def test_a_queue_tells_of_what_is_late_and_of_what_is_not_served() -> None:
    health = judge_queue(a_lane(waits_s=100, due=3), a_lane(version=2, waits_s=700, due=4, more=True))

    assert health.status is UNHEALTHY
    assert health.unserved == (("order", 2),)
    assert (health.due, health.more, health.depth) == (7, True, "7+")
    assert health.oldest_waiting == 700 * SECOND
    assert "4+ runs are due" in health.reasons[0]
    assert "3 runs are due" in health.reasons[1]


def test_queues_are_listed_by_name_those_that_are_only_served_too() -> None:
    workers = [a_worker(queues=("z", "default")), a_worker("w2", queues=("gone",), state=STOPPED)]

    queues = rules.judge_queues(a_backlog(a_lane("a"), a_lane("m"), a_lane("m", version=2)), workers, CONFIG)

    assert [queue.queue for queue in queues] == ["a", "default", "m", "z"]
    assert [queue.due for queue in queues] == [1, 0, 2, 0]
    assert queues[1].oldest_waiting is None
    assert queues[1].is_healthy


def test_a_depth_that_was_not_counted_to_the_end_says_so() -> None:
    assert judge_queue(a_lane(due=10_000, more=True)).depth == "10,000+"
    assert judge_queue(a_lane(due=10_000)).depth == "10,000"


# -- everything --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "status"),
    [
        ([a_worker()], HEALTHY),
        ([a_worker(), a_worker("w2", silent_s=61, lease_s=99)], DEGRADED),
        ([a_worker(), a_worker("w2", silent_s=500, lease_s=999)], DEGRADED),
        ([a_worker(), a_worker("w2", silent_s=500, state=DEAD)], DEGRADED),
        ([a_worker(), a_worker("w2", silent_s=500, state=STOPPED)], HEALTHY),
        ([a_worker(), a_worker("w2", silent_s=999, state=DEAD)], HEALTHY),
        ([a_worker(silent_s=500, lease_s=999), a_worker("w2", silent_s=500, lease_s=999)], UNHEALTHY),
        ([a_worker(silent_s=500, state=DEAD)], UNHEALTHY),
        ([a_worker(silent_s=500)], UNHEALTHY),
        ([], DEGRADED),
        ([a_worker(state=STOPPED)], DEGRADED),
        ([a_worker(state=DRAINING)], DEGRADED),
    ],
)
def test_one_worker_degrades_the_system_and_all_of_them_bring_it_down(
    workers: list[RegisteredWorker], status: HealthStatus
) -> None:
    report = judge_system(*workers)

    assert report.status is status
    assert report.is_healthy is (status is HEALTHY)
    assert bool(report.reasons) is (status is not HEALTHY)


@pytest.mark.parametrize(
    ("takers", "lanes", "least", "status"),
    [
        (0, 0, 0, DEGRADED),
        (0, 1, 0, UNHEALTHY),
        (0, 0, 1, UNHEALTHY),
        (1, 1, 1, HEALTHY),
        (1, 0, 2, UNHEALTHY),
        (2, 0, 2, HEALTHY),
    ],
)
def test_too_few_workers_are_judged_by_what_is_demanded(
    takers: int, lanes: int, least: int, status: HealthStatus
) -> None:
    workers = [a_worker(f"w{number}") for number in range(takers)]

    report = judge_system(*workers, lanes=(a_lane(),) * lanes, min_workers=least)

    assert report.status is status


def test_a_worker_on_its_way_out_does_not_count_as_one_that_takes_runs() -> None:
    report = judge_system(a_worker(), a_worker("w2", state=DRAINING), min_workers=2)

    assert report.status is UNHEALTHY
    assert report.reasons == ("1 worker takes runs, and there should be at least 2",)


def test_a_report_leaves_out_who_is_gone_and_names_whom_it_speaks_of() -> None:
    workers = [a_worker(), a_worker("w2", state=STOPPED), a_worker("w3", silent_s=70, lease_s=99)]

    report = judge_system(*workers, lanes=(a_lane("mail"),))

    assert [worker.worker_id for worker in report.workers] == ["w1", "w3"]
    assert report.checked_at == NOW
    assert report.reasons[0] == "worker 'w3': it has given no sign of life for 70 s"
    assert report.reasons[1].startswith("queue 'mail': no living worker serves version 1 of workflow 'order'")


def test_the_worst_part_decides() -> None:
    database = DatabaseHealth(status=UNHEALTHY, reasons=("it is full",))

    report = rules.judge_system(database, [a_worker()], a_backlog(), CONFIG)

    assert (report.status, report.reasons) == (UNHEALTHY, ("it is full",))
    assert HealthStatus.worst() is HEALTHY
    assert HealthStatus.worst(HEALTHY, UNHEALTHY, DEGRADED) is UNHEALTHY


def test_a_report_becomes_plain_json_with_durations_in_seconds() -> None:
    report = replace(judge_system(a_worker(load={"runs": 3}), lanes=(a_lane(waits_s=90.5),)), complete=False)

    told = msgspec.json.decode(msgspec.json.encode(report.to_dict()))

    assert (told["status"], told["is_healthy"], told["complete"]) == ("DEGRADED", False, False)
    assert told["checked_at"] == "2030-01-02T03:04:05+00:00"
    assert told["database"] | {"status": "HEALTHY", "latency_s": 0.001, "clock_offset_s": 0.0} == told["database"]
    assert told["database"]["replication_lag_s"] is None
    (worker,), (queue,) = told["workers"], told["queues"]
    assert worker["silent_for_s"] == 1.0
    assert (worker["state"], worker["load"], worker["is_gone"]) == ("RUNNING", {"runs": 3}, False)
    assert (queue["due"], queue["oldest_waiting_s"], queue["unserved"]) == (1, 90.5, [])
    assert told == report.to_dict()


@pytest.mark.parametrize("noun", [DatabaseHealth, WorkerHealth, QueueHealth, HealthReport])
def test_nouns_of_health_can_not_be_changed(noun: type[Any]) -> None:
    with pytest.raises(AttributeError):
        object.__new__(noun).status = HEALTHY
