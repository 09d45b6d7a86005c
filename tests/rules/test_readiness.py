"""Whether a worker's process is alive, and whether it can take runs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kagzi.model.worker import WorkerState
from kagzi.rules.readiness import why_not_alive, why_not_ready

INTERVAL = timedelta(seconds=10)


@pytest.mark.parametrize("state", WorkerState)
def test_whoever_has_not_ended_is_alive(state: WorkerState) -> None:
    assert bool(why_not_alive(state)) is (state in (WorkerState.STOPPED, WorkerState.DEAD))


@pytest.mark.parametrize("state", WorkerState)
def test_who_runs_with_a_lease_and_a_heartbeat_is_ready_and_nobody_else(state: WorkerState) -> None:
    reasons = why_not_ready(state, holds_lease=True, silent_for=INTERVAL, heartbeat_interval=INTERVAL)

    assert bool(reasons) is (state is not WorkerState.RUNNING)


def test_without_a_lease_nobody_is_ready() -> None:
    (reason,) = why_not_ready(
        WorkerState.RUNNING, holds_lease=False, silent_for=timedelta(0), heartbeat_interval=INTERVAL
    )

    assert "lease" in reason


@pytest.mark.parametrize(("silent_s", "ready"), [(0, True), (20, True), (20.001, False), (1e6, False)])
def test_a_worker_that_missed_two_heartbeats_is_not_ready(silent_s: float, ready: bool) -> None:
    silent_for = timedelta(seconds=silent_s)

    reasons = why_not_ready(WorkerState.RUNNING, holds_lease=True, silent_for=silent_for, heartbeat_interval=INTERVAL)

    assert (not reasons) is ready
