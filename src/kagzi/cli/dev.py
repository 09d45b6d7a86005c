"""`kagzi dev`: everything to develop with, in one command."""

from __future__ import annotations

from typing import Any

import click

from kagzi.cli.options import common_options
from kagzi.cli.worker import work
from kagzi.cli.worker_order import WorkerOrder, worker_options


@click.command()
@click.argument("target", metavar="MODULE:APP")
@worker_options
@common_options
def dev(**given: Any) -> None:
    """Migrate the database, execute the runs of an application, and start anew when a .py file changes.

    Takes the options of `kagzi worker`. For production there are `kagzi db migrate` and `kagzi worker`.
    """
    work(WorkerOrder(**given, reload=True, migrate=True))
