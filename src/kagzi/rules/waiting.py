"""What exactly a run waits for: decided from the run, its open steps and the workers that are up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from kagzi.model.run import TERMINAL, Run, RunStatus
from kagzi.model.step import Step, StepKind, StepStatus
from kagzi.model.worker import RegisteredWorker

CHILDREN_SHOWN = 10

_DETAILS_SHOWN = 200


def with_statuses(texts: Iterable[str], children: Mapping[str, RunStatus]) -> list[str]:
    """The same, with the status of each child that is named, by its run_id."""
    named = list(texts)
    for run_id, status in children.items():
        named = [text.replace(f"({run_id})", f"({run_id}, {status})") for text in named]
    return named


def unserved(run: Run, workers: Sequence[RegisteredWorker]) -> str | None:
    """Why no worker takes the run, once it is due; None where one does."""
    alive = [worker for worker in workers if worker.holds_lease]
    taking = [worker for worker in alive if worker.takes_runs]
    if any(_serves(worker, run) for worker in taking):
        return None
    if not alive:
        return "no worker is up"
    what = f"version {run.version} of workflow {run.workflow!r} on queue {run.queue!r}"
    draining = [worker.worker_id for worker in alive if _serves(worker, run)]
    if draining:
        return f"no worker takes new runs of {what}: those that serve it are draining ({_quoted(draining)})"
    if not taking:
        return "no worker takes new runs: those that are up are draining"
    return _gap(run, what, taking)


def _gap(run: Run, what: str, taking: Sequence[RegisteredWorker]) -> str:
    """What the workers that take runs lack: the queue, the workflow or its version."""
    here = [worker for worker in taking if run.queue in worker.queues]
    elsewhere = {queue for worker in taking if _knows(worker, run) for queue in worker.queues}
    there = f"; on queue {_quoted(elsewhere)} it is served" if elsewhere else ""
    if not here:
        queues = _quoted(queue for worker in taking for queue in worker.queues)
        return f"no worker takes runs from queue {run.queue!r}; workers that are up take runs from {queues}"
    versions = sorted({version for worker in here for name, version in worker.workflows if name == run.workflow})
    if not versions:
        return f"no worker on queue {run.queue!r} knows workflow {run.workflow!r}{there}"
    known = f"version{'s' if len(versions) > 1 else ''} {_listed(map(str, versions))}"
    return f"no worker serves {what}; workers that are up know {known}{there}"


def waits(run: Run, open_steps: Sequence[Step], workers: Sequence[RegisteredWorker], *, now: datetime) -> list[str]:
    """Everything that the run waits for, most important first. `workers` include those that ended lately."""
    if run.status in TERMINAL:
        error = f": {run.error.type}: {run.error.message}" if run.error is not None else ""
        return [f"nothing: it ended {run.status} at {_when(run.finished_at)}{error}"]
    if run.paused_at is not None:
        return _paused(run, open_steps, workers, now=now)
    if run.status is RunStatus.RUNNING:
        return _in_hand(run, open_steps, workers, now=now)
    if run.wake_at is not None and run.wake_at <= now:
        return [_due(run, workers, now=now)]
    texts = list(run.waiting_for)
    if run.status is RunStatus.SLEEPING and run.error is not None:
        texts.append(f"or another look at {_when(run.wake_at)}; a worker that registers has it looked at at once")
    elif run.wake_at is None:
        texts = texts or ["an event from outside"]
    elif not texts:
        texts = [f"its time: it falls due at {_when(run.wake_at)}, in {_span(run.wake_at - now)}"]
    nobody = unserved(run, workers)
    return texts if nobody is None else [*texts, f"and then for a worker: {nobody}"]


def _paused(run: Run, open_steps: Sequence[Step], workers: Sequence[RegisteredWorker], *, now: datetime) -> list[str]:
    assert run.paused_at is not None
    why = "" if run.pause_reason is None else f" ({run.pause_reason})"
    text = f"being resumed: it is paused since {_when(run.paused_at)}, {_span(now - run.paused_at)}{why}"
    if run.status is RunStatus.RUNNING:
        under_way = _in_hand(run, open_steps, workers, now=now)
        return [text, *(f"before it rests: {each}" for each in under_way)]
    if run.wake_at is not None and run.wake_at > now:
        return [text, *run.waiting_for, f"its time is {_when(run.wake_at)}, also while it is paused"]
    return [text, *run.waiting_for]


def _due(run: Run, workers: Sequence[RegisteredWorker], *, now: datetime) -> str:
    assert run.wake_at is not None
    nobody = unserved(run, workers)
    since = f"it is due since {_when(run.wake_at)}, {_span(now - run.wake_at)}"
    if nobody is not None:
        return f"a worker: {nobody} ({since})"
    serving = [worker for worker in workers if worker.holds_lease and worker.takes_runs and _serves(worker, run)]
    loads = {worker.worker_id: _runs(worker) for worker in serving}
    if all(runs is not None and runs >= worker.slots for worker, runs in zip(serving, loads.values(), strict=True)):
        full = ", ".join(f"{worker.worker_id!r} has {loads[worker.worker_id]} of {worker.slots}" for worker in serving)
        return f"a free slot: every worker that serves it is full ({full} runs; {since})"
    names = _quoted(worker.worker_id for worker in serving)
    return f"its turn: {since}, and workers serve it ({names})"


def _in_hand(run: Run, open_steps: Sequence[Step], workers: Sequence[RegisteredWorker], *, now: datetime) -> list[str]:
    """What a run waits for that a worker has in memory."""
    owner = next((worker for worker in workers if run.worker_id in (worker.worker_id, worker.key)), None)
    name = f"worker {run.worker_id!r}"
    if owner is None or not owner.holds_lease:
        lapsed = "" if owner is None else f", whose lease ran out at {_when(owner.lease_until)}"
        return [f"recovery: {name}{lapsed} is gone, and any other worker brings its runs back"]
    executing = [step for step in open_steps if step.status is StepStatus.RUNNING and step.kind is not StepKind.CHILD]
    children = [f"child {step.name!r} ({step.child_run_id})" for step in open_steps if step.kind is StepKind.CHILD]
    texts = [
        f"{step.kind.lower()} {step.name!r}, which {name} executes since {_when(step.started_at)}"
        + (f", {_span(now - step.started_at)}" if step.started_at is not None else "")
        + (f" (attempt {step.attempts})" if step.attempts > 1 else "")
        + _heartbeat(step, now)
        for step in executing
    ]
    texts += children[:CHILDREN_SHOWN]
    texts += [text for text in run.waiting_for if text not in {told(step) for step in executing}]
    return texts or [f"{name}, which has it in memory: no step has been executing for longer than a heartbeat"]


def told(step: Step) -> str:
    """What a run waits for whose step is executing and gives signs of life."""
    details = "" if step.heartbeat_details is None else f": {_json(step.heartbeat_details)}"
    return f"step {step.name!r}, whose last heartbeat was at {_when(step.heartbeat_at)}{details}"


def _heartbeat(step: Step, now: datetime) -> str:
    if step.heartbeat_at is None:
        return ""
    details = "" if step.heartbeat_details is None else f": {_json(step.heartbeat_details)}"
    return f"; its last heartbeat was {_span(now - step.heartbeat_at)} ago{details}"


def _json(value: Any) -> str:
    """On one line, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _DETAILS_SHOWN else f"{text[: _DETAILS_SHOWN - 3]}..."


def _serves(worker: RegisteredWorker, run: Run) -> bool:
    return run.queue in worker.queues and _knows(worker, run)


def _knows(worker: RegisteredWorker, run: Run) -> bool:
    return (run.workflow, run.version) in worker.workflows


def _runs(worker: RegisteredWorker) -> int | None:
    """How many runs the worker had in memory at its last heartbeat, where it said so."""
    runs = worker.load.get("runs")
    return runs if isinstance(runs, int) else None


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(set(names)))


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _when(moment: datetime | None) -> str:
    return "an unknown time" if moment is None else moment.isoformat(timespec="seconds")


def _span(span: timedelta) -> str:
    seconds = max(span.total_seconds(), 0.0)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
