"""What a failure of SQLite means to us."""

from __future__ import annotations

import apsw

from kagzi.errors import ConfigError, KagziError, MigrationError, StoreUnavailable

_UNMIGRATED = ("no such table", "no such column", "has no column named")

_MEANINGS: dict[type[apsw.Error], str] = {
    apsw.FullError: "can't grow: the disk is full. Make room and try again",
    apsw.IOError: "can't be read or written: the disk reports an error",
    apsw.CantOpenError: "can't be opened. Check the rights of the file and its folder, and the limit of open files",
    apsw.ReadOnlyError: "can't be written. Check the rights of the file and its folder",
    apsw.PermissionsError: "can't be accessed. Check the rights of the file and its folder",
    apsw.CorruptError: "is damaged. Restore it from a backup",
    apsw.NoMemError: "can't be used: memory ran out",
    apsw.ProtocolError: "can't be locked: too many processes tried at once",
    apsw.SchemaChangeError: "changed its schema again and again meanwhile",
    apsw.InterruptError: "was closed meanwhile",
    apsw.ConnectionClosedError: "was closed meanwhile",
}


def explain(error: BaseException, path: str) -> BaseException:
    """The error of ours that a failure of SQLite amounts to.

    The error itself where it is none of SQLite's business, and where SQLite can never take what it was given (a
    constraint, a value that is too big, a mistake in a statement): trying again would hold up all else for ever.
    """
    if isinstance(error, KagziError) or not isinstance(error, apsw.Error):
        return error
    known = _explain(error, path)
    if known is None:
        return error
    known.__cause__ = error
    return known


def _explain(error: apsw.Error, path: str) -> KagziError | None:
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, apsw.NotADBError):
        return ConfigError(f"{path!r} is not a SQLite database ({reason}). Correct KAGZI_DATABASE_URL.")
    if isinstance(error, apsw.SQLError) and any(sign in str(error) for sign in _UNMIGRATED):
        return MigrationError(
            f"the schema of the SQLite database {path!r} is not up to date ({reason}). Run `kagzi db migrate`."
        )
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StoreUnavailable(
            f"another process kept the SQLite database {path!r} to itself for longer than we wait. Look for one that "
            "holds a transaction open (a shell, a backup), or raise KAGZI_STORE_TIMEOUT."
        )
    meaning = _MEANINGS.get(type(error))
    return None if meaning is None else StoreUnavailable(f"the SQLite database {path!r} {meaning} ({reason}).")


def closed(path: str) -> StoreUnavailable:
    """The answer of every verb of a store that is not open."""
    return StoreUnavailable(f"the store of the SQLite database {path!r} is not open.")
