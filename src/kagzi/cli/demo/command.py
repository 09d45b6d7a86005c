"""The command and the stage manager: sets up, plays, cleans up."""

from __future__ import annotations

import click

from kagzi.cli.errors import FAILED
from kagzi.cli.options import common_options, complete, database_url, wants_json


@click.command()
@common_options
@click.pass_context
def demo(ctx: click.Context) -> None:
    """Watch a workflow survive the death of its worker.

    Plays on SQLite in a temporary folder, or on --database-url. Exit status 0 only if the result is right and every
    step was executed exactly once.
    """
    import tempfile

    from kagzi.cli.demo.narrator import Narrator
    from kagzi.cli.demo.play import Play
    from kagzi.cli.demo.stage import Stage

    with tempfile.TemporaryDirectory(prefix="kagzi-demo-") as folder:
        url = database_url()
        stage = Stage.in_folder(folder) if url is None else Stage(folder=folder, database_url=url)
        narrator = Narrator(as_json=wants_json())
        narrator.open(place="SQLite in a temporary folder" if url is None else "the database that you named")
        held = complete(Play(stage, narrator).perform())
    ctx.exit(0 if held else FAILED)
