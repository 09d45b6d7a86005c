"""`kagzi emit`: telling an event to all who wait for it."""

from __future__ import annotations

from typing import Any

import click

from kagzi.cli.errors import Refused
from kagzi.cli.json_values import read_json
from kagzi.cli.options import common_options, complete, looking, wants_json
from kagzi.cli.output import echo_json, printable


@click.command()
@click.argument("name")
@click.option("--value", metavar="JSON", default="null", help="What the event carries; `-` reads it from stdin.")
@click.option("--key", metavar="KEY", help="Those who wait with a key get events with this key.")
@click.option("--dedup-key", metavar="KEY", help="There is one event for each key.")
@common_options
def emit(name: str, value: str, key: str | None, dedup_key: str | None) -> None:
    """Emit event NAME: every run that waits for it gets it, and what handles it is started."""
    read = read_json("--value", value)
    try:
        complete(_emit(name, read, key, dedup_key))
    except (ValueError, TypeError) as error:
        raise Refused(str(error)) from error
    if wants_json():
        echo_json({"event": name, "key": key})
    else:
        click.echo(f"Event {printable(name)} is emitted.")


async def _emit(name: str, value: Any, key: str | None, dedup_key: str | None) -> None:
    async with looking() as kagzi:
        await kagzi.emit(name, value, key=key, dedup_key=dedup_key)
