"""Turning what a store gives into what people see. Nothing here raises: an unreadable row is shown as such (P23)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from kagzi.errors import PayloadError
from kagzi.model.message import Message
from kagzi.model.run import MessageKind, Run, RunStatus, StoredRun, Undelivered
from kagzi.model.step import Attempt, Step, StepStatus, StoredAttempt, StoredStep, step_name
from kagzi.model.worker import RegisteredWorker, StoredWorker
from kagzi.payloads import Payloads
from kagzi.rules import waiting
from kagzi.rules.failures import decode_error
from kagzi.rules.retries import retrying


def as_run(
    stored: StoredRun,
    payloads: Payloads,
    *,
    open_steps: Sequence[StoredStep] = (),
    unreceived: Sequence[Message] = (),
) -> Run:
    """A run for people; what can't be decoded is None, and `unreadable` says why.

    What it waits for is what it parked with, or else those of its `open_steps` that are retrying, or have told how far
    they are: then it is, or was, in a worker's memory.
    """
    faults: list[str] = []

    def show(text: str | None, what: str) -> Any:
        try:
            return payloads.show(text)
        except PayloadError as error:
            faults.append(f"{what}: {error}")
            return None

    attributes = show(stored.attributes, "attributes")
    undelivered = tuple(
        Undelivered(
            kind=each.kind,
            name=each.name,
            value=show(each.payload, f"{each.kind.lower()} {each.name!r}"),
            sent_at=each.created_at,
        )
        for each in unreceived
        if each.kind not in (MessageKind.CHILD, MessageKind.EVENT)  # nobody has sent it to this run
    )
    return Run(
        run_id=stored.run_id,
        id=stored.id or stored.run_id,
        namespace=stored.namespace,
        workflow=stored.workflow,
        version=stored.version,
        queue=stored.queue,
        priority=stored.priority,
        status=stored.status,
        input=show(stored.input, "input"),
        output=show(stored.output, "output"),
        error=None if stored.error is None else decode_error(stored.error),
        attempts=stored.attempts,
        crashes=stored.crashes,
        wakeups=stored.wakeups,
        created_at=stored.created_at,
        started_at=stored.started_at,
        finished_at=stored.finished_at,
        wake_at=_wakes(stored),
        waiting_for=_waits(stored.waits, faults)
        or (*_retries(open_steps, attempt=stored.attempts), *_heartbeats(open_steps, payloads)),
        worker_id=stored.worker_id or stored.worker_key,
        parent_run_id=stored.parent_run_id,
        tags=stored.tags,
        attributes=attributes if isinstance(attributes, dict) else {},
        paused_at=stored.paused_at,
        pause_reason=stored.pause_reason,
        undelivered=undelivered,
        forked_from=stored.forked_from,
        deadline=stored.deadline,
        continued_from=stored.continued_from,
        continued_to=stored.continued_to,
        unreadable="; ".join(faults) or None,
    )


def _wakes(stored: StoredRun) -> datetime | None:
    """When the run is due, or would be without its pause."""
    if stored.status not in (RunStatus.SLEEPING, RunStatus.PENDING):
        return None
    return stored.available_at if stored.paused_at is None else stored.due_at


def as_step(
    stored: StoredStep, payloads: Payloads, *, failed: Sequence[StoredAttempt] = (), is_over: bool = False
) -> Step:
    """A step for people; a result that can't be decoded is shown as None.

    `failed` are its executions that failed; `is_over` says that its run has ended, and so what is still open.
    """

    def show(text: str | None) -> Any:
        try:
            return payloads.show(text)
        except PayloadError:
            return None

    return Step(
        step_id=stored.step_id,
        name=_name(stored.step_id),
        kind=stored.kind,
        status=StepStatus.CANCELLED if is_over and stored.seq is None else stored.status,
        output=show(stored.output),
        error=None if stored.error is None else decode_error(stored.error),
        attempts=stored.attempts,
        started_at=stored.started_at,
        finished_at=stored.finished_at,
        wake_at=None if is_over else stored.wake_at,
        child_run_id=stored.child_run_id,
        max_attempts=_most(stored),
        failed_attempts=tuple(
            Attempt(attempt=each.attempt, error=decode_error(each.error or ""), at=each.at) for each in failed
        ),
        heartbeat_details=show(stored.heartbeat_details),
        heartbeat_at=stored.heartbeat_at,
    )


def _most(stored: StoredStep) -> int | None:
    """How often an open step may be executed in all. A finished one may have been so in a later attempt of the run."""
    if stored.seq is not None or stored.max_attempts is None:
        return None
    return stored.earlier_attempts + stored.max_attempts


def _retries(open_steps: Sequence[StoredStep], *, attempt: int) -> tuple[str, ...]:
    """The steps that this attempt of the run has executed and will execute again."""
    return tuple(
        retrying(
            f"step {_name(step.step_id)!r}",
            made=step.attempts - step.earlier_attempts,
            most=step.max_attempts,
            at=step.wake_at,
        )
        for step in open_steps
        if step.status is StepStatus.RETRYING and step.wake_at is not None and step.run_attempt == attempt
    )


def _heartbeats(open_steps: Sequence[StoredStep], payloads: Payloads) -> tuple[str, ...]:
    """The steps that are executing and have told how far they are."""
    executing = (step for step in open_steps if step.status is StepStatus.RUNNING and step.heartbeat_at is not None)
    return tuple(waiting.told(as_step(step, payloads)) for step in executing)


def as_worker(stored: StoredWorker) -> RegisteredWorker:
    """A worker for people."""
    return RegisteredWorker(
        worker_id=stored.worker_id,
        key=stored.key,
        host=stored.host,
        pid=stored.pid,
        queues=stored.queues,
        workflows=stored.workflows,
        slots=stored.slots,
        state=stored.state,
        drain_asked=stored.drain_asked,
        build_id=stored.build_id,
        load=_load(stored.load),
        registered_at=stored.registered_at,
        beat_at=stored.beat_at,
        lease_until=stored.lease_until,
        seen_at=stored.now,
    )


def _load(text: str | None) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


def _waits(text: str | None, faults: list[str]) -> tuple[str, ...]:
    if text is None:
        return ()
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except msgspec.MsgspecError as error:
        faults.append(f"waits: {error}")
        return ()


def _name(step_id: str) -> str:
    try:
        return step_name(step_id)
    except ValueError:
        return step_id
