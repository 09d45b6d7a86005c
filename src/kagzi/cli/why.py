"""`kagzi why`: what exactly a run waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kagzi.cli.errors import Refused
from kagzi.cli.options import common_options, complete, looking, wants_json
from kagzi.cli.output import echo_json, echo_lines, printable
from kagzi.cli.verbs import run_id_of

if TYPE_CHECKING:
    from kagzi.model.run import Run


@click.command()
@click.argument("which", metavar="RUN")
@common_options
def why(which: str) -> None:
    """Say what exactly a run waits for, by its run_id or the id that it was started with.

    A time, a worker that knows its version, a free slot, a step that is executing or to be retried, code that fits its
    record.
    """
    try:
        run, waits = complete(_explain(which))
    except ValueError as error:
        raise Refused(str(error)) from error
    if wants_json():
        facts = {"run_id": run.run_id, "workflow": run.workflow, "version": run.version, "queue": run.queue}
        echo_json(facts | {"status": run.status, "wake_at": run.wake_at, "waits_for": waits})
        return
    click.echo(printable(f"Run {run.run_id} of workflow {run.workflow!r}, version {run.version}, is {run.status}."))
    for number, text in enumerate(waits):
        echo_lines(text, first="" if number else "It waits for ", width=len("It waits for "))


async def _explain(which: str) -> tuple[Run, list[str]]:
    async with looking() as kagzi:
        return await kagzi.explain(await run_id_of(kagzi, which))
