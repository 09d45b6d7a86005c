"""Showing things: exactly as JSON for programs, harmlessly as text for people."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from kagzi.model.run import Run
    from kagzi.model.step import Step

# -- for programs --------------------------------------------------------------------------------------------------


def echo_json(value: Any) -> None:
    """Print one line of JSON in plain ASCII, which no terminal or pipe can spoil."""
    click.echo(json.dumps(value, default=_plain))


def run_as_json(run: Run, *, payloads: bool = True) -> dict[str, Any]:
    """A run with the keys of `kagzi.Run`; listings have no payloads, so they leave out those keys."""
    fields = dataclasses.asdict(run)
    if not payloads:
        for name in ("input", "output", "unreadable", "undelivered"):
            del fields[name]
    return fields


def step_as_json(step: Step) -> dict[str, Any]:
    """An operation with the keys of `kagzi.Step`."""
    return dataclasses.asdict(step)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


# -- for people ----------------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """Text that leaves the terminal as it is: names and errors of runs may hold newlines and escape sequences."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def echo_lines(text: str, *, first: str = "", width: int = 0) -> None:
    """Print a text of several lines, harmlessly, beside `first`."""
    for number, line in enumerate(text.splitlines() or [""]):
        click.echo(f"{'' if number else first:<{width}}{printable(line)}")


def value_text(value: Any, *, limit: int | None = None) -> str:
    """A JSON value on one line, cut where it is longer than `limit` characters."""
    text = printable(json.dumps(value, ensure_ascii=False))
    return text if limit is None or len(text) <= limit else text[: limit - 3] + "..."


def moment(when: datetime | None) -> str:
    """A moment to the second, in UTC."""
    return "" if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def clock_time(when: datetime) -> str:
    """A moment's time of day to the millisecond, in UTC."""
    return when.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def between(start: datetime | None, end: datetime | None) -> str:
    """How long something took."""
    if start is None or end is None:
        return ""
    seconds = (end - start).total_seconds()
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


_COLOURS = {"COMPLETED": "green", "FAILED": "red", "CANCELLED": "yellow", "RUNNING": "cyan", "RETRYING": "yellow"}
_COLOURS |= {"HEALTHY": "green", "DEGRADED": "yellow", "UNHEALTHY": "red"}


def status_text(status: str, *, width: int = 0) -> str:
    """A status in its colour; colours are left out where the output is no terminal."""
    return click.style(status.ljust(width), fg=_COLOURS.get(status))


def echo_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns: fitted to a terminal, whole where a program or a file takes them. The first is never folded."""
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*[Text(printable(cell), style=_COLOURS.get(cell, "")) for cell in row])
    console.print(table)
