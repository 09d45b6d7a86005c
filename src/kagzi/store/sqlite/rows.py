"""Rows into nouns. A value that this release doesn't know (a status of a later one) is passed on as it is: one strange
row never breaks a listing (P23)."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from kagzi.model.run import RunStatus, StoredRun
from kagzi.model.step import StepKind, StepRecord, StepStatus, StoredStep
from kagzi.model.worker import StoredWorker, WorkerState
from kagzi.store.sqlite.times import moment, moment_or_none

Row = tuple[Any, ...]

_Word = TypeVar("_Word", RunStatus, StepKind, StepStatus, WorkerState)

RUN_STATUSES = {member.value: member for member in RunStatus}
_STEP_KINDS = {member.value: member for member in StepKind}
_STEP_STATUSES = {member.value: member for member in StepStatus}
_WORKER_STATES = {member.value: member for member in WorkerState}


def word(known: dict[str, _Word], text: str) -> _Word:
    """The member of that value, or the text itself where there is none."""
    return known.get(text, text)  # type: ignore[arg-type]  # a StrEnum is a str to whoever shows it


def _texts(encoded: str) -> tuple[str, ...]:
    """A list of texts; empty where a damaged row holds something else."""
    try:
        return msgspec.json.decode(encoded, type=tuple[str, ...])
    except msgspec.MsgspecError:
        return ()


def _pairs(encoded: str) -> tuple[tuple[str, int], ...]:
    """A list of names and numbers; empty where a damaged row holds something else."""
    try:
        return msgspec.json.decode(encoded, type=tuple[tuple[str, int], ...])
    except msgspec.MsgspecError:
        return ()


RUN_COLUMNS = """r.run_id, coalesce(r.id, r.former_id), r.namespace, r.workflow, r.version, r.queue, r.priority,
    r.status, r.attempts,
    r.crashes, r.wakeups, r.fence, r.inbox, r.created_at, r.started_at, r.finished_at, r.available_at, r.waits,
    r.worker_key, (SELECT k.worker_id FROM workers AS k WHERE k.key = r.worker_key) AS worker_id,
    r.parent_run_id, r.tags, r.attributes, r.paused_at, r.pause_reason, r.due_at, r.forked_from,
    r.deadline, r.continued_from, r.continued_to, r.first_run_id, r.cancel_asked_at"""
PAYLOAD_COLUMNS = "r.input, r.output, r.error"
NO_PAYLOADS = (None, None, None)


def stored_run(row: Row) -> StoredRun:
    """A run from a row of RUN_COLUMNS and PAYLOAD_COLUMNS."""
    return StoredRun(
        run_id=row[0],
        id=row[1],
        namespace=row[2],
        workflow=row[3],
        version=row[4],
        queue=row[5],
        priority=row[6],
        status=word(RUN_STATUSES, row[7]),
        attempts=row[8],
        crashes=row[9],
        wakeups=row[10],
        fence=row[11],
        inbox=row[12],
        created_at=moment(row[13]),
        started_at=moment_or_none(row[14]),
        finished_at=moment_or_none(row[15]),
        available_at=moment_or_none(row[16]),
        waits=row[17],
        worker_key=row[18],
        worker_id=row[19],
        parent_run_id=row[20],
        tags=_texts(row[21]),
        attributes=row[22],
        paused_at=moment_or_none(row[23]),
        pause_reason=row[24],
        due_at=moment_or_none(row[25]),
        forked_from=row[26],
        deadline=moment_or_none(row[27]),
        continued_from=row[28],
        continued_to=row[29],
        first_run_id=row[30],
        cancel_asked_at=moment_or_none(row[31]),
        input=row[32],
        output=row[33],
        error=row[34],
    )


STEP_COLUMNS = """s.step_id, s.seq, s.kind, s.status, s.output, s.error, s.attempts, s.started_at, s.finished_at,
    s.wake_at, s.child_run_id, s.max_attempts, s.earlier_attempts, s.run_attempt, s.heartbeat_details, s.heartbeat_at"""


def stored_step(row: Row) -> StoredStep:
    """An operation from a row of STEP_COLUMNS."""
    return StoredStep(
        step_id=row[0],
        seq=row[1],
        kind=word(_STEP_KINDS, row[2]),
        status=word(_STEP_STATUSES, row[3]),
        output=row[4],
        error=row[5],
        attempts=row[6],
        started_at=moment_or_none(row[7]),
        finished_at=moment_or_none(row[8]),
        wake_at=moment_or_none(row[9]),
        child_run_id=row[10],
        max_attempts=row[11],
        earlier_attempts=row[12],
        run_attempt=row[13],
        heartbeat_details=row[14],
        heartbeat_at=moment_or_none(row[15]),
    )


BY_RUN_ID = "INDEXED BY sqlite_autoindex_workflow_runs_1"
"""Behind `workflow_runs` where runs are looked up by their ids: in a file that was analysed when it held one run,
SQLite would rather read the whole table."""

RECORD_COLUMNS = """s.run_id, s.step_id, s.seq, s.kind, s.status, s.output, s.error, s.attempts, s.started_at,
    s.finished_at, s.child_run_id, s.wake_at, s.earlier_attempts, s.run_attempt, s.message, s.in_doubt,
    CASE WHEN s.status <> 'COMPLETED' THEN s.heartbeat_details END"""


def step_record(row: Row) -> StepRecord:
    """A finished operation from a row of RECORD_COLUMNS."""
    return StepRecord(
        step_id=row[1],
        seq=row[2],
        kind=word(_STEP_KINDS, row[3]),
        status=word(_STEP_STATUSES, row[4]),
        output=row[5],
        error=row[6],
        attempts=row[7],
        started_at=moment_or_none(row[8]),
        finished_at=moment_or_none(row[9]),
        child_run_id=row[10],
        message=row[14],
        in_doubt=bool(row[15]),
    )


WORKER_COLUMNS = """w.key, w.worker_id, w.namespace, w.host, w.pid, w.queues, w.workflows, w.slots, w.state, w.build_id,
    w.load, w.registered_at, w.beat_at, w.lease_until, w.drain_asked"""


def stored_worker(row: Row, *, now: int) -> StoredWorker:
    """A registration from a row of WORKER_COLUMNS, read at `now`."""
    return StoredWorker(
        key=row[0],
        worker_id=row[1],
        namespace=row[2],
        host=row[3],
        pid=row[4],
        queues=_texts(row[5]),
        workflows=_pairs(row[6]),
        slots=row[7],
        state=word(_WORKER_STATES, row[8]),
        build_id=row[9],
        load=row[10],
        registered_at=moment(row[11]),
        beat_at=moment(row[12]),
        lease_until=moment(row[13]),
        drain_asked=bool(row[14]),
        now=moment(now),
    )
