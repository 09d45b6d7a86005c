"""Of what kind the errors of databases and their drivers are."""

from __future__ import annotations

import sqlite3
from typing import Any

import apsw
import asyncpg
import psycopg
import pytest

from kagzi import (
    ErrorKind,
)
from kagzi.rules.classification import Verdict
from tests.rules.kinds import (
    BUSY,
    DATABASE,
    DENIED,
    INVALID,
    TIMEOUT,
    UNKNOWN,
    looked_at,
    named,
    raised_by,
)
from tests.rules.libraries import (
    a_class,
    sqlalchemy_error,
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (asyncpg.exceptions.SerializationError("no"), BUSY),
        (asyncpg.exceptions.DeadlockDetectedError("no"), BUSY),
        (asyncpg.exceptions.LockNotAvailableError("no"), BUSY),
        (asyncpg.exceptions.DiskFullError("no"), BUSY),
        (asyncpg.exceptions.ConnectionDoesNotExistError("no"), DATABASE),
        (asyncpg.exceptions.CannotConnectNowError("no"), DATABASE),
        (asyncpg.exceptions.AdminShutdownError("no"), DATABASE),
        (asyncpg.exceptions.TooManyConnectionsError("no"), DATABASE),
        (asyncpg.exceptions.QueryCanceledError("no"), TIMEOUT),
        (asyncpg.exceptions.InvalidPasswordError("no"), DENIED),
        (asyncpg.exceptions.InsufficientPrivilegeError("no"), DENIED),
        (asyncpg.exceptions.UniqueViolationError("no"), INVALID),
        (asyncpg.exceptions.NumericValueOutOfRangeError("no"), INVALID),
        (asyncpg.exceptions.UndefinedTableError("no"), UNKNOWN),
        (asyncpg.exceptions.DataError("invalid input for query argument $1"), INVALID),
        (asyncpg.InterfaceError("connection is closed"), DATABASE),
        (asyncpg.InterfaceError("pool is closing"), DATABASE),
        (asyncpg.InterfaceError("another operation is in progress"), UNKNOWN),
        (psycopg.errors.SerializationFailure("no"), BUSY),
        (psycopg.errors.DeadlockDetected("no"), BUSY),
        (psycopg.errors.UniqueViolation("no"), INVALID),
        (psycopg.errors.UndefinedColumn("no"), UNKNOWN),
        (psycopg.errors.ConnectionTimeout("no"), TIMEOUT),
        (psycopg.errors.QueryCanceled("no"), TIMEOUT),
        (psycopg.OperationalError("the connection is closed"), DATABASE),
        (psycopg.ProgrammingError("no"), UNKNOWN),
        (apsw.BusyError("no"), BUSY),
        (apsw.CantOpenError("no"), DATABASE),
        (apsw.ConstraintError("no"), INVALID),
        (apsw.SQLError("no"), UNKNOWN),
    ],
    ids=named,
)
def test_an_error_of_a_database_is_what_the_database_has_answered(error: Exception, kind: ErrorKind) -> None:
    assert looked_at(error) == Verdict(kind, kind.retryable)


def test_a_database_that_nobody_serves_can_not_be_reached() -> None:
    error = raised_by(lambda: psycopg.connect("host=127.0.0.1 port=1 dbname=x"))

    assert looked_at(error).kind is DATABASE


def broken_sqlite() -> dict[str, BaseException]:
    """What the SQLite of Python raises."""
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES (1)")
        found = {
            "constraint": raised_by(lambda: connection.execute("INSERT INTO t VALUES (1)")),
            "syntax": raised_by(lambda: connection.execute("SELEC")),
            "file": raised_by(lambda: sqlite3.connect("/nonexistent/x.db")),
        }
    connection.close()
    return found


def test_an_error_of_sqlite_is_what_its_code_says() -> None:
    errors = broken_sqlite()

    assert looked_at(errors["constraint"]).kind is INVALID
    assert looked_at(errors["syntax"]).kind is UNKNOWN
    assert looked_at(errors["file"]).kind is DATABASE


def test_a_busy_sqlite_file_is_worth_another_attempt(tmp_path: Any) -> None:
    first, second = (sqlite3.connect(tmp_path / "a.db", timeout=0, isolation_level=None) for _ in range(2))
    first.execute("BEGIN EXCLUSIVE")

    error = raised_by(lambda: second.execute("BEGIN EXCLUSIVE"))
    first.close()
    second.close()

    assert looked_at(error) == Verdict(BUSY, retryable=True)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlalchemy_error("OperationalError", psycopg.OperationalError("refused")), DATABASE),
        (sqlalchemy_error("OperationalError", psycopg.errors.DeadlockDetected("no")), BUSY),
        (sqlalchemy_error("IntegrityError", psycopg.errors.UniqueViolation("no")), INVALID),
        (sqlalchemy_error("ProgrammingError", psycopg.errors.UndefinedTable("no")), UNKNOWN),
        (sqlalchemy_error("InterfaceError", asyncpg.InterfaceError("odd"), invalidated=True), DATABASE),
        (sqlalchemy_error("IntegrityError", Exception("a driver that we don't know")), INVALID),
        (sqlalchemy_error("OperationalError", Exception("a driver that we don't know")), UNKNOWN),
        (sqlalchemy_error("OperationalError", TimeoutError()), TIMEOUT),
    ],
    ids=str,
)
def test_an_error_of_sqlalchemy_is_what_its_drivers_error_is(error: Exception, kind: ErrorKind) -> None:
    assert looked_at(error) == Verdict(kind, kind.retryable)


def test_an_error_of_djangos_database_is_what_it_was_raised_from() -> None:
    error = a_class("django.db.utils.OperationalError")("no")
    error.__cause__ = psycopg.errors.SerializationFailure("no")

    assert looked_at(error).kind is BUSY
