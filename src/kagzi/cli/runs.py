"""`kagzi runs`: looking at runs, holding them, ending them, having them go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kagzi.cli.errors import Refused
from kagzi.cli.forking import fork
from kagzi.cli.options import common_options, complete, looking, wants_json
from kagzi.cli.output import (
    clock_time,
    echo_json,
    echo_lines,
    echo_table,
    moment,
    printable,
    run_as_json,
    status_text,
    step_as_json,
    value_text,
)
from kagzi.cli.sending import signal
from kagzi.cli.verbs import cancel, pause, resume, retry, run_id_of, terminate

if TYPE_CHECKING:
    from kagzi.model.error import StepError
    from kagzi.model.run import Run
    from kagzi.model.step import Step


@click.group()
@common_options
def runs() -> None:
    """Look at runs, send them signals, pause and end them, have them go on."""


for command in (signal, cancel, terminate, pause, resume, retry, fork):
    runs.add_command(command)


@runs.command("list")
@click.option("--status", metavar="STATUS", help="PENDING, RUNNING, SLEEPING, COMPLETED, FAILED or CANCELLED.")
@click.option("--workflow", metavar="NAME", help="Runs of this workflow.")
@click.option("--queue", metavar="NAME", help="Runs in this queue.")
@click.option("--tag", "tags", multiple=True, metavar="TEXT", help="Runs with this tag; can be repeated.")
@click.option("--parent", metavar="RUN", help="Children of this run.")
@click.option("--paused", is_flag=True, default=None, help="Runs that are paused.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--cursor", metavar="RUN_ID", help="The last run of the page before.")
@common_options
def list_runs(**wanted: Any) -> None:
    """List runs, newest first."""
    try:
        found = complete(_find(wanted))
    except (ValueError, TypeError) as error:
        raise Refused(str(error)) from error
    cursor = found[-1].run_id if len(found) == wanted["limit"] else None
    if wants_json():
        echo_json({"runs": [run_as_json(run, payloads=False) for run in found], "cursor": cursor})
        return
    if not found:
        click.echo("No runs.", err=True)
        return
    echo_table(["RUN", "WORKFLOW", "STATUS", "QUEUE", "CREATED", "ID", "TAGS"], [_row(run) for run in found])
    if cursor is not None:
        click.echo(f"There may be more: --cursor {cursor}", err=True)


@runs.command()
@click.argument("which", metavar="RUN")
@common_options
def show(which: str) -> None:
    """Show one run, by its run_id or the id that it was started with: its steps, what it waits for, its error."""
    try:
        run, steps = complete(_look(which))
    except ValueError as error:
        raise Refused(str(error)) from error
    if wants_json():
        echo_json(run_as_json(run) | {"steps": [step_as_json(step) for step in steps]})
        return
    _show_run(run)
    _show_steps(run, steps)
    if run.error is not None and run.error.type != "DivergenceError":  # what it waits for says all of that
        _show_error(run.error)


# -- asking --------------------------------------------------------------------------------------------------------


async def _find(wanted: dict[str, Any]) -> list[Run]:
    async with looking() as kagzi:
        if wanted["parent"] is not None:
            wanted["parent"] = await run_id_of(kagzi, wanted["parent"])
        return await kagzi.find_runs(**wanted)


async def _look(which: str) -> tuple[Run, list[Step]]:
    async with looking() as kagzi:
        handle = kagzi.handle(await run_id_of(kagzi, which))
        return await handle.describe(), await handle.history()


# -- for people ----------------------------------------------------------------------------------------------------


def _row(run: Run) -> list[str]:
    own_id = "" if run.id == run.run_id else run.id
    name = f"{run.workflow} v{run.version}"
    status = run.status if run.paused_at is None else f"{run.status}, paused"
    return [run.run_id, name, status, run.queue, moment(run.created_at), own_id, ", ".join(run.tags)]


def _show_run(run: Run) -> None:
    facts = {
        "run": run.run_id,
        "id": "" if run.id == run.run_id else run.id,
        "workflow": f"{run.workflow}, version {run.version}",
        "queue": run.queue,
        "priority": str(run.priority) if run.priority else "",
        "tags": ", ".join(run.tags),
        "attributes": value_text(run.attributes) if run.attributes else "",
        "created": moment(run.created_at),
        "started": moment(run.started_at),
        "finished": moment(run.finished_at),
        "wakes": moment(run.wake_at),
        "deadline": moment(run.deadline),
        "paused": f"{moment(run.paused_at)} {run.pause_reason or ''}".strip(),
        "worker": run.worker_id or "",
        "parent": run.parent_run_id or "",
        "forked": run.forked_from or "",
        "continues": run.continued_from or "",
        "goes on in": run.continued_to or "",
        "crashes": str(run.crashes) if run.crashes else "",
        "input": value_text(run.input),
        "output": value_text(run.output) if run.status == "COMPLETED" else "",
        "unreadable": run.unreadable or "",
    }
    click.echo(f"{'status':<11}{status_text(run.status)}")
    for name, value in facts.items():
        if value:
            click.echo(f"{name:<11}{printable(value)}")
    for number, text in enumerate(run.waiting_for):
        echo_lines(text, first="" if number else "waits for", width=11)
    for number, message in enumerate(run.undelivered):
        what = f"{message.kind.lower()} {message.name!r} of {moment(message.sent_at)}"
        echo_lines(f"{what}: {value_text(message.value, limit=80)}", first="" if number else "mailbox", width=11)


def _show_steps(run: Run, steps: list[Step]) -> None:
    from kagzi.cli.watching import step_line

    click.echo()
    for step in steps:
        click.echo(f"  {step_line(step)}")
        if step.heartbeat_details is not None and step.finished_at is None:
            at = clock_time(step.heartbeat_at or step.started_at or run.created_at)
            click.echo(f"      {at}  heartbeat  {value_text(step.heartbeat_details, limit=200)}")
        for failed in step.failed_attempts:
            if failed.error != step.error:
                error = f"{printable(failed.error.type)}: {printable(failed.error.message)}  ({failed.error.kind})"
                click.echo(f"      {clock_time(failed.at)}  attempt {failed.attempt} failed  {error}")
    if not steps:
        click.echo("  no operation has finished yet")


def _show_error(error: StepError) -> None:
    click.echo()
    click.echo(f"{printable(error.type)}: {printable(error.message)}  ({error.kind})")
    for line in error.traceback.splitlines():
        click.echo(f"  {printable(line)}")
