"""The register of workers: leases, and who is alive."""

# ruff: noqa: S608 - SQL is put together from constants only.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from kagzi.ids import is_id
from kagzi.model.run import WorkerKey
from kagzi.model.step import OpenStep
from kagzi.model.worker import Beat, BeatAnswer, OwnedRun, Registration, StoredWorker, WorkerState
from kagzi.store.sqlite.rows import WORKER_COLUMNS, stored_worker
from kagzi.store.sqlite.session import Session, each
from kagzi.store.sqlite.times import micros, micros_or_none, moment, span

ALIVE = "SELECT 1 FROM workers AS w WHERE w.key = ? AND w.ended_at IS NULL AND w.lease_until > ?"

_REGISTER = """
INSERT INTO workers (
    key, worker_id, namespace, host, pid, queues, workflows, slots, state, build_id, registered_at, beat_at, lease_until
)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'STARTING', ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET lease_until = excluded.lease_until, beat_at = excluded.beat_at WHERE ended_at IS NULL
"""

# Ended registrations are kept for a day, and for as long as a run stands under them.
_PURGE = """
DELETE FROM workers
WHERE namespace = ? AND ended_at < ?
    AND NOT EXISTS (SELECT 1 FROM workflow_runs AS r WHERE r.worker_key = workers.key)
"""
_DAY = 24 * 3600 * 1_000_000

# A lease that ran out is renewed as long as nobody has declared the worker dead: its runs are all still its own.
_RENEW = """
UPDATE workers SET state = ?2, load = ?3, beat_at = ?4, lease_until = ?5, ended_at = ?6
WHERE key = ?1 AND ended_at IS NULL
RETURNING drain_asked
"""

_ASK_DRAIN = """
UPDATE workers SET drain_asked = 1
WHERE key IN (SELECT value FROM json_each(?2)) AND +namespace = ?1 AND ended_at IS NULL -- +: by the key alone
RETURNING key
"""

_DRAIN_ASKED = "SELECT k.drain_asked FROM workers AS k WHERE k.key = ?"

_SHOW_OPEN = """
INSERT INTO step_runs (
    run_id, step_id, seq, kind, status, attempts, started_at, earlier_attempts, run_attempt, heartbeat_details,
    heartbeat_at
)
SELECT r.run_id, ?3, NULL, 'STEP', 'RUNNING', ?4, ?5, ?6, ?7, ?8, ?9
FROM workflow_runs AS r WHERE r.run_id = ?1 AND r.fence = ?2 AND r.status = 'RUNNING'
-- A step that waited for its next execution is now in it. One of which that execution's failure was stored since we
-- looked is not: its count and its wait must stay. And of what an execution tells, the latest counts.
ON CONFLICT (run_id, step_id) DO UPDATE SET
    seq = NULL, status = excluded.status, output = NULL, attempts = excluded.attempts, started_at = excluded.started_at,
    finished_at = NULL, wake_at = NULL, earlier_attempts = excluded.earlier_attempts,
    run_attempt = excluded.run_attempt, heartbeat_at = coalesce(excluded.heartbeat_at, heartbeat_at),
    heartbeat_details = coalesce(excluded.heartbeat_details, heartbeat_details)
WHERE (seq IS NULL AND status = 'RETRYING' AND attempts < excluded.attempts)
    OR (seq IS NULL AND status = 'RUNNING' AND attempts <= excluded.attempts
        AND excluded.heartbeat_at >= coalesce(heartbeat_at, excluded.heartbeat_at))
    -- What an earlier attempt of the run has finished is executed again only where it had failed.
    OR (seq <= (SELECT r.reopened_seq FROM workflow_runs AS r WHERE r.run_id = excluded.run_id) AND status = 'FAILED')
"""

_LEAVE = "UPDATE workers SET state = 'STOPPED', ended_at = ?2 WHERE key = ?1 AND ended_at IS NULL"

_OWNED = "SELECT r.run_id, r.fence FROM workflow_runs AS r WHERE r.worker_key = ? ORDER BY r.run_id"

_WORKERS = f"""
SELECT {WORKER_COLUMNS} FROM workers AS w
WHERE w.namespace = ?1 AND (w.ended_at IS NULL OR w.ended_at > ?2)
ORDER BY w.registered_at DESC, w.key DESC
"""


class DrainOrder(NamedTuple):
    """Which registrations of a namespace are to drain."""

    namespace: str
    workers: Sequence[WorkerKey]


def _register(session: Session, registration: Registration) -> BeatAnswer:
    now = session.now
    arguments = (
        registration.key,
        registration.worker_id,
        registration.namespace,
        registration.host,
        registration.pid,
        _json(registration.queues),
        _json(registration.workflows),
        registration.slots,
        registration.build_id,
        now,
        now,
        now + span(registration.lease),
    )
    alive = session.write(_REGISTER, arguments) > 0
    session.write(_PURGE, (registration.namespace, now - _DAY))
    return BeatAnswer(alive=alive, now=moment(now))


def _beat(session: Session, beat: Beat) -> BeatAnswer:
    now = session.now
    ended_at = now if beat.state in (WorkerState.STOPPED, WorkerState.DEAD) else None
    arguments = (beat.worker, beat.state, beat.load, now, now + span(beat.lease), ended_at)
    renewed = session.rows(_RENEW, arguments)
    alive, drain = bool(renewed), bool(renewed[0][0]) if renewed else _is_asked_to_drain(session, beat.worker)
    if alive and beat.open_steps:
        _show(session, beat.open_steps)
    return BeatAnswer(alive=alive, now=moment(now), drain=drain)


def _show(session: Session, steps: Sequence[OpenStep]) -> None:
    session.connection.executemany(
        _SHOW_OPEN,
        [
            (
                *(step.run_id, step.fence, step.step_id),
                step.attempts,
                micros(step.started_at),
                step.earlier_attempts,
                step.run_attempt,
                step.heartbeat_details,
                micros_or_none(step.heartbeat_at),
            )
            for step in steps
        ],
    )


def _leave(session: Session, worker: WorkerKey) -> None:
    session.write(_LEAVE, (worker, session.now))


def _ask_drain(session: Session, order: DrainOrder) -> set[WorkerKey]:
    keys = _json([key for key in order.workers if is_id(key)])
    asked = {key for (key,) in session.rows(_ASK_DRAIN, (order.namespace, keys))}
    session.drain |= bool(asked)
    return asked


def _is_asked_to_drain(session: Session, worker: WorkerKey) -> bool:
    return bool(session.value(_DRAIN_ASKED, (worker,)))


def _owned(session: Session, worker: WorkerKey) -> list[OwnedRun]:
    return [OwnedRun(run_id=run_id, fence=fence) for run_id, fence in session.rows(_OWNED, (worker,))]


def _workers(session: Session, namespace: str) -> list[StoredWorker]:
    now = session.now
    return [stored_worker(row, now=now) for row in session.rows(_WORKERS, (namespace, now - _DAY))]


REGISTER = each(_register)
BEAT = each(_beat)
SHOW = each(_show)
LEAVE = each(_leave)
ASK_DRAIN = each(_ask_drain)
IS_ASKED_TO_DRAIN = each(_is_asked_to_drain)
OWNED = each(_owned)
WORKERS = each(_workers)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
