"""Numbered migrations: `0001_name.sql` files in a package, applied in order, forward only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files

import msgspec

from kagzi.errors import MigrationError

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One file: its number, its file name and its SQL text."""

    number: int
    name: str
    sql: str


class SqlSchemaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far a schema is migrated (`kagzi.store.protocol.SchemaStatus`)."""

    current: int
    latest: int


def load_migrations(package: str) -> tuple[Migration, ...]:
    """Read the migrations of a package, in order. Raises MigrationError where a number is missing or there twice."""
    found = sorted(entry.name for entry in files(package).iterdir() if entry.name.endswith(".sql"))
    for place, name in enumerate(found, start=1):
        match = _FILE_NAME.fullmatch(name)
        if match is None or int(match[1]) != place:
            raise MigrationError(f"migration {name!r} of {package} should be named {place:04d}_what_it_does.sql.")
    return tuple(
        Migration(number=place, name=name, sql=(files(package) / name).read_text(encoding="utf-8"))
        for place, name in enumerate(found, start=1)
    )


def pending(migrations: Sequence[Migration], current: int) -> tuple[Migration, ...]:
    """The migrations not yet applied. A schema newer than this release has none: newer schemas fit older releases."""
    return tuple(migration for migration in migrations if migration.number > current)
