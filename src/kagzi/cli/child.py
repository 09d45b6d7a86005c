"""A worker process under one that keeps it.

It has the read end of a pipe as its stdin, whose other end only its keeper holds: should that be killed, the worker
reads the end of it, drains and leaves. What the keeper writes to it means that it is to stop at once. A second signal
doesn't, for who stops a service may well send one to every process of it, and the keeper passes on its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence

RETIRED = 86
"""The exit status of a worker that was asked to drain by `kagzi workers drain`: it is not to be replaced."""

GRACE_S = 25.0
"""What a worker gets on top of its own timeout to give its runs back and sign off."""


class Child:
    """One process, from its start until it has ended."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._ended = asyncio.ensure_future(process.wait())
        self._was_asked = False

    @classmethod
    async def start(cls, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Child:
        """Start a process in a group of its own: Ctrl-C reaches its keeper alone, who passes it on once."""
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, process_group=0, env=environment)
        return cls(process)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask_to_stop(self) -> None:
        """Have it drain; called again, have it stop at once."""
        if self._was_asked and self._process.stdin is not None:
            self._process.stdin.write(b"!")
        self._was_asked = True
        self._send(signal.SIGTERM)

    async def ended(self, *, unless: asyncio.Event) -> bool:
        """Wait until it has ended; False where `unless` was set before."""
        asked = asyncio.ensure_future(unless.wait())
        try:
            await asyncio.wait({self._ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        return self._ended.done()

    async def ended_within(self, limit_s: float) -> bool:
        """Wait until it has ended, for at most `limit_s`; says whether it has."""
        await asyncio.wait({self._ended}, timeout=limit_s)
        return self._ended.done()

    async def kill(self) -> None:
        """SIGKILL, where it is still there."""
        if not self._ended.done():
            self._send(signal.SIGKILL)
        await self._ended

    async def status(self) -> int:
        """Its exit status, once it has ended; below zero, the signal that killed it."""
        return await asyncio.shield(self._ended)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            self._process.send_signal(number)
