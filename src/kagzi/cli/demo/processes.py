"""The worker processes of the demo: each is a plain `kagzi worker`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from kagzi.cli.demo.stage import STAGE_VARIABLE, Stage

_LEAVES_WITHIN_S = 5.0


class WorkerProcess:
    """One process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, number: int, stage: Stage) -> WorkerProcess:
        """Start a worker whose log goes into the stage's folder, and which leaves when this process is gone."""
        environment = os.environ | {STAGE_VARIABLE: stage.as_text()}
        command = [sys.executable, "-m", "kagzi.cli.main", "worker", "--supervised", "--worker-id", f"worker-{number}"]
        with (Path(stage.folder) / f"worker-{number}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command, "kagzi.cli.demo.application:kagzi", stdin=PIPE, stdout=log, stderr=log, env=environment
            )
        return cls(process)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    async def send(self, number: signal.Signals) -> None:
        """Send a signal and wait for the end of the process, which is killed where it takes too long."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(_LEAVES_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    @staticmethod
    def logs(stage: Stage) -> str:
        """What the workers wrote."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(Path(stage.folder).glob("*.log")))
