"""`kagzi run`: start a run and wait for its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from kagzi.cli.json_values import read_json
from kagzi.cli.options import common_options


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrder:
    """What `kagzi run` was asked for; None leaves a choice open."""

    workflow: str
    input: str | None
    args: str | None
    app: str | None
    id: str | None
    queue: str | None
    version: int | None
    priority: int | None
    delay: float | None
    tags: tuple[str, ...]
    timeout: float | None
    watch: bool
    detach: bool

    def options(self) -> dict[str, Any]:
        """The options of the start that were given."""
        chosen = {
            "id": self.id,
            "queue": self.queue,
            "priority": self.priority,
            "delay": self.delay,
            "tags": self.tags or None,
        }
        return {name: value for name, value in chosen.items() if value is not None}


@click.command()
@click.argument("workflow")
@click.option("--input", metavar="JSON", help="The workflow's only argument; `-` reads it from stdin.")
@click.option("--args", metavar="JSON", help="All its arguments, as a JSON array; `-` reads them from stdin.")
@click.option("--app", metavar="MODULE:APP", help="Check the input against the workflow in this application.")
@click.option("--id", metavar="ID", help="Starts with one id get one run, however often they are repeated.")
@click.option("--queue", metavar="NAME", help="Which workers may take the run.")
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="The workflow's version.")
@click.option("--priority", type=int, metavar="N", help="-100 to 100; higher goes first.")
@click.option("--delay", type=float, metavar="SECONDS", help="Let the run fall due later.")
@click.option("--tag", "tags", multiple=True, metavar="TEXT", help="A tag to find the run by; can be repeated.")
@click.option("--watch", is_flag=True, help="Show every step as it happens.")
@click.option("--detach", is_flag=True, help="Print the run_id and don't wait.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait for this long at most.")
@common_options
@click.pass_context
def run(ctx: click.Context, /, **given: Any) -> None:
    """Start a run of WORKFLOW and print its result.

    The result goes to stdout as JSON, everything else to stderr. Exit status 0: it completed; 1: it failed, was
    cancelled or took longer than --timeout.
    """
    order = RunOrder(**given)
    if order.input is not None and order.args is not None:
        raise click.UsageError("--input is the only argument and --args are all of them: give one of the two.")
    if order.watch and order.detach:
        raise click.UsageError("--watch waits for the run and --detach does not: give one of the two.")
    args = _arguments(order)
    from kagzi.cli.starting import perform

    ctx.exit(perform(order, args))


def _arguments(order: RunOrder) -> list[Any]:
    if order.input is not None:
        return [read_json("--input", order.input)]
    if order.args is None:
        return []
    args = read_json("--args", order.args)
    if not isinstance(args, list):
        raise click.UsageError("--args must be a JSON array of all arguments; for a single one there is --input.")
    return args
