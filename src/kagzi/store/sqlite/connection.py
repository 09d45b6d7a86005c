"""Connections to the file: their settings, and how long they wait for each other."""

from __future__ import annotations

import random
import time
from typing import Any

import apsw

from kagzi.clock import monotonic
from kagzi.errors import ConfigError
from kagzi.store.sqlite.address import MEMORY, check_folder

_SHORTEST_PAUSE_S = 0.0001
_LONGEST_PAUSE_S = 0.003

_SETTINGS = """
    PRAGMA synchronous = FULL;
    PRAGMA temp_store = MEMORY;
    PRAGMA cache_size = -65536;
    PRAGMA wal_autocheckpoint = 4000;
    PRAGMA journal_size_limit = 67108864;
"""


class Patience:
    """How long a connection waits for a lock of another process: until a deadline, which each batch sets anew.

    SQLite's own waiting sleeps for up to 100 ms at a time, so that of eight busy processes one can starve. Ours looks
    again within 3 ms, after a random pause.
    """

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._deadline = 0.0
        self._ended = False

    def begin(self, *, since: float | None = None) -> None:
        """Start waiting afresh, or as from a monotonic moment."""
        self._deadline = (monotonic() if since is None else since) + self._span_s

    def end(self) -> None:
        """Wait no more, ever: the store is closing."""
        self._ended = True

    def __call__(self, tries: int) -> bool:
        """Pause before the next try; False where the time is up. SQLite calls this as its busy handler."""
        if self._ended or monotonic() >= self._deadline:
            return False
        longest_s = min(_SHORTEST_PAUSE_S * 2 ** min(tries, 10), _LONGEST_PAUSE_S)
        time.sleep(longest_s * random.uniform(0.3, 1))
        return True


def connect(path: str, patience: Patience) -> apsw.Connection:
    """Open the database, made if it is not there, in WAL mode with `synchronous=FULL`: a commit is on the disk (P2).

    Raises ConfigError for what can't be a database, and SQLite's own errors.
    """
    patience.begin()
    if path == MEMORY:
        connection = apsw.Connection(MEMORY, statementcachesize=256)
    else:
        check_folder(path)
        connection = apsw.Connection(path, statementcachesize=256)
    try:
        connection.set_busy_handler(patience)
        if path != MEMORY:
            _enter_wal(connection, path, patience)
        connection.execute(_SETTINGS)
    except BaseException:
        connection.close()
        raise
    return connection


def _enter_wal(connection: apsw.Connection, path: str, patience: Patience) -> None:
    """Switch the file to WAL, once for all. Several processes may be at it: SQLite then refuses without waiting."""
    tries = 0
    mode = None
    while mode is None:
        try:
            mode = value(connection, "PRAGMA journal_mode = WAL")
        except apsw.BusyError:
            if not patience(tries):
                raise
            tries += 1
    if mode != "wal":
        raise ConfigError(
            f"the SQLite database {path!r} can't use a write-ahead log (its journal mode stays {mode!r}). Put it on a "
            "local file system that shares memory between processes, and check that file and folder can be written."
        )


def value(connection: apsw.Connection, sql: str, arguments: tuple[Any, ...] = ()) -> Any:
    """The first column of the first row, None where there is no row."""
    for row in connection.execute(sql, arguments):
        return row[0]
    return None
