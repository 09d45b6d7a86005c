"""Worker processes, and what can be done to them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.faults.ledger import Ledger
from tests.faults.polling import until

ROOT = Path(__file__).parents[2]

QUICK = {
    "KAGZI_LEASE": "2",
    "KAGZI_HEARTBEAT_INTERVAL": "0.5",
    "KAGZI_POLL_INTERVAL": "0.2",
    "KAGZI_PARK_AFTER": "0.2",
    # Runs are killed far more often here than by accident; setting them aside has tests of its own.
    "KAGZI_POISON_AFTER": "1000",
    "KAGZI_LOOP_LAG_WARNING": "30",
    "KAGZI_BODY_WARNING": "30",
}


class Fleet:
    """Workers of one database, each a process of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.ledger = Ledger(folder / "ledger.jsonl")
        self._folder = folder
        self._living: dict[int, subprocess.Popen[bytes]] = {}
        self._logs: dict[int, Path] = {}
        self.killed: set[int] = set()

    def start(self, count: int = 1, **environment: str) -> list[int]:
        """Start workers and give their process ids at once; they take runs a moment later."""
        return [self._start_one(environment) for _ in range(count)]

    def _start_one(self, environment: dict[str, str]) -> int:
        log = self._folder / f"worker-{len(self._logs)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.worker_program", self.url, str(self.ledger.path)],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env={**os.environ, **QUICK, **environment},
            )
        self._living[process.pid] = process
        self._logs[process.pid] = log
        return process.pid

    async def ready(self) -> None:
        """Return once all of them take runs."""
        await until(lambda: all("A worker takes runs." in self.log(pid) for pid in self._living), "workers are up")

    @property
    def pids(self) -> list[int]:
        """The workers that were neither killed nor ended by themselves."""
        return [pid for pid, process in self._living.items() if process.poll() is None]

    @property
    def ended_by_themselves(self) -> list[int]:
        """Workers that nobody killed and that are gone all the same."""
        return [pid for pid, process in self._living.items() if process.poll() is not None]

    def kill(self, pid: int) -> None:
        """SIGKILL: the process gets no chance to say anything."""
        process = self._living.pop(pid)
        self.killed.add(pid)
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()

    def replace_one(self, chance: random.Random) -> None:
        """Kill a worker and start another in its place."""
        self.kill(chance.choice(sorted(self._living)))
        self.start()

    def pause(self, pid: int) -> None:
        """SIGSTOP: the process stands still, and its connections stay open. Returns once it does."""
        self._living[pid].send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self, pid: int) -> None:
        """SIGCONT."""
        self._living[pid].send_signal(signal.SIGCONT)

    def log(self, pid: int) -> str:
        """What a worker has reported."""
        return self._logs[pid].read_text(errors="replace")

    def logs(self) -> str:
        """What all workers have reported, those that are gone too."""
        return "\n".join(self.log(pid) for pid in self._logs)

    def errors(self) -> list[str]:
        """Lines of the logs that tell of errors and exceptions; warnings are expected where there are faults."""
        signs = ("ERROR ", "CRITICAL ", "Traceback ", "Exception ")
        return [line for line in self.logs().splitlines() if line.startswith(signs)]

    def declared_dead(self) -> set[int]:
        """Workers that lost their lease and noticed."""
        return {pid for pid in self._logs if "was declared dead" in self.log(pid)}

    def close(self) -> None:
        """Kill them all."""
        for pid in list(self._living):
            self.kill(pid)
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
