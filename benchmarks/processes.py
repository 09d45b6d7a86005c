"""Workers in processes of their own, as they run in production."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from types import TracebackType
from typing import Self

import msgspec

from benchmarks.usage import Usage

_DEADLINE_S = 30.0


class WorkerProcess:
    """A process that is connected and takes runs once it is told to (benchmarks/worker.py is its other side)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def spawn(cls, url: str, *, slots: int) -> Self:
        """Start a process and wait until it is connected."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.worker",
            str(slots),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {"KAGZI_DATABASE_URL": url},  # the URL may hold a password, so it is no argument
        )
        worker = cls(process)
        await worker._answer()
        return worker

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def begin(self) -> None:
        """Have it take runs; returns when it is registered."""
        await self._ask("begin")

    async def usage(self) -> Usage:
        """What the process has used up to now."""
        return msgspec.json.decode(await self._ask("usage"), type=Usage)

    async def end(self) -> None:
        """Drain and end it."""
        assert self._process.stdin is not None
        with suppress(ConnectionResetError, BrokenPipeError):
            self._process.stdin.close()
        if await asyncio.wait_for(self._process.wait(), _DEADLINE_S) != 0:
            raise RuntimeError("a worker's process failed; its error is above.")

    async def _ask(self, question: str) -> bytes:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{question}\n".encode())
        return await self._answer()

    async def _answer(self) -> bytes:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), _DEADLINE_S)
        if not line:
            raise RuntimeError("a worker's process ended before it answered; its error is above.")
        return line
