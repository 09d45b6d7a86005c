"""Running `kagzi` as a process: to its end, or beside the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from click.testing import CliRunner, Result

from kagzi.cli.main import cli

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 30.0


def environment(url: str, **more: str) -> dict[str, str]:
    """The environment of a process: this one's without Kagzi's settings, and a database."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KAGZI_")}
    return inherited | {"KAGZI_DATABASE_URL": url} | more


def kagzi(
    *arguments: str, url: str, cwd: Path = ROOT, stdin: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "kagzi.cli.main", *arguments],
        cwd=cwd,
        env=environment(url, **more),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def called(*arguments: str, url: str, stdin: str = "") -> Result:
    """Run a command to its end within this process, which is quicker. Not where an event loop runs."""
    settings = {name: None for name in os.environ if name.startswith("KAGZI_")} | {"KAGZI_DATABASE_URL": url}
    return CliRunner().invoke(cli, arguments, env=settings, input=stdin, prog_name="kagzi")


def answer(*arguments: str, url: str) -> Any:
    """Run a command with --json within this process, expect that it succeeds, and read what it answers."""
    done = called(*arguments, "--json", url=url)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


class Command:
    """A process beside the test, with whatever it started; every line of its output is kept."""

    def __init__(self, *arguments: str, url: str, cwd: Path = ROOT, **more: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=cwd,
            env=environment(url, **more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()

    def wait_for(self, condition: Callable[[list[str]], bool]) -> None:
        """Wait until the lines so far meet a condition."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.lines), PATIENCE_S), "".join(self.lines)

    def wait_for_line(self, text: str, *, times: int = 1) -> None:
        """Wait until so many lines hold a text."""
        self.wait_for(lambda lines: sum(text in line for line in lines) >= times)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def tell(self, line: str) -> None:
        """Give a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def press_ctrl_c(self) -> None:
        """Do what a terminal does: interrupt the whole process group in its foreground."""
        os.killpg(self.pid, signal.SIGINT)

    def wait(self, *, within_s: float = PATIENCE_S) -> int:
        """Wait for the end and give the exit status."""
        return self._process.wait(within_s)

    def wait_for_descendants(self) -> None:
        """Wait until nothing that this process started is left: all of it holds on to the same pipe."""
        self._reader.join(PATIENCE_S)
        assert not self._reader.is_alive(), "".join(self.lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()  # a supervisor's workers leave when it is gone
            self._process.wait()
        self._reader.join(PATIENCE_S)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


def a_worker(*options: str, url: str, **more: str) -> Command:
    """Start `kagzi worker` on the application of these tests, and wait until every process of it takes runs."""
    command = Command("-m", "kagzi.cli.main", "worker", "tests.cli.flows:app", *options, url=url, cwd=ROOT, **more)
    processes = int(options[options.index("--processes") + 1]) if "--processes" in options else 1
    command.wait_for_line("A worker takes runs.", times=processes)
    return command


def wait_until(condition: Callable[[], bool]) -> None:
    """Look again and again until it is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def entries(ledger: Path) -> list[str]:
    """The lines that steps wrote."""
    return ledger.read_text().split() if ledger.exists() else []
