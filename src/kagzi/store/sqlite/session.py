"""What a verb works in: a connection, the time, and what is to be announced after the commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import apsw

A = TypeVar("A")
R = TypeVar("R")


class Doubtful(Exception):
    """A verb wrote in bulk and found that something was there already. Roll back and do it again carefully."""


class Session:
    """One transaction, or one look.

    `now` is the store's time in microseconds, the same for everything in the transaction. A verb sets `due` where it
    made runs due, `ended` where it ended some, `drain` where it asked workers to drain. Where `careful` is set, it
    writes row by row and so knows what each did.
    """

    __slots__ = ("careful", "connection", "drain", "due", "ended", "event", "mail", "now", "replied")

    def __init__(self, connection: apsw.Connection, now: int, *, careful: bool = False) -> None:
        self.connection = connection
        self.now = now
        self.careful = careful
        self.due = False
        self.ended = False
        self.mail = False
        self.replied = False
        self.drain = False
        self.event = False

    def value(self, sql: str, arguments: tuple[Any, ...] = ()) -> Any:
        """The first column of the first row, None where there is no row."""
        for row in self.connection.execute(sql, arguments):
            return row[0]
        return None

    def rows(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows. A text that is damaged, no UTF-8 any more, is empty in them (P23): nothing reads it as a value."""
        try:
            return self.connection.execute(sql, arguments).fetchall()
        except UnicodeDecodeError:
            return self._damaged_rows(sql, arguments)

    def _damaged_rows(self, sql: str, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """The same rows, their texts fetched as bytes: apsw gives none of them where one is no UTF-8."""
        query = f"SELECT * FROM ({sql})"  # noqa: S608 - one of our own statements
        columns = [name for name, _ in self.connection.cursor().execute(query, arguments).get_description()]
        shown = ", ".join(
            f"""CASE typeof("{name}") WHEN 'text' THEN CAST("{name}" AS BLOB) ELSE "{name}" END""" for name in columns
        )
        rows = self.connection.execute(f"SELECT {shown} FROM ({sql})", arguments)  # noqa: S608 - as above
        return [tuple(_text(value) if isinstance(value, bytes) else value for value in row) for row in rows]

    def write(self, sql: str, arguments: tuple[Any, ...]) -> int:
        """Carry out a statement and say how many rows it changed."""
        self.connection.execute(sql, arguments)
        return self.connection.changes()


def _text(damaged: bytes) -> str:
    try:
        return damaged.decode()
    except UnicodeDecodeError:
        return ""


class Verb(Generic[A, R]):
    """One verb of the store, for many calls at once.

    `run` answers each argument in order. `peek`, where a verb has it, answers one without the write lock, or None where
    there is something to write. Calls of a verb that is `alone` have a transaction each, and are tried once.
    """

    __slots__ = ("alone", "peek", "run")

    def __init__(
        self,
        run: Callable[[Session, list[A]], list[R]],
        *,
        peek: Callable[[Session, A], R | None] | None = None,
        alone: bool = False,
    ) -> None:
        self.run = run
        self.peek = peek
        self.alone = alone


def each(
    run: Callable[[Session, A], R], *, peek: Callable[[Session, A], R | None] | None = None, alone: bool = False
) -> Verb[A, R]:
    """A verb whose calls have nothing to gain from being done together."""
    return Verb(lambda session, arguments: [run(session, argument) for argument in arguments], peek=peek, alone=alone)
