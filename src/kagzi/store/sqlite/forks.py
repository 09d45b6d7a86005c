"""Files that this process may not open, because they were open in the process that it was forked from.

SQLite keeps a book, per process and file, of the locks that the process holds. A fork copies the book and not the
locks: a connection made in the child would believe itself protected where it isn't, and the log could be deleted under
it. https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from kagzi.errors import ConfigError

File: TypeAlias = tuple[int, int]
"""Device and inode: one file may have many names."""

_open: Counter[File] = Counter()
_inherited: set[File] = set()


def check(path: str) -> None:
    """Raise ConfigError where the file was open when this process was forked."""
    with suppress(OSError):  # not there yet, or not to be looked at: whoever opens it says so
        if _inherited and _identify(path) in _inherited:
            raise ConfigError(
                f"the SQLite file {path!r} was open when this process was forked, and what is open in SQLite can't be "
                "used beyond a fork. Close Kagzi before forking (`kagzi.close()`, or the end of `with kagzi:`), or "
                "start processes by spawning: multiprocessing.set_start_method('spawn')."
            )


def opened(path: str) -> File:
    """Remember that a file is open."""
    file = _identify(path)
    _open[file] += 1
    return file


def closed(file: File) -> None:
    """Remember that it is open once less."""
    _open[file] -= 1
    if not _open[file]:
        del _open[file]


def _identify(path: str) -> File:
    found = Path(path).stat()
    return found.st_dev, found.st_ino


def _forked() -> None:
    _inherited.update(_open)
    _open.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forked)
