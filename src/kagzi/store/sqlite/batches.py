"""Many rows in one statement.

A statement gives up the interpreter lock and has to get it back, which costs up to 5 ms where the process is busy
computing: beside a busy thread, rows one by one came to 1,800 a second and rows by 64 to 5,700.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import apsw

_SIZES = (64, 32, 16, 8, 4, 2, 1)


class Bulk:
    """A statement with any number of rows in its VALUES, by prepared ones of 64, 32, 16, ... rows."""

    def __init__(self, *, head: str, row: str, tail: str) -> None:
        self._statements = tuple((size, f"{head} VALUES {', '.join([row] * size)} {tail}") for size in _SIZES)

    def of(self, size: int) -> str:
        """The statement for so many rows."""
        return dict(self._statements)[size]

    def run(self, connection: apsw.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Write the rows in order and say how many were inserted or changed."""
        place, left, changed = 0, len(rows), 0
        for size, sql in self._statements:
            while left >= size:
                part = rows[place] if size == 1 else tuple(chain.from_iterable(rows[place : place + size]))
                connection.execute(sql, part)
                changed += connection.changes()
                place += size
                left -= size
            if not left:
                break
        return changed
