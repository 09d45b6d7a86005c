"""Bringing the schema up to date, however many processes do it at once."""

from __future__ import annotations

import apsw

from kagzi.errors import MigrationError
from kagzi.store.sql.migrations import Migration, SqlSchemaStatus, load_migrations, pending
from kagzi.store.sqlite.session import Session, each

_PACKAGE = "kagzi.store.sqlite.migrations"

# A table of our own, not user_version: the file may hold an application's tables beside ours, with numbers of its own.
_HAS_REGISTER = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'kagzi_migrations'"
_CREATE_REGISTER = """
CREATE TABLE kagzi_migrations (
    number     INTEGER NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT
"""
_CURRENT = "SELECT coalesce(max(number), 0) FROM kagzi_migrations"
_ENTER = "INSERT INTO kagzi_migrations (number, name, applied_at) VALUES (?, ?, ?)"


def _migrate(session: Session, migrations: tuple[Migration, ...]) -> int:
    """Apply what is missing, all in one transaction under the write lock, and return how many that were.

    A schema newer than this release is left as it is: newer schemas fit older releases (P28).
    """
    missing = pending(migrations, _current(session))
    if missing and session.value(_HAS_REGISTER) is None:
        session.write(_CREATE_REGISTER, ())
    for migration in missing:
        try:
            session.connection.execute(migration.sql)
        except (apsw.SQLError, apsw.ConstraintError) as error:
            raise MigrationError(
                f"migration {migration.name} failed: {error}. Nothing was changed; remove the cause and run "
                "`kagzi db migrate` again."
            ) from error
        session.write(_ENTER, (migration.number, migration.name, session.now))
    return len(missing)


def _peek(session: Session, migrations: tuple[Migration, ...]) -> int | None:
    return None if pending(migrations, _current(session)) else 0


def _status(session: Session, migrations: tuple[Migration, ...]) -> SqlSchemaStatus:
    return SqlSchemaStatus(current=_current(session), latest=len(migrations))


def known_migrations() -> tuple[Migration, ...]:
    """The migrations of this release."""
    return load_migrations(_PACKAGE)


MIGRATE = each(_migrate, peek=_peek)
STATUS = each(_status)


def _current(session: Session) -> int:
    if session.value(_HAS_REGISTER) is None:
        return 0
    current: int = session.value(_CURRENT)
    return current
