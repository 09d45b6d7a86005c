"""`kagzi runs fork`: a new run with the history of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kagzi.cli.errors import Refused
from kagzi.cli.json_values import read_json
from kagzi.cli.options import common_options, complete, looking, wants_json
from kagzi.cli.output import echo_json, run_as_json, value_text

if TYPE_CHECKING:
    from kagzi.model.run import Run


@click.command()
@click.argument("which", metavar="RUN")
@click.option("--at", "at_step", required=True, metavar="STEP", help="Its name; where it has several, as charge#2.")
@click.option("--input", "only", metavar="JSON", help="Another input, the only argument; `-` reads it from stdin.")
@click.option("--args", metavar="JSON", help="All arguments of another input, as a JSON array; `-` reads from stdin.")
@click.option("--set", "results", multiple=True, metavar="STEP=JSON", help="Another result of a step before that one.")
@click.option("--id", metavar="ID", help="An id for the new run.")
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="The version of its code; else the run's.")
@common_options
def fork(which: str, only: str | None, args: str | None, results: tuple[str, ...], **wanted: Any) -> None:
    """Start a new run with the history of another up to a step.

    RUN is its run_id or the id that it was started with; it is left as it is.
    """
    wanted["input"] = _input(only, args)
    wanted["set"] = dict(map(_result, results))
    try:
        run = complete(_fork(which, wanted))
    except (ValueError, TypeError) as error:
        raise Refused(str(error)) from error
    if wants_json():
        echo_json(run_as_json(run))
    else:
        click.echo(f"Run {run.run_id} begins with the history of run {run.forked_from}.")


def _input(only: str | None, args: str | None) -> tuple[Any, ...] | None:
    if only is not None and args is not None:
        raise click.UsageError("--input and --args were both given; --input is for one argument, --args for all.")
    if only is not None:
        return (read_json("--input", only),)
    if args is None:
        return None
    every = read_json("--args", args)
    if not isinstance(every, list):
        raise click.UsageError(f"--args must be a JSON array of all arguments, not {value_text(every, limit=60)}.")
    return tuple(every)


def _result(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise click.UsageError(f"--set takes STEP=JSON, such as charge=7, not {value_text(text, limit=60)}.")
    return name, read_json(f"--set {name}", value)


async def _fork(which: str, wanted: dict[str, Any]) -> Run:
    from kagzi.cli.verbs import run_id_of

    async with looking() as kagzi:
        handle = await kagzi.handle(await run_id_of(kagzi, which)).fork(**wanted)
        return await handle.describe()
