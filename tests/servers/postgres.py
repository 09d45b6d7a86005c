"""A PostgreSQL server of our own, on a free port of 127.0.0.1, its files in a temporary folder."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from enum import Enum
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from tests.servers.binaries import Binaries
from tests.servers.privileges import unprivileged

USER = "kagzi"
DEADLINE = 60.0

SETTINGS = {
    # fsync and synchronous_commit stay on: what is tested is durability.
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "max_prepared_transactions": "10",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %d ",
}

# Reads until its standard input ends, which it does however the test process ends; then stops the server of the
# folder $1 at once and removes the folder. Told "done", there is nothing left to do.
WATCHDOG = """
read -r word && [ "$word" = done ] && exit 0
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" 2>/dev/null || break; sleep 0.5; done
rm -rf "$1"
"""


class StopMode(Enum):
    """How a server stops."""

    SMART = signal.SIGTERM
    """When every client has left."""
    FAST = signal.SIGINT
    """Cutting clients off, writing everything out."""
    IMMEDIATE = signal.SIGQUIT
    """At once, as in a crash: the next start recovers from the log."""


class ServerFailed(Exception):
    """A server did not start; the message ends with its log."""


class Databases:
    """Makes and drops databases on a server, known by the URL of one of its databases."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, database: str) -> str:
        """Give the URL of a database, whether it exists or not."""
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{database}"))

    def create(self, *, template: str = "template0") -> str:
        """Create a database as a copy of another, to which nobody may be connected, and give its name."""
        name = f"kagzi_{secrets.token_hex(6)}"
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def drop(self, database: str) -> None:
        """Drop a database, cutting off those connected to it. Idempotent."""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def execute(self, statement: sql.Composed) -> None:
        """Run one statement outside any transaction."""
        with psycopg.connect(self._url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(statement)


class PostgresServer:
    """One server. Its port and data stay the same over `stop` and `start`; `close` removes everything.

    What it leaves behind when the process ends without `close`, even by SIGKILL, a watchdog clears away. With a
    `primary` it is a copy of that one, which must be running, and follows it.
    """

    def __init__(self, binaries: Binaries, *, primary: PostgresServer | None = None) -> None:
        self._binaries = binaries
        self._primary = primary
        self._settings = dict(SETTINGS)
        self._password: str = secrets.token_urlsafe(12) if primary is None else primary._password
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self.port = 0

    # -- running -----------------------------------------------------------------------------------------------

    def start(self, **settings: str) -> Self:
        """Start, and wait until connections are taken. `settings` of postgresql.conf last until the next start.

        Raises ServerFailed with the end of the server's log.
        """
        if self._process is not None:
            raise ServerFailed("the server is running already; stop it first.")
        if self._folder is None:
            self._folder = self._prepare()
        command = [self._program("postgres"), "-D", str(self._folder / "data"), "-p", str(self.port)]
        for name, value in (self._settings | settings).items():
            command += ["-c", f"{name}={value}"]
        with (self._folder / "server.log").open("ab") as log:
            self._process = self._spawn(command, log=log.fileno())
        self._wait_until_ready()
        return self

    def stop(self, mode: StopMode = StopMode.FAST) -> None:
        """Stop, and wait until the server is gone. Idempotent."""
        if self._process is None:
            return
        self._process.send_signal(mode.value)
        self._process.wait(DEADLINE)
        self._process = None

    def restart(self, mode: StopMode = StopMode.FAST, **settings: str) -> None:
        """Stop and start again, on the same port."""
        self.stop(mode)
        self.start(**settings)

    def close(self) -> None:
        """Stop and remove everything. Idempotent."""
        self.stop(StopMode.IMMEDIATE)
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None
        if self._watchdog is not None:
            self._watchdog.communicate(b"done\n", timeout=DEADLINE)
            self._watchdog = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- using -------------------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.poll() is None

    def standby(self) -> PostgresServer:
        """A copy that follows this server, which must be running; not started yet."""
        return PostgresServer(self._binaries, primary=self)

    @property
    def databases(self) -> Databases:
        """The databases of this server."""
        return Databases(self.url("postgres"))

    def url(self, database: str) -> str:
        """Give the URL of a database, whether it exists or not."""
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, *, template: str = "template0") -> str:
        """Create a database as a copy of another and give its URL."""
        return self.url(self.databases.create(template=template))

    def log(self) -> str:
        """Read what the server has reported."""
        return (self._folder / "server.log").read_text(errors="replace") if self._folder else ""

    # -- making ------------------------------------------------------------------------------------------------

    def _prepare(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="kagzi-postgres-"))
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", WATCHDOG, "watchdog", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if not unprivileged().can_run(self._binaries.bin / "postgres"):
            folder.chmod(0o711)
            self._binaries = self._binaries.relocated(folder / "programs")
        (folder / "data").mkdir(mode=0o700)
        password = folder / "data.password"
        password.write_text(self._password)
        password.chmod(0o600)
        unprivileged().hand_over(folder)
        self._initialise(folder / "data", password)
        self._settings["unix_socket_directories"] = str(folder)
        self.port = free_port()
        return folder

    def _initialise(self, data: Path, password: Path) -> None:
        if self._primary is not None:
            self._copy(self._primary, data)
            return
        command = [self._program("initdb"), "--pgdata", str(data), "--username", USER, "--pwfile", str(password)]
        # Anyone on this machine can reach the port, so it asks for a password; in clear, which is quick to check.
        command += ["--auth=password", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        with tempfile.TemporaryFile() as log:
            if self._spawn(command, log=log.fileno()).wait(DEADLINE) != 0:
                log.seek(0)
                raise ServerFailed(f"initdb failed:\n{log.read().decode(errors='replace')}")

    def _copy(self, primary: PostgresServer, data: Path) -> None:
        command = [self._program("pg_basebackup"), "--pgdata", str(data), "--write-recovery-conf", "--no-sync"]
        command += ["--dbname", primary.url("postgres"), "--checkpoint=fast"]
        with tempfile.TemporaryFile() as log:
            if self._spawn(command, log=log.fileno()).wait(DEADLINE) != 0:
                log.seek(0)
                raise ServerFailed(f"pg_basebackup failed:\n{log.read().decode(errors='replace')}")

    def _program(self, name: str) -> str:
        return str(self._binaries.bin / name)

    def _spawn(self, command: list[str], *, log: int) -> subprocess.Popen[bytes]:
        # A session of its own, or Ctrl-C would stop the server before the tests have let go of it.
        return subprocess.Popen(
            [*unprivileged().prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=_environment(),
            start_new_session=True,
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while not self._is_ready():
            if not self.is_running or time.monotonic() > deadline:
                self.stop(StopMode.IMMEDIATE)
                raise ServerFailed(f"PostgreSQL did not start:\n{self.log()[-4000:]}")
            time.sleep(0.01)

    def _is_ready(self) -> bool:
        # The server's own report, in the eighth line of its pid file, costs no connection.
        assert self._process is not None
        assert self._folder is not None
        try:
            lines = (self._folder / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        states = ("ready",) if self._primary is None else ("ready", "standby")
        return len(lines) >= 8 and lines[0] == str(self._process.pid) and lines[7].strip() in states


def free_port() -> int:
    """Choose a port below those that the system hands out, so that it is still free after a restart."""
    for port in SystemRandom().sample(range(20_000, 32_000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerFailed("200 ports between 20000 and 32000 were tried, and none was free.")


def _environment() -> dict[str, str]:
    """Give the environment without what would redirect PostgreSQL's programs or translate their messages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}
