"""Exceptions that bear what a database has answered: an SQLSTATE, or SQLite's result code."""

from __future__ import annotations

from kagzi.model.error import ErrorKind
from kagzi.rules.classification.probes import read, text, whole_number
from kagzi.rules.classification.verdicts import UNKNOWN, Verdict, verdict

# Classes and codes of the SQL standard and of PostgreSQL ("PostgreSQL Error Codes", appendix A of its manual). Of a
# statement that does not fit the schema (class 42), as of a TypeError, a deploy may be the cure: it stays UNKNOWN.
_STATES = {
    "08": ErrorKind.DATABASE_CONNECTION_FAILED,
    "57P": ErrorKind.DATABASE_CONNECTION_FAILED,  # shutting down, starting up, or the session is gone
    "25P03": ErrorKind.DATABASE_CONNECTION_FAILED,  # the session was ended for idling in a transaction
    "53300": ErrorKind.DATABASE_CONNECTION_FAILED,  # too many connections
    "53": ErrorKind.SERVICE_UNAVAILABLE,  # out of memory, disk
    "58": ErrorKind.SERVICE_UNAVAILABLE,  # the system below the database
    "40": ErrorKind.SERVICE_UNAVAILABLE,  # serialization failures and deadlocks: the same again, please
    "55006": ErrorKind.SERVICE_UNAVAILABLE,
    "55P03": ErrorKind.SERVICE_UNAVAILABLE,  # a lock was not to be had in time
    "57014": ErrorKind.TIMEOUT,  # statement_timeout, or somebody cancelled the statement
    "25P04": ErrorKind.TIMEOUT,  # transaction_timeout
    "28": ErrorKind.PERMISSION_DENIED,
    "42501": ErrorKind.PERMISSION_DENIED,
    "22": ErrorKind.VALIDATION_FAILED,
    "23": ErrorKind.VALIDATION_FAILED,
    "44000": ErrorKind.VALIDATION_FAILED,
}

# Primary result codes of SQLite ("Result and Error Codes" of its manual).
_SQLITE = {
    3: ErrorKind.PERMISSION_DENIED,
    5: ErrorKind.SERVICE_UNAVAILABLE,  # busy: another process writes
    6: ErrorKind.SERVICE_UNAVAILABLE,  # locked, within the process
    8: ErrorKind.PERMISSION_DENIED,  # read-only
    14: ErrorKind.DATABASE_CONNECTION_FAILED,  # the file can't be opened
    18: ErrorKind.VALIDATION_FAILED,  # a value that is too big
    19: ErrorKind.VALIDATION_FAILED,  # a constraint
    20: ErrorKind.VALIDATION_FAILED,  # a value of the wrong type
    23: ErrorKind.PERMISSION_DENIED,
}


def by_answer(error: BaseException) -> Verdict | None:
    """What the database's own code says; None where there is none."""
    for name in ("sqlstate", "pgcode"):  # asyncpg, psycopg, mysql.connector; psycopg2
        state = text(read(error, name))
        if state is not None and len(state) == 5:
            return of_state(state)
    code = whole_number(read(error, "sqlite_errorcode"))
    return None if code is None else verdict(_SQLITE.get(code & 0xFF, ErrorKind.UNKNOWN))


def of_state(state: str) -> Verdict:
    """What an SQLSTATE says: the whole of it, else its class."""
    for length in (5, 3, 2):
        if (kind := _STATES.get(state[:length])) is not None:
            return verdict(kind)
    return UNKNOWN
