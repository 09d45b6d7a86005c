"""Rows into nouns. A value that this release doesn't know (a status of a later one) is passed on as it is: one strange
row never breaks a listing."""

# ruff: noqa: S608 - SQL is put together from constants.

from __future__ import annotations

from typing import TypeVar

from kagzi.model.run import RunStatus, StoredRun
from kagzi.model.step import StepKind, StepRecord, StepStatus, StoredStep
from kagzi.model.worker import StoredWorker, WorkerState
from kagzi.store.postgres.connections import Row

_Word = TypeVar("_Word", RunStatus, StepKind, StepStatus, WorkerState)

RUN_STATUSES = {member.value: member for member in RunStatus}
STEP_KINDS = {member.value: member for member in StepKind}
STEP_STATUSES = {member.value: member for member in StepStatus}
WORKER_STATES = {member.value: member for member in WorkerState}


def word(known: dict[str, _Word], text: str) -> _Word:
    """The member of that value, or the text itself where there is none."""
    return known.get(text, text)  # type: ignore[arg-type]  # a StrEnum is a str to whoever shows it


_FIRST, _LAST = "timestamptz '0001-01-02 00:00+00'", "timestamptz '9999-12-31 00:00+00'"


def readable(column: str) -> str:
    """A column's moment, or the first or last that Python can name: beyond them the driver fails, for all rows at once.

    Kagzi stores none such, so only a damaged row has one (P23).
    """
    return f"CASE WHEN {column} > {_LAST} THEN {_LAST} WHEN {column} < {_FIRST} THEN {_FIRST} ELSE {column} END"


def not_beyond(moment: str) -> str:
    """A moment, or the last that Python can name where it is later; NULL where it is NULL."""
    return f"CASE WHEN {moment} > {_LAST} THEN {_LAST} ELSE {moment} END"


RUN_COLUMNS = f"""r.run_id::text, coalesce(r.id, r.former_id) AS id, r.namespace, r.workflow, r.version, r.queue,
    r.priority, r.status,
    r.attempts, r.crashes, r.wakeups, r.fence, r.inbox, {readable("r.created_at")} AS created_at,
    {readable("r.started_at")} AS started_at, {readable("r.finished_at")} AS finished_at,
    {readable("r.available_at")} AS available_at, r.waits, r.worker_key::text,
    (SELECT k.worker_id FROM {{schema}}.workers AS k WHERE k.key = r.worker_key) AS worker_id,
    r.parent_run_id::text, r.tags, r.attributes, r.error, {readable("r.paused_at")} AS paused_at, r.pause_reason,
    {readable("r.due_at")} AS due_at, r.forked_from::text,
    {readable("r.deadline")} AS deadline, r.continued_from::text, r.continued_to::text, r.first_run_id::text,
    {readable("r.cancel_asked_at")} AS cancel_asked_at"""
PAYLOAD_COLUMNS = "r.input, r.output"


def stored_run(row: Row, *, input: str | None, output: str | None, error: str | None) -> StoredRun:  # noqa: A002 - the column
    """A run from a row of RUN_COLUMNS."""
    return StoredRun(
        run_id=row["run_id"],
        id=row["id"],
        namespace=row["namespace"],
        workflow=row["workflow"],
        version=row["version"],
        queue=row["queue"],
        priority=row["priority"],
        status=word(RUN_STATUSES, row["status"]),
        input=input,
        output=output,
        error=error,
        attempts=row["attempts"],
        crashes=row["crashes"],
        wakeups=row["wakeups"],
        fence=row["fence"],
        inbox=row["inbox"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        available_at=row["available_at"],
        waits=row["waits"],
        worker_key=row["worker_key"],
        worker_id=row["worker_id"],
        parent_run_id=row["parent_run_id"],
        tags=tuple(row["tags"]),
        attributes=row["attributes"],
        paused_at=row["paused_at"],
        pause_reason=row["pause_reason"],
        due_at=row["due_at"],
        forked_from=row["forked_from"],
        deadline=row["deadline"],
        continued_from=row["continued_from"],
        continued_to=row["continued_to"],
        first_run_id=row["first_run_id"],
        cancel_asked_at=row["cancel_asked_at"],
    )


STEP_COLUMNS = f"""s.step_id, s.seq, s.kind, s.status, s.output, s.error, s.attempts, {readable("s.started_at")},
    {readable("s.finished_at")}, {readable("s.wake_at")}, s.child_run_id::text, s.max_attempts, s.earlier_attempts,
    s.run_attempt, s.heartbeat_details, {readable("s.heartbeat_at")}"""


def stored_step(row: Row) -> StoredStep:
    """An operation from a row of STEP_COLUMNS."""
    return StoredStep(
        step_id=row[0],
        seq=row[1],
        kind=word(STEP_KINDS, row[2]),
        status=word(STEP_STATUSES, row[3]),
        output=row[4],
        error=row[5],
        attempts=row[6],
        started_at=row[7],
        finished_at=row[8],
        wake_at=row[9],
        child_run_id=row[10],
        max_attempts=row[11],
        earlier_attempts=row[12],
        run_attempt=row[13],
        heartbeat_details=row[14],
        heartbeat_at=row[15],
    )


RECORD_COLUMNS = f"""s.run_id::text, s.step_id, s.seq, s.kind, s.status, s.output, s.error, s.attempts,
    {readable("s.started_at")}, {readable("s.finished_at")}, s.child_run_id::text, {readable("s.wake_at")},
    s.earlier_attempts, s.run_attempt, s.message, s.in_doubt,
    CASE WHEN s.status <> 'COMPLETED' THEN s.heartbeat_details END"""


def step_record(row: Row) -> StepRecord:
    """A finished operation from a row of RECORD_COLUMNS."""
    return StepRecord(
        step_id=row[1],
        seq=row[2],
        kind=word(STEP_KINDS, row[3]),
        status=word(STEP_STATUSES, row[4]),
        output=row[5],
        error=row[6],
        attempts=row[7],
        started_at=row[8],
        finished_at=row[9],
        child_run_id=row[10],
        message=row[14],
        in_doubt=row[15],
    )


WORKER_COLUMNS = """w.key::text, w.worker_id, w.namespace, w.host, w.pid, w.queues, w.workflows, w.versions, w.slots,
    w.state, w.build_id, w.load, w.registered_at, w.beat_at, w.lease_until, w.drain_asked, now() AS now"""


def stored_worker(row: Row) -> StoredWorker:
    """A registration from a row of WORKER_COLUMNS."""
    return StoredWorker(
        key=row["key"],
        worker_id=row["worker_id"],
        namespace=row["namespace"],
        host=row["host"],
        pid=row["pid"],
        queues=tuple(row["queues"]),
        workflows=tuple(zip(row["workflows"], row["versions"], strict=False)),
        slots=row["slots"],
        state=word(WORKER_STATES, row["state"]),
        build_id=row["build_id"],
        load=row["load"],
        registered_at=row["registered_at"],
        beat_at=row["beat_at"],
        lease_until=row["lease_until"],
        drain_asked=row["drain_asked"],
        now=row["now"],
    )
