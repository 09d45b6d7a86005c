"""`kagzi runs signal`: sending a run what it waits for."""

from __future__ import annotations

from typing import Any

import click

from kagzi.cli.errors import Refused
from kagzi.cli.json_values import read_json
from kagzi.cli.options import common_options, complete, looking, wants_json
from kagzi.cli.output import echo_json, printable


@click.command()
@click.argument("which", metavar="RUN")
@click.argument("name")
@click.option("--value", metavar="JSON", default="null", help="What the signal carries; `-` reads it from stdin.")
@click.option("--dedup-key", metavar="KEY", help="The run keeps one message for each key.")
@common_options
def signal(which: str, name: str, value: str, dedup_key: str | None) -> None:
    """Send signal NAME to a run, by its run_id or the id that it was started with."""
    read = read_json("--value", value)
    try:
        complete(_send(which, name, read, dedup_key))
    except (ValueError, TypeError) as error:
        raise Refused(str(error)) from error
    if wants_json():
        echo_json({"run": which, "signal": name})
    else:
        click.echo(f"Signal {printable(name)} is in the mailbox of {printable(which)}.")


async def _send(which: str, name: str, value: Any, dedup_key: str | None) -> None:
    from kagzi.authoring.signals import Signal

    async with looking() as kagzi:
        await kagzi.signal(which, Signal(name), value, dedup_key=dedup_key)
