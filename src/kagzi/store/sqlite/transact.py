"""Transactions of users: their SQL and the checkpoint of their step, on the thread that writes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import apsw

from kagzi.errors import KagziError
from kagzi.model.change import Applied, Change
from kagzi.model.run import RunStatus
from kagzi.model.transaction import Transacted, Transaction
from kagzi.store.sqlite.commit import commit_carefully
from kagzi.store.sqlite.migrate import known_migrations
from kagzi.store.sqlite.session import Session, each
from kagzi.store.sqlite.times import moment

_LOOK_EVERY = 10_000
"""Instructions of SQLite's machine between two looks at the clock: about a millisecond."""

_CREATED = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", re.IGNORECASE)

_WRITES = frozenset({apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE, apsw.SQLITE_DROP_TABLE})
_ELSEWHERE = frozenset({apsw.SQLITE_TRANSACTION, apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH})


_WRITTEN = """
SELECT r.fence, r.status, (
    SELECT s.finished_at FROM step_runs AS s WHERE s.run_id = r.run_id AND s.step_id = ?2 AND s.seq = ?3
)
FROM workflow_runs AS r WHERE r.run_id = ?1
"""


class Raised(Exception):
    """What the user's code raised, on its way past those who explain what SQLite raises."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class NotWritten(Exception):
    """The run is not ours; all is rolled back."""

    def __init__(self, answer: Transacted) -> None:
        super().__init__()
        self.answer = answer


class TransactionConnection:
    """What the function of a transaction gets on SQLite: a connection while the function runs, and nothing after.

    It can't end the transaction, attach files, change settings or write to Kagzi's own tables.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection: apsw.Connection | None = connection

    def execute(self, sql: str, args: Any = ()) -> apsw.Cursor:
        """Carry out SQL, with `?` or `:name` for arguments; the answer gives rows by iterating or `fetchall()`."""
        return self._usable().execute(sql, args)

    def executemany(self, sql: str, args: Iterable[Any]) -> apsw.Cursor:
        """Carry out SQL for each of the arguments."""
        return self._usable().executemany(sql, args)

    @property
    def changes(self) -> int:
        """How many rows the last statement changed."""
        return self._usable().changes()

    @property
    def last_insert_rowid(self) -> int:
        """The rowid of the last row inserted."""
        return self._usable().last_insert_rowid()

    def end(self) -> None:
        """The function is over."""
        self._connection = None

    def _usable(self) -> apsw.Connection:
        if self._connection is None:
            raise KagziError(
                "the connection of a transaction was used after its function had returned. Use it inside only."
            )
        return self._connection


def _transact(session: Session, transaction: Transaction) -> Transacted:
    try:
        value = _execute(session.connection, transaction)
        change = transaction.settle(value)
    except BaseException as error:  # SystemExit too: it must not end the thread that writes
        raise Raised(error) from error
    committed = commit_carefully(session, [change])
    answer = Transacted(outcome=committed.outcomes[0], at=committed.earlier.get(0, committed.now))
    if answer.outcome is not Applied.APPLIED:
        raise NotWritten(answer)
    return answer


def _execute(connection: apsw.Connection, transaction: Transaction) -> Any:
    if transaction.is_given_up:
        raise KagziError("the transaction was given up before it began.")
    lent = TransactionConnection(connection)
    own_tables = _own_tables()

    def allowed(operation: int, first: str | None, second: str | None, *_: str | None) -> int:
        refused = (
            operation in _ELSEWHERE
            or (operation in _WRITES and first is not None and first.lower() in own_tables)
            or (operation == apsw.SQLITE_PRAGMA and second is not None)
        )
        return apsw.SQLITE_DENY if refused else apsw.SQLITE_OK

    connection.authorizer = allowed
    connection.set_progress_handler(transaction.is_overdue, _LOOK_EVERY)
    try:
        return transaction.execute_here(lent)
    finally:
        lent.end()
        connection.set_progress_handler(None)
        connection.authorizer = None


@cache
def _own_tables() -> frozenset[str]:
    created = (name.lower() for migration in known_migrations() for name in _CREATED.findall(migration.sql))
    return frozenset({"kagzi_migrations", *created})


def _transacted(session: Session, change: Change) -> Transacted | None:
    record = change.records[0]
    for fence, status, finished_at in session.rows(_WRITTEN, (change.run_id, record.step_id, record.seq)):
        if fence == change.fence and finished_at is not None:
            return Transacted(outcome=Applied.ALREADY, at=moment(finished_at))
        if fence == change.fence and status == RunStatus.RUNNING:
            return None
    return Transacted(outcome=Applied.LOST, at=moment(session.now))


TRANSACT = each(_transact, alone=True)
TRANSACTED = each(_transacted)
