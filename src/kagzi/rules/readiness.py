"""Whether a worker's own process is alive and can take runs, by what it knows of itself."""

from __future__ import annotations

from datetime import timedelta

from kagzi.model.worker import FINAL_STATES, WorkerState

_UNREADY = {
    WorkerState.STARTING: "the worker is starting: it has not entered the database's register yet",
    WorkerState.DRAINING: "the worker drains: it takes no more runs",
    WorkerState.STOPPED: "the worker has stopped",
    WorkerState.DEAD: "the worker was declared dead",
}

_MISSED_BEATS = 2


def why_not_alive(state: WorkerState) -> tuple[str, ...]:
    """Why a worker's process had better be replaced; nothing where it is alive.

    A database that can't be reached is no reason, for a new process would not reach it either.
    """
    return (_UNREADY[state],) if state in FINAL_STATES else ()


def why_not_ready(
    state: WorkerState, *, holds_lease: bool, silent_for: timedelta, heartbeat_interval: timedelta
) -> tuple[str, ...]:
    """Why a worker can't take runs now; nothing where it can. `silent_for` is since its last heartbeat was answered."""
    if state is not WorkerState.RUNNING:
        return (_UNREADY[state],)
    if not holds_lease:
        return ("the worker's lease ran out: the database did not answer its heartbeats in time",)
    if silent_for > _MISSED_BEATS * heartbeat_interval:
        return (f"the database has answered no heartbeat for {silent_for.total_seconds():.0f} s",)
    return ()
