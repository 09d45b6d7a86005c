"""Which driver a connection is of, by the names of its class and of the package that it is from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kagzi.store.borrowed.drivers import (
    ApswConnection,
    AsyncpgConnection,
    DjangoConnection,
    PsycopgConnection,
    SqlAlchemyConnection,
    Sqlite3Connection,
)
from kagzi.store.borrowed.protocol import Borrowed


def borrow(connection: Any) -> Borrowed:
    """The adapter for a caller's connection. Raises TypeError for what is none that is known."""
    for origin in type(connection).__mro__:
        make = _KNOWN.get((origin.__module__.partition(".")[0], origin.__name__))
        if make is not None:
            return make(connection)
    raise TypeError(
        f"connection= is of {type(connection).__module__}.{type(connection).__qualname__}, which is not known. Give a "
        "connection of asyncpg, psycopg, SQLAlchemy (or a session), Django or apsw."
    )


def _sqlalchemy(*, is_async: bool = False, is_session: bool = False) -> Callable[[Any], Borrowed]:
    return lambda connection: SqlAlchemyConnection(connection, is_async=is_async, is_session=is_session)


_KNOWN: dict[tuple[str, str], Callable[[Any], Borrowed]] = {
    ("asyncpg", "Connection"): AsyncpgConnection,
    ("asyncpg", "PoolConnectionProxy"): AsyncpgConnection,
    ("psycopg", "Connection"): PsycopgConnection,
    ("psycopg", "AsyncConnection"): lambda connection: PsycopgConnection(connection, is_async=True),
    ("psycopg2", "connection"): lambda connection: PsycopgConnection(connection, named="psycopg2"),
    ("sqlalchemy", "Connection"): _sqlalchemy(),
    ("sqlalchemy", "Session"): _sqlalchemy(is_session=True),
    ("sqlalchemy", "scoped_session"): _sqlalchemy(is_session=True),
    ("sqlalchemy", "AsyncConnection"): _sqlalchemy(is_async=True),
    ("sqlalchemy", "AsyncSession"): _sqlalchemy(is_async=True, is_session=True),
    ("sqlalchemy", "async_scoped_session"): _sqlalchemy(is_async=True, is_session=True),
    ("django", "ConnectionProxy"): DjangoConnection,
    ("django", "BaseDatabaseWrapper"): DjangoConnection,
    ("sqlite3", "Connection"): Sqlite3Connection,
    ("apsw", "Connection"): ApswConnection,
}
