"""`kagzi db`: the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kagzi.cli.errors import FAILED
from kagzi.cli.options import common_options, complete, current_settings, wants_json
from kagzi.cli.output import echo_json

if TYPE_CHECKING:
    from kagzi.store.protocol import SchemaStatus


@click.group()
@common_options
def db() -> None:
    """Look after the database."""


@db.command()
@common_options
def migrate() -> None:
    """Bring the schema up to date.

    Safe while workers run and when many do it at once.
    """
    applied, status = complete(_migrate())
    if wants_json():
        echo_json({"applied": applied, "current": status.current, "latest": status.latest})
    elif applied:
        click.echo(f"Applied {applied} of {status.latest} migrations; the schema is up to date.")
    else:
        click.echo(f"Nothing to do: the schema is at migration {status.current}.")


@db.command()
@common_options
@click.pass_context
def status(ctx: click.Context) -> None:
    """Say how far the schema is; exit status 1 where migrations are missing."""
    found = complete(_status())
    up_to_date = found.current >= found.latest
    if wants_json():
        echo_json({"current": found.current, "latest": found.latest, "up_to_date": up_to_date})
    elif up_to_date:
        click.echo(f"The schema is up to date, at migration {found.current}.")
    else:
        missing = f"{found.current}, and this release needs {found.latest}"
        click.echo(f"The schema is at migration {missing}. Run `kagzi db migrate`.")
    if not up_to_date:
        ctx.exit(FAILED)


async def _migrate() -> tuple[int, SchemaStatus]:
    from kagzi.store.urls import open_store

    settings = current_settings(auto_migrate=True)
    store = open_store(settings.database_url, settings)
    await store.open()
    try:
        return await store.migrate(), await store.schema_status()
    finally:
        await store.close()


async def _status() -> SchemaStatus:
    from kagzi.store.urls import open_store

    settings = current_settings()
    store = open_store(settings.database_url, settings)
    await store.open()
    try:
        return await store.schema_status()
    finally:
        await store.close()
