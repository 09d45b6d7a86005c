"""A fresh database for each measurement, and what it tells of the work it did."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import apsw
import asyncpg

from tests.servers import Databases, PostgresServer, binaries

POSTGRES = "postgres"
SQLITE = "sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a database has done since some moment in the past; None where it can't tell."""

    cpu_s: float | None
    transactions: int | None
    written_bytes: int | None


class Database(ABC):
    """An empty database."""

    store: str
    url: str

    @abstractmethod
    async def counters(self) -> Counters:
        """Read the counters. Exact once every connection that worked has been closed."""


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start a server of our own, as durable as any, and give its URL."""
    # 128 MB is what PostgreSQL comes with; the tests take less.
    with closing(PostgresServer(binaries("18"))) as server:
        yield server.start(shared_buffers="128MB").url("postgres")


@contextmanager
def empty_database(store: str, url: str | None) -> Iterator[Database]:
    """Make a database: on the PostgreSQL server at `url`, or in the SQLite file that it names, or in our own."""
    if store == POSTGRES:
        if url is None:
            with postgres_server() as server:
                yield from _on_server(server)
        else:
            yield from _on_server(url)
    elif url is None:
        folder = Path(tempfile.mkdtemp(prefix="kagzi-benchmark-"))
        try:
            yield from _in_file(folder / "kagzi.db")
        finally:
            shutil.rmtree(folder)
    else:
        yield from _in_file(Path(urlsplit(url).path.removeprefix("/")))


def _on_server(url: str) -> Iterator[Database]:
    databases = Databases(url)
    name = databases.create()
    try:
        yield PostgresDatabase(databases.url(name))
    finally:
        databases.drop(name)


def _in_file(path: Path) -> Iterator[Database]:
    if path.exists():
        raise FileExistsError(f"{path} is there already; name a file to be made.")
    database = SqliteDatabase(path)
    try:
        yield database
    finally:
        database.close()
        for each in path.parent.glob(f"{path.name}*"):
            each.unlink()


class PostgresDatabase(Database):
    """A database on a PostgreSQL server."""

    def __init__(self, url: str) -> None:
        self.store = POSTGRES
        self.url = url

    async def counters(self) -> Counters:
        connection = await asyncpg.connect(self.url)
        try:
            row = await connection.fetchrow(
                "SELECT xact_commit, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS wal, "
                "pg_backend_pid() AS pid FROM pg_stat_database WHERE datname = current_database()"
            )
            assert row is not None
            is_here = urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")
            cpu_s = _server_cpu_s(row["pid"]) if is_here else None
        finally:
            await connection.close()
        return Counters(cpu_s=cpu_s, transactions=row["xact_commit"], written_bytes=row["wal"])


class SqliteDatabase(Database):
    """A SQLite file. It is kept open, for the log's index holds a count of commits and lives as long as that."""

    def __init__(self, path: Path) -> None:
        self.store = SQLITE
        self.url = f"sqlite:///{path}"
        self._connection = apsw.Connection(str(path))
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("CREATE TABLE benchmark (kept_open INTEGER)")
        # Not closed before the connection: closing any descriptor of the file drops the process's locks on it.
        self._index = Path(f"{path}-shm").open("rb", buffering=0)  # noqa: SIM115 - closed by `close`

    async def counters(self) -> Counters:
        # Bytes 8 to 11 of the index: "a counter incremented each transaction" (sqlite.org/walformat.html, 2.1).
        self._index.seek(8)
        (commits,) = struct.unpack("=I", self._index.read(4))
        return Counters(cpu_s=None, transactions=commits, written_bytes=None)

    def close(self) -> None:
        self._connection.close()
        self._index.close()


def _server_cpu_s(backend: int) -> float | None:
    """CPU seconds of a server on this machine by the pid of a living backend: all its processes, ended ones too."""
    processes: dict[int, list[str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        processes[int(stat.parent.name)] = fields
    if backend not in processes:
        return None
    # proc(5), counted without the first two fields: 1 is the parent, 11 and 12 are user and system time, 13 and 14
    # those of children that have been waited for.
    postmaster = int(processes[backend][1])
    if postmaster not in processes:
        return None
    ticks = sum(int(each) for each in processes[postmaster][11:15])
    ticks += sum(int(fields[11]) + int(fields[12]) for fields in processes.values() if int(fields[1]) == postmaster)
    return ticks / os.sysconf("SC_CLK_TCK")
