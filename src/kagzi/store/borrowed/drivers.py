"""One adapter for each driver. None is imported: they are known by what the caller's connection has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kagzi.errors import ConfigError
from kagzi.store.borrowed.placeholders import Style, translate
from kagzi.store.borrowed.protocol import Dialect, Row, as_dialect, no_transaction, refuse_async, run_blocking

_IDLE = 0
"""libpq's transaction status of a connection on which nothing is open."""


class AsyncpgConnection:
    """A connection of asyncpg, or one from its pool."""

    shown = "a connection of asyncpg"
    dialect = Dialect.POSTGRESQL
    is_by_apsw = False

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        """In the transaction that was begun by `connection.transaction()` or BEGIN."""
        refuse_async(self.shown)
        if not self._connection.is_in_transaction():
            raise no_transaction(self.shown)
        return [tuple(row) for row in await self._connection.fetch(sql, *args)]


class PsycopgConnection:
    """A connection of psycopg 3, blocking or async, or of psycopg2. They begin transactions by themselves, unless they
    are in autocommit mode."""

    dialect = Dialect.POSTGRESQL
    is_by_apsw = False

    def __init__(self, connection: Any, *, is_async: bool = False, named: str = "psycopg") -> None:
        self._connection = connection
        self._is_async = is_async
        self.shown = f"a connection of {named}"

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        """On a cursor of its own."""
        translated, given = translate(sql, args, Style.PERCENT)
        if not self._is_async:
            return await run_blocking(lambda: self._execute_here(translated, given))
        refuse_async(self.shown)
        self._check()
        async with self._connection.cursor() as cursor:
            await cursor.execute(translated, given)
            return [_plain(row) for row in await cursor.fetchall()]

    def _execute_here(self, sql: str, args: tuple[Any, ...]) -> list[Row]:
        self._check()
        with self._connection.cursor() as cursor:
            cursor.execute(sql, args)
            return [_plain(row) for row in cursor.fetchall()]

    def _check(self) -> None:
        if self._connection.autocommit and self._connection.info.transaction_status == _IDLE:
            raise no_transaction(self.shown)


class SqlAlchemyConnection:
    """A connection or a session of SQLAlchemy, blocking or async. They begin transactions by themselves."""

    shown = "a connection of SQLAlchemy"
    is_by_apsw = False

    def __init__(self, connection: Any, *, is_async: bool, is_session: bool) -> None:
        self._connection = connection
        self._is_async = is_async
        self._is_session = is_session

    @property
    def dialect(self) -> Dialect:
        """That of the engine behind it."""
        owner = self._connection.get_bind() if self._is_session else self._connection
        return as_dialect(owner.dialect.name, self.shown)

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        """By the driver's own SQL, past SQLAlchemy's."""
        if not self._is_async:
            return await run_blocking(lambda: self._execute_here(sql, args))
        refuse_async(self.shown)
        connection = await self._connection.connection() if self._is_session else self._connection
        rows: list[Row] = await connection.run_sync(lambda blocking: self._execute_on(blocking, sql, args))
        return rows

    def _execute_here(self, sql: str, args: tuple[Any, ...]) -> list[Row]:
        return self._execute_on(self._connection.connection() if self._is_session else self._connection, sql, args)

    def _execute_on(self, connection: Any, sql: str, args: tuple[Any, ...]) -> list[Row]:
        level = dict(connection.engine.get_execution_options()) | dict(connection.get_execution_options())
        if level.get("isolation_level") == "AUTOCOMMIT" or _is_autocommit(connection):
            raise no_transaction(self.shown)
        style = _STYLES.get(connection.dialect.paramstyle)
        if style is None:
            raise ConfigError(
                f"connection= is {self.shown} by the driver {connection.dialect.driver!r}, whose style of arguments "
                f"({connection.dialect.paramstyle}) is not known. Use psycopg or asyncpg, or pysqlite for SQLite."
            )
        translated, given = translate(sql, args, style)
        result = connection.exec_driver_sql(translated, given)
        return [tuple(row) for row in result] if result.returns_rows else []


def _is_autocommit(connection: Any) -> bool:
    """Whether the engine was made so; only SQLAlchemy's own question tells that without a trip."""
    asked = getattr(connection, "_is_autocommit_isolation", None)
    return asked is not None and asked()


_STYLES = {
    "numeric_dollar": Style.DOLLAR,
    "qmark": Style.QUESTION,
    "format": Style.PERCENT,
    "pyformat": Style.PERCENT,
}


class DjangoConnection:
    """A connection of Django (`django.db.connection`), which is a thread's own: for blocking calls."""

    shown = "a connection of Django"
    is_by_apsw = False

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def dialect(self) -> Dialect:
        """By Django's name of the database's vendor."""
        return as_dialect(self._connection.vendor, self.shown)

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        """Inside `transaction.atomic()`, or with autocommit turned off."""
        translated, given = translate(sql, args, Style.PERCENT)
        return await run_blocking(lambda: self._execute_here(translated, given))

    def _execute_here(self, sql: str, args: tuple[Any, ...]) -> list[Row]:
        if not self._connection.in_atomic_block and self._connection.get_autocommit():
            raise no_transaction(self.shown)
        with self._connection.cursor() as cursor:
            cursor.execute(sql, args)
            return [_plain(row) for row in cursor.fetchall()]


class ApswConnection:
    """A connection of apsw."""

    shown = "a connection of apsw"
    dialect = Dialect.SQLITE
    is_by_apsw = True

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        """After a BEGIN; best BEGIN IMMEDIATE."""
        translated, given = translate(sql, args, Style.QUESTION)
        return await run_blocking(lambda: self._execute_here(translated, given))

    def _execute_here(self, sql: str, args: tuple[Any, ...]) -> list[Row]:
        if not self._connection.in_transaction:
            raise no_transaction(self.shown)
        return [_plain(row) for row in self._connection.execute(sql, args).fetchall()]


class Sqlite3Connection:
    """A connection of Python's own sqlite3. Known, so that it can be refused for what it is."""

    shown = "a connection of sqlite3"
    dialect = Dialect.SQLITE
    is_by_apsw = False

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        """Never: raises ConfigError."""
        del sql, args
        raise ConfigError(f"connection= is {self.shown}, which can't be used beside Kagzi in one process.")


def _plain(row: Any) -> Row:
    """A row as a tuple, whatever the caller has told the driver to make of rows."""
    return tuple(row.values()) if isinstance(row, Mapping) else tuple(row)
