"""One process for steps, seen from its worker."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from kagzi.engine.processes.messages import (
    LENGTH,
    Answer,
    Begun,
    Logged,
    Raised,
    Request,
    Returned,
    Setup,
    Told,
    TooLate,
    pack,
    unpack,
)

logger = logging.getLogger("kagzi.execution")

_LOOK_S = 1.0
"""A process that dies closes its end of the line. Where something that it started still holds it, it is missed after
this."""

_END_WITHIN_S = 0.5
"""Between the moment that a dying process's files are closed and the one that its status is there."""

_BEGIN_WITHIN_S = 120.0
"""For starting Python and importing the step's module; the step's own timeout counts from then on."""

_BOOTSTRAP = (
    "import os, sys; "
    "length = int.from_bytes(os.read({fd}, 8), 'big'); "
    "sys.path[:] = os.read({fd}, length).decode(errors='surrogateescape').split(chr(0)); "
    "from kagzi.engine.processes.child import main; "
    "main({fd}, {pid})"
)


class StepProcessDied(RuntimeError):
    """The process that executed a step ended in the middle of it."""


class Heard(NamedTuple):
    """Who is told what a process says before it answers: that its function begins, and its signs of life."""

    begun: Callable[[], object] | None = None
    told: Callable[[str | None], object] | None = None


_NOBODY = Heard()


class StepProcess:
    """A Python process that executes one function at a time. It is there until `kill` or an end of its own; `ended`
    waits for either."""

    def __init__(self, popen: subprocess.Popen[bytes], line: socket.socket) -> None:
        self.pid = popen.pid
        self.has_begun = False
        """Whether the function of the last request was called."""
        self._popen = popen
        self._line = line
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._killed = False
        self._answer: asyncio.Future[Answer | StepProcessDied] | None = None
        self._heard = _NOBODY
        self._life = asyncio.get_running_loop().create_task(self._live(), name=f"kagzi-process-{popen.pid}")

    @classmethod
    def start(cls) -> StepProcess:
        """Start a process, which takes some milliseconds here.

        Only in the thread that the worker lives in: the kernel ends a process with the thread that started it.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                path = "\0".join(entry or str(Path.cwd()) for entry in sys.path).encode(errors="surrogateescape")
                ours.sendall(len(path).to_bytes(LENGTH, "big") + path)
                ours.sendall(pack(Setup(argv=sys.argv, log_levels=_log_levels())))
                program = _BOOTSTRAP.format(fd=theirs.fileno(), pid=os.getpid())
                flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined] # as multiprocessing does
                popen = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, *flags, "-c", program],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # Ctrl-C is the worker's, and what a step has started is killed with it
                )
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        return cls(popen, ours)

    @property
    def is_over(self) -> bool:
        """Whether it has ended or is about to."""
        return self._killed

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left of it."""
        return self._life.done()

    async def execute(self, request: Request, *, heard: Heard = _NOBODY) -> Answer:
        """Have a function called there, and wait for what comes of it.

        Raises StepProcessDied where the process ends meanwhile. Then, or cancelled, it is of no use any more: kill it.
        """
        loop = asyncio.get_running_loop()
        self._heard, self.has_begun = heard, False
        answer: asyncio.Future[Answer | StepProcessDied] = loop.create_future()
        self._answer = answer
        asked_at = loop.time()
        sending = loop.create_task(self._send(pack(request)))
        try:
            while not (await asyncio.wait({answer}, timeout=_LOOK_S))[0]:
                if self._popen.poll() is not None:
                    self.kill()
                    raise StepProcessDied(_obituary(self._popen.returncode))
                if not self.has_begun and loop.time() - asked_at > _BEGIN_WITHIN_S:
                    raise StepProcessDied(
                        f"the step did not begin within {_BEGIN_WITHIN_S:g} s: its process could not be started, or "
                        "the import of its module does not end."
                    )
            outcome = answer.result()
            if isinstance(outcome, StepProcessDied):
                raise outcome
            return outcome
        finally:
            sending.cancel()
            self._answer, self._heard = None, _NOBODY

    def kill(self) -> None:
        """End the process and what it has started, whatever they are doing."""
        if not self._killed:
            self._killed = True
            with suppress(ProcessLookupError, PermissionError):  # all gone already
                os.killpg(self.pid, signal.SIGKILL)
            self._popen.kill()  # where it has left its group

    async def ended(self) -> None:
        """Wait until the process is gone and nothing is left of it."""
        await asyncio.wait({self._life})

    async def _send(self, text: bytes) -> None:
        await self._connected.wait()
        assert self._writer is not None
        with suppress(ConnectionError):  # it has died, which `_live` finds out
            self._writer.write(text)
            await self._writer.drain()

    async def _live(self) -> None:
        """Hear what the process says until it ends, and bury it."""
        hung_up = False
        try:
            await self._listen()
        except (asyncio.IncompleteReadError, ConnectionError):  # it has ended, or was killed, or says no more
            hung_up = not self._killed and not await self._ends_by_itself()
        except Exception:
            logger.exception("What a step's process says can't be understood; it is killed.")
        finally:
            self.kill()
            if self._writer is not None:
                self._writer.close()
        await self._reaped()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(StepProcessDied(_HUNG_UP if hung_up else _obituary(self._popen.returncode)))

    async def _ends_by_itself(self) -> bool:
        """Whether a process whose line is closed is about to end: a moment passes between the two."""
        try:
            async with asyncio.timeout(_END_WITHIN_S):
                await self._reaped()
        except TimeoutError:
            return False
        return True

    async def _listen(self) -> None:
        reader, self._writer = await asyncio.open_connection(sock=self._line)
        self._connected.set()
        while True:
            length = int.from_bytes(await reader.readexactly(LENGTH), "big")
            self._hear(unpack(await reader.readexactly(length)))

    async def _reaped(self) -> None:
        pause_s = 0.001
        while self._popen.poll() is None:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.1)

    def _hear(self, message: Any) -> None:
        match message:
            case Begun():
                self.has_begun = True
                if self._heard.begun is not None:
                    self._heard.begun()
            case Told(details):
                if self._heard.told is not None:
                    self._heard.told(details)
            case Logged(fields):
                record = logging.makeLogRecord(fields)
                target = logging.getLogger(record.name)
                if target.isEnabledFor(record.levelno):
                    target.handle(record)
            case Returned() | Raised() | TooLate():
                if self._answer is not None and not self._answer.done():
                    self._answer.set_result(message)


_HUNG_UP = (
    "the step's process let go of its line to the worker and went on, as one that calls `exec` or closes all its files "
    "does; it was killed, as nobody could have heard its result. Start other programs with `subprocess`."
)


def _obituary(status: int) -> str:
    cure = "The step is to blame, or what it calls: other steps were not affected."
    if status >= 0:
        return f"the step's process ended itself with exit status {status} before the function returned. {cure}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    if name == "SIGKILL":
        cure = "The system kills the largest process where memory runs out; look into its log."
    return f"the step's process was killed by {name} before the function returned. {cure}"


def _log_levels() -> dict[str, int]:
    """The level of every logger that has one of its own; that of the root under the empty name."""
    named = {
        name: found.level
        for name, found in logging.root.manager.loggerDict.items()
        if isinstance(found, logging.Logger) and found.level != logging.NOTSET
    }
    return {"": logging.root.level, **named}
