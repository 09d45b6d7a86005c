"""`kagzi`: every command, and what becomes of errors.

Exit status 0: done; 1: it failed; 2: it was asked for in a way that can't be.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Any

import click

from kagzi.cli.db import db
from kagzi.cli.demo import demo
from kagzi.cli.dev import dev
from kagzi.cli.emitting import emit
from kagzi.cli.errors import as_click_error
from kagzi.cli.health import health
from kagzi.cli.options import common_options
from kagzi.cli.replay import replay
from kagzi.cli.run import run
from kagzi.cli.runs import runs
from kagzi.cli.versions import versions
from kagzi.cli.why import why
from kagzi.cli.worker import worker
from kagzi.cli.workers import workers


class Commands(click.Group):
    """A group whose commands end in one clear line where Kagzi refuses something."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            raise as_click_error(error) from error


_COMMANDS = [worker, dev, run, runs, emit, why, workers, versions, replay, health, db, demo]


@click.group(cls=Commands, commands=_COMMANDS, context_settings={"max_content_width": 100})
@click.version_option(package_name="kagzi", message="%(prog)s %(version)s")
@common_options
def cli() -> None:
    """Kagzi: durable workflows in plain asyncio, on the database you already have."""


def main() -> None:
    """Be the command `kagzi`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character still gets its line
    cli(prog_name="kagzi")


if __name__ == "__main__":
    main()
