"""Following a run: its operations and its status, as they change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from kagzi.cli.output import between, clock_time, printable, status_text, value_text
from kagzi.clock import monotonic
from kagzi.model.run import TERMINAL, Run, RunStatus
from kagzi.model.step import Step, StepKind, StepStatus

if TYPE_CHECKING:
    from kagzi.client.handles import WorkflowHandle

_PAUSE_S = 0.1
_SHARE = 10
"""A look may take a tenth of the time: a run with a long history is looked at less often."""
_VALUE_WIDTH = 60


async def follow(handle: WorkflowHandle[Any], *, pause_s: float = _PAUSE_S) -> AsyncIterator[Run | Step]:
    """Give each operation of a run, and the run itself, whenever it has changed; the run that has ended comes last.

    Looks every `pause_s`, so what changes twice in between is seen once. Waits while the database can't be reached.
    """
    from kagzi.errors import StoreUnavailable

    seen: dict[str, Step] = {}
    last: Run | None = None
    while last is None or last.status not in TERMINAL:
        began = monotonic()
        try:
            run = await handle.describe()  # before the operations: once it has ended, all of them are there
            steps = await handle.history()
        except StoreUnavailable as error:
            click.echo(f"{printable(str(error))} Waiting for it.", err=True)
            await asyncio.sleep(1)
            continue
        for step in steps:
            if seen.get(step.step_id) != step:
                seen[step.step_id] = step
                yield step
        if last is None or _news(run) != _news(last):
            yield run
        last = run
        await asyncio.sleep(0 if run.status in TERMINAL else max(pause_s, (monotonic() - began) * _SHARE))


def _news(run: Run) -> tuple[object, ...]:
    """What makes a run worth another line; a claim or a release by itself does not."""
    return run.status, run.waiting_for, run.crashes, run.error


def step_line(step: Step) -> str:
    """An operation on one line."""
    line = f"{clock_time(step.finished_at or step.started_at or datetime.now(UTC))}  "
    line += f"{status_text(step.status, width=9)}  {step.kind.lower()} {printable(step.name)}"
    took = between(step.started_at, step.finished_at)
    if took:
        line += f"  {took}"
    if step.status is StepStatus.RETRYING:
        most = "" if step.max_attempts is None else f" of {step.max_attempts}"
        line += f"  attempt {step.attempts}{most} failed, the next at {clock_time(step.wake_at or datetime.now(UTC))}"
    elif step.attempts > 1:
        line += f"  attempt {step.attempts}"
    if step.child_run_id is not None:
        line += f"  run {step.child_run_id}"
    if step.error is not None:
        line += f"  {printable(step.error.type)}: {printable(step.error.message)}"
    elif step.status == "COMPLETED" and step.kind is StepKind.STEP:
        line += f"  -> {value_text(step.output, limit=_VALUE_WIDTH)}"
    return line


def run_line(run: Run) -> str:
    """Where a run stands, on one line."""
    line = f"{clock_time(run.finished_at or datetime.now(UTC))}  {status_text(run.status, width=9)}  run {run.run_id}"
    if run.status is RunStatus.SLEEPING or _is_tried_again(run):
        line += f"  {waits_text(run)}"
    if run.crashes:
        line += f"  crashes {run.crashes}"
    if run.error is not None:
        line += f"  {printable(run.error.type)}: {printable(run.error.message)}"
    return line


def _is_tried_again(run: Run) -> bool:
    """Whether the run has failed and waits for its next attempt."""
    return run.status is RunStatus.PENDING and run.error is not None and bool(run.waiting_for)


def waits_text(run: Run) -> str:
    """What a run waits for, each with its own time."""
    return f"waits for {', '.join(printable(each) for each in run.waiting_for) or 'nothing that is known'}"


def standing(run: Run) -> str:
    """What a run is doing, for somebody who waits for its end."""
    match run.status:
        case RunStatus.SLEEPING:
            return f"The run {waits_text(run)}."
        case RunStatus.PENDING if _is_tried_again(run):
            return f"The run {waits_text(run)}."
        case RunStatus.PENDING:
            return f"No worker has taken the run yet. One that knows {printable(run.workflow)!r} has to be running."
        case _:
            return f"The run is {run.status}."
