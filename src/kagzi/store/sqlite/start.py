"""New runs: one insert for all that wait, and a look at what was there only where something was."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from kagzi.model.run import NewRun, Started, WorkerKey
from kagzi.store.sqlite.batches import Bulk
from kagzi.store.sqlite.register import ALIVE
from kagzi.store.sqlite.session import Session, Verb
from kagzi.store.sqlite.times import later, micros, moment

INSERTED = """
INSERT INTO workflow_runs (
    run_id, namespace, id, workflow, version, queue, priority, status, input, tags, attributes, parent_run_id,
    fence, created_at, started_at, available_at, worker_key
)
"""
_INSERT = Bulk(
    head=INSERTED,
    row="(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    tail="ON CONFLICT DO NOTHING",
)

_FIRST_MESSAGE = """
INSERT INTO messages (run_id, position, kind, name, payload, created_at) VALUES (?, 1, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
_LIMIT = """
UPDATE workflow_runs SET deadline = ?2, start_deadline = ?3, timeout_s = ?4
WHERE run_id = ?1 AND deadline IS NULL AND start_deadline IS NULL
"""
_COUNT_FIRST = "UPDATE workflow_runs SET inbox = 1 WHERE run_id = ?"

_THERE = """
SELECT r.run_id, r.workflow, r.input, r.status = 'RUNNING' AND r.fence = 1, r.worker_key FROM workflow_runs AS r
"""
_THERE_BY_RUN_ID = _THERE + "WHERE r.run_id = ?"
_THERE_BY_ID = _THERE + "WHERE r.namespace = ? AND r.id = ?"

_NO_TAGS = "[]"


def _start(session: Session, calls: list[Sequence[NewRun]]) -> list[list[Started]]:
    """Insert the runs of all calls; they are in one transaction anyway, and so share their statements too."""
    now = session.now
    living: dict[WorkerKey, bool] = {}
    rows = []
    are_plain = True
    for runs in calls:
        for run in runs:
            are_plain &= run.is_plain
            due = later(now, run.delay_s) if run.available_at is None else micros(run.available_at)
            owner = run.owner
            if owner is not None and (due > now or not _is_alive(session, owner, living)):
                owner = None
            if owner is None and due <= now:
                session.due = True
            rows.append(new_row(run, owner, due, now))
    stored = _INSERT.run(session.connection, rows)
    at = moment(now)
    if stored < len(rows):
        answers = [[_look(session, run, at) for run in runs] for runs in calls]
    else:
        owners = iter(rows)
        answers = [[_created(run, claimed=next(owners)[-1] is not None, now=at) for run in runs] for runs in calls]
    if not are_plain:
        for runs, started in zip(calls, answers, strict=True):
            _post_first(session, runs, started)
            _limit(session, runs, started)
    return answers


START = Verb(_start)


def _post_first(session: Session, runs: Sequence[NewRun], started: Sequence[Started]) -> None:
    """Put the first messages of new runs into their mailboxes; an earlier try of ours may have."""
    for run, answer in zip(runs, started, strict=True):
        message = run.message
        if message is not None and answer.created:
            content = (message.kind, message.name, message.payload, session.now)
            if session.write(_FIRST_MESSAGE, (run.run_id, *content)):
                session.write(_COUNT_FIRST, (run.run_id,))


def _limit(session: Session, runs: Sequence[NewRun], started: Sequence[Started]) -> None:
    """Note the timeouts of new runs; an earlier try of ours may have."""
    now = session.now
    for run, answer in zip(runs, started, strict=True):
        if answer.created and not (run.timeout_s is None and run.start_timeout_s is None):
            due = later(now, run.delay_s) if run.available_at is None else max(micros(run.available_at), now)
            limits = (None if each is None else later(due, each) for each in (run.timeout_s, run.start_timeout_s))
            session.write(_LIMIT, (run.run_id, *limits, run.timeout_s))


def _is_alive(session: Session, owner: WorkerKey, living: dict[WorkerKey, bool]) -> bool:
    if owner not in living:
        living[owner] = session.value(ALIVE, (owner, session.now)) is not None
    return living[owner]


def new_row(run: NewRun, owner: WorkerKey | None, due: int, now: int) -> tuple[Any, ...]:
    """A run as INSERTED takes it."""
    tags = msgspec.json.encode(run.tags).decode() if run.tags else _NO_TAGS
    born = ("PENDING", 0, None, due) if owner is None else ("RUNNING", 1, now, None)
    return (
        run.run_id,
        run.namespace,
        run.id,
        run.workflow,
        run.version,
        run.queue,
        run.priority,
        born[0],
        run.input,
        tags,
        run.attributes,
        run.parent_run_id,
        born[1],
        now,
        born[2],
        born[3],
        owner,
    )


def _created(run: NewRun, *, claimed: bool, now: datetime) -> Started:
    return Started(run_id=run.run_id, created=True, workflow=run.workflow, input=run.input, claimed=claimed, now=now)


def _look(session: Session, run: NewRun, now: datetime) -> Started:
    """Answer a start with the run that is there: the one just stored, our own earlier one, or another with its id."""
    mine = session.rows(_THERE_BY_RUN_ID, (run.run_id,))
    there = mine or session.rows(_THERE_BY_ID, (run.namespace, run.id))
    run_id, workflow, payload, first, owner = there[0]
    return Started(
        run_id=run_id,
        created=bool(mine),
        workflow=workflow,
        input=payload,
        claimed=bool(mine and first and run.owner is not None and owner == run.owner),
        now=now,
    )
