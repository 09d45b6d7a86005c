"""A pgbouncer of our own in transaction mode, on a free port of 127.0.0.1, in front of a PostgreSQL server.

The project does not bring it: it is used where the machine has it on PATH.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from tests.servers.postgres import DEADLINE, ServerFailed, free_port
from tests.servers.privileges import unprivileged

SETTINGS = {
    "listen_addr": "127.0.0.1",
    "unix_socket_dir": "",
    "auth_type": "md5",
    "pool_mode": "transaction",
    "max_client_conn": "500",
    # Fewer than one store opens, so that hardly a transaction has the server of the one before.
    "default_pool_size": "3",
    # How soon it tries a server again that refused: 15 s would only make the tests long.
    "server_login_retry": "1",
}

# Reads until its standard input ends, which it does however the test process ends; then kills the pooler $1.
WATCHDOG = 'read -r word && [ "$word" = done ] && exit 0; kill -KILL "$1" 2>/dev/null'


def has_pgbouncer() -> bool:
    """Whether there is one on PATH."""
    return shutil.which("pgbouncer") is not None


class PgBouncer:
    """One pooler for all databases of the server of `url`, with `settings` of pgbouncer.ini.

    Its port stays the same over `kill` and `start`.
    """

    def __init__(self, url: str, **settings: str) -> None:
        self._server = urlsplit(url)
        self._settings = SETTINGS | settings
        self._folder = Path(tempfile.mkdtemp(prefix="kagzi-pgbouncer-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def start(self) -> Self:
        """Start, and wait until connections are taken. Raises ServerFailed with the end of the pooler's log."""
        if self._process is not None:
            raise ServerFailed("pgbouncer is running already; stop it first.")
        self._configure()
        program = shutil.which("pgbouncer")
        if program is None:
            raise ServerFailed("there is no pgbouncer on PATH.")
        with (self._folder / "pgbouncer.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*unprivileged().prefix, program, str(self._folder / "config.ini")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", WATCHDOG, "watchdog", str(self._process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._wait_until_ready()
        return self

    def kill(self) -> None:
        """End it at once, as in a crash: every connection through it is cut. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE)
            self._process = None
        if self._watchdog is not None:
            self._watchdog.communicate(b"done\n", DEADLINE)
            self._watchdog = None

    def close(self) -> None:
        """Kill it and remove everything. Idempotent."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- using -------------------------------------------------------------------------------------------------

    def url(self, url: str) -> str:
        """Give the way through the pooler to the database of a straight URL."""
        login = self._server.netloc.rpartition("@")[0]
        netloc = f"{login}@127.0.0.1:{self.port}"
        return urlunsplit(urlsplit(url)._replace(netloc=netloc, query="pooler=transaction"))

    def log(self) -> str:
        """Read what it has reported."""
        return (self._folder / "pgbouncer.log").read_text(errors="replace")

    # -- making ------------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        users = self._folder / "users.txt"
        users.write_text(f'"{self._server.username}" "{self._server.password}"\n')
        lines = ["[databases]", f"* = host={self._server.hostname} port={self._server.port}", "[pgbouncer]"]
        lines += [f"listen_port = {self.port}", f"auth_file = {users}"]
        lines += [f"{name} = {value}" for name, value in self._settings.items()]
        config = self._folder / "config.ini"
        config.write_text("\n".join(lines) + "\n")
        for each in (users, config):
            each.chmod(0o600)
        unprivileged().hand_over(self._folder)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while not self._is_ready():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(f"pgbouncer did not start:\n{self.log()[-4000:]}")
            time.sleep(0.01)

    def _is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
