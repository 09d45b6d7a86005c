"""Starting runs: from arguments to a durable row, or straight into a slot of a worker in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from kagzi.authoring.definitions import Definition
from kagzi.authoring.durations import LATEST
from kagzi.authoring.names import check_name, check_version
from kagzi.authoring.signals import Signal
from kagzi.client import messages
from kagzi.client.handles import WorkflowHandle
from kagzi.client.link import Link, LocalWorker
from kagzi.client.options import StartOptions
from kagzi.client.workflow import Workflow
from kagzi.errors import ConfigError
from kagzi.ids import new_id
from kagzi.model.claim import Claim
from kagzi.model.run import NewRun, RunId, Started, WorkerKey
from kagzi.rules.conflicts import check_conflict
from kagzi.rules.versions import version_to_start


async def start_one(
    link: Link,
    workflow: Workflow[Any, Any] | str,
    version: int | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: StartOptions,
) -> WorkflowHandle[Any]:
    """Start a run; returns once it is durable (P2)."""
    name, definition, version = await _which(link, workflow, options.version if version is None else version, options)
    expected = link.waiting.expect()
    run = _new_run(link, name, version, definition, args, kwargs, options, awaited=expected.announced)
    worker = None
    if definition is not None and options.delay is None and options.at is None and options.connection is None:
        worker, run = _reserve(link, run)
        expected.announced = run.awaited
    if worker is None:
        (started,) = await _store(link, [run], options)
    else:
        started = await _start_eagerly(link, run, worker)
    link.clock.observe(started.now)
    if link.local_workers:
        _tell_workers(link, run, started)
    if not started.created:
        await _check_conflict(link, run, started)
        # It may be of another version, whose result has another type.
        return WorkflowHandle(link, started.run_id, None, namespace=run.namespace)
    return WorkflowHandle(link, started.run_id, definition, namespace=run.namespace, expected=expected)


async def signal_with_start(
    link: Link,
    workflow: Workflow[Any, Any] | str,
    sent: Signal[Any],
    value: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: StartOptions,
) -> WorkflowHandle[Any]:
    """Send a signal to the run of an id; where there is none, start it with the signal in its mailbox, in one commit.

    Raises ConfigError without an id, ConflictError where the id is that of another start, RunClosed where its run has
    ended.
    """
    if options.id is None:
        raise ConfigError(
            "signal_with_start needs the id of the run that is to get the signal: options(id=...).signal_with_start()."
        )
    name, definition, version = await _which(link, workflow, options.version, options)
    first = messages.first_message(link, sent, value)
    run = msgspec.structs.replace(_new_run(link, name, version, definition, args, kwargs, options), message=first)
    (started,) = await _store(link, [run], options)
    link.clock.observe(started.now)
    if link.local_workers:
        _tell_workers(link, run, started)
    if not started.created:
        await _check_conflict(link, run, started)
        await messages.signal(link, started.run_id, sent, value, namespace=run.namespace, connection=options.connection)
    return WorkflowHandle(link, started.run_id, definition if started.created else None, namespace=run.namespace)


async def start_many(
    link: Link, workflow: Workflow[Any, Any] | str, inputs: Sequence[Any], options: StartOptions
) -> list[WorkflowHandle[Any]]:
    """Start a run for each input in one trip: a tuple is all its arguments, anything else its only one."""
    if options.id is not None:
        raise ConfigError("start_many can't give many runs one id; start them one by one, each with an id of its own.")
    name, definition, version = await _which(link, workflow, options.version, options)
    runs = [
        _new_run(link, name, version, definition, given if isinstance(given, tuple) else (given,), {}, options)
        for given in inputs
    ]
    answers = await _store(link, runs, options)
    if answers:
        link.clock.observe(answers[0].now)
        _tell_workers(link, runs[0], answers[0])
    return [WorkflowHandle(link, started.run_id, definition, namespace=options.namespace) for started in answers]


async def _store(link: Link, runs: Sequence[NewRun], options: StartOptions) -> Sequence[Started]:
    """Store new runs for good, or in the caller's own transaction, which is the caller's to commit."""
    if options.connection is None:
        return await link.journal.start(runs)
    return await link.store.start_within(options.connection, runs)


async def _check_conflict(link: Link, run: NewRun, started: Started) -> None:
    """Accept a run that was there before if it is the same; of a chain, the first counts. Raises ConflictError."""
    if (started.workflow, started.input) != (run.workflow, run.input):
        there = await link.store.get(started.run_id)
        first = None if there is None or there.first_run_id is None else await link.store.get(there.first_run_id)
        if first is not None and first.input is not None:
            started = msgspec.structs.replace(started, workflow=first.workflow, input=first.input)
    check_conflict(run, started)


async def _which(
    link: Link, workflow: Workflow[Any, Any] | str, version: int | None, options: StartOptions
) -> tuple[str, Definition | None, int]:
    """Name, definition (None where it isn't known here) and version of what is to be started."""
    if isinstance(workflow, Workflow):
        name = workflow.name
    elif isinstance(workflow, str):
        name = check_name(workflow, what="the name of a workflow")
    else:
        raise TypeError(f"give a workflow or its name, not {workflow!r}.")
    if version is not None:
        check_version(version, what=f"the version of workflow {name!r}")
    known = link.definitions.versions(name) if link.definitions.knows(name) else {}
    policy = await link.version_policy(options.namespace or link.settings.namespace, name)
    if version is None and policy.default is None and not known:
        link.definitions.versions(name)  # raises WorkflowNotRegistered, naming those that are
    version = version_to_start(name, asked=version, policy=policy, known=known)
    return name, known.get(version), version


def _new_run(
    link: Link,
    name: str,
    version: int,
    definition: Definition | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: StartOptions,
    *,
    awaited: bool = False,
) -> NewRun:
    where = f"the input of workflow {name!r}"
    shape = link.payloads.untyped_call() if definition is None else definition.arguments
    attributes = options.attributes
    return NewRun(
        run_id=RunId(new_id()),
        namespace=options.namespace or link.settings.namespace,
        workflow=name,
        version=version,
        input=shape.encode(args, kwargs, where=where),
        id=options.id,
        queue=options.queue,
        priority=options.priority,
        available_at=options.at,
        delay_s=options.delay.total_seconds() if options.delay is not None else 0.0,
        tags=options.tags,
        attributes=None
        if attributes is None
        else link.payloads.shape(dict[str, Any]).encode(dict(attributes), where=f"the attributes of workflow {name!r}"),
        timeout_s=None if options.timeout is None else options.timeout.total_seconds(),
        start_timeout_s=None if options.start_timeout is None else options.start_timeout.total_seconds(),
        awaited=awaited,
    )


def _tell_workers(link: Link, run: NewRun, started: Started) -> None:
    """Have the workers of this process look when a run that is for later falls due, and when its time is over: no hint
    will tell them."""
    limits = [each for each in (run.timeout_s, run.start_timeout_s) if each is not None]
    if limits:
        delayed = started.now + timedelta(seconds=run.delay_s)
        begins = max(delayed, run.available_at or delayed)
        ends = begins + min(timedelta(seconds=min(limits)), LATEST - begins)
        for worker in link.local_workers:
            worker.must_end(ends)
    if run.available_at is not None or run.delay_s:
        due = run.available_at or started.now + timedelta(seconds=run.delay_s)
        for worker in link.local_workers:
            worker.falls_due(due)


def _reserve(link: Link, run: NewRun) -> tuple[LocalWorker | None, NewRun]:
    for worker in link.local_workers:
        key = worker.reserve(run.run_id, queue=run.queue, namespace=run.namespace)
        if key is not None:
            return worker, _owned_by(run, key)
    return None, run


def _owned_by(run: NewRun, key: WorkerKey) -> NewRun:
    return NewRun(
        run_id=run.run_id,
        namespace=run.namespace,
        workflow=run.workflow,
        version=run.version,
        input=run.input,
        id=run.id,
        queue=run.queue,
        priority=run.priority,
        tags=run.tags,
        attributes=run.attributes,
        owner=key,
        timeout_s=run.timeout_s,
        start_timeout_s=run.start_timeout_s,
    )


async def _start_eagerly(link: Link, run: NewRun, worker: LocalWorker) -> Started:
    """Start a run that is born claimed by a worker of this process."""
    owner = run.owner
    assert owner is not None
    try:
        (started,) = await link.journal.start([run])
    except BaseException:
        worker.unreserve(run.run_id)  # should the row be there after all, the worker gives it back as a stray
        raise
    if not started.claimed or started.run_id != run.run_id:
        worker.unreserve(run.run_id)
        return started
    claim = Claim(
        run_id=run.run_id,
        id=run.id,
        workflow=run.workflow,
        version=run.version,
        queue=run.queue,
        priority=run.priority,
        input=run.input,
        fence=1,
        inbox=0,
        attempts=1,
        started_at=started.now,
    )
    link.clock.observe(started.now)
    # A plain callback: a body must not be drained inside a task (engine/loop.py).
    asyncio.get_running_loop().call_soon(lambda: worker.take(claim, key=owner))
    return started
