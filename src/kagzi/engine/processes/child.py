"""What a process for steps does: takes a request, calls its function, answers, until its worker is gone."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import logging
import os
import pickle
import signal
import socket
import sys
import threading
import time
from logging.handlers import QueueHandler
from typing import Any

from kagzi.authoring.steps import StepInfo, current_step
from kagzi.clock import since_boot
from kagzi.engine.processes.errors import depart
from kagzi.engine.processes.functions import import_main
from kagzi.engine.processes.messages import (
    LENGTH,
    Answer,
    Begun,
    FromProcess,
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
from kagzi.errors import PayloadError

_PR_SET_PDEATHSIG = 1
_LOOK_S = 1.0
_TELL_EVERY_S = 0.1


class _Line:
    """The way to the worker and back; may be written to from any thread."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._writing = threading.Lock()

    def receive(self) -> Any:
        """The next message; None once the worker is gone."""
        length = self._read(LENGTH)
        text = None if length is None else self._read(int.from_bytes(length, "big"))
        return None if text is None else unpack(text)

    def send(self, message: FromProcess) -> None:
        """Tell the worker."""
        text = pack(message)
        with self._writing:
            self._line.sendall(text)

    def _read(self, count: int) -> bytes | None:
        parts = []
        while count:
            part = self._line.recv(min(count, 1 << 20))
            if not part:
                return None
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def main(fd: int, worker_pid: int) -> None:
    """Serve the worker at the other end of a socket."""
    _die_with(worker_pid)
    for ignored in (signal.SIGINT, signal.SIGTERM):  # meant for the worker, which ends its processes itself
        signal.signal(ignored, lambda *_: None)  # not SIG_IGN, which what a step starts would inherit
    os.set_inheritable(fd, False)  # or what a step starts would hold the line
    line = _Line(socket.socket(fileno=fd))
    try:
        setup: Setup | None = line.receive()
        if setup is None:
            return
        sys.argv = setup.argv
        _log_to(line, setup.log_levels)
        request: Request | None
        while (request := line.receive()) is not None:
            answer = _execute(line, request)
            del request
            _flush()
            line.send(answer)
            del answer
    except (BrokenPipeError, ConnectionResetError):  # the worker has just gone
        return


def _execute(line: _Line, request: Request) -> Answer:
    try:
        if request.main is not None:
            import_main(request.main)
        function = request.function.resolve()
        args, kwargs = pickle.loads(request.arguments)  # noqa: S301 - from our own worker, and never stored
        pulse = _Pulse(line)
        current_step.set(_Executed(dataclasses.replace(request.info, _beat=pulse.beat)))
        line.send(Begun())
        if request.until_s is not None and since_boot() >= request.until_s:
            return TooLate()
        try:
            value = function(*args, **kwargs)
        finally:
            pulse.end()
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: they are the step's
        return Raised(depart(error, skip=__file__))
    finally:
        current_step.set(None)
    try:
        return Returned(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    except Exception as error:
        where = f"step {request.info.name!r}"
        unfit = PayloadError(f"{where}: what it returned can't leave its process: {error}", step=where)
        return Raised(depart(unfit, skip=__file__))


class _Executed:
    """What `step_info()` tells in a process: all but a cancellation, which ends the process."""

    def __init__(self, info: StepInfo) -> None:
        self._info = info

    def describe(self) -> StepInfo:
        """What the function can know about itself."""
        return self._info


class _Pulse:
    """Signs of life on their way to the worker: a few a second, and the last one always."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._changed = threading.Condition()
        self._details: str | None = None
        self._is_due = False
        self._has_ended = False
        self._teller: threading.Thread | None = None

    def beat(self, details: str | None) -> None:
        """Have it told within a tenth of a second. Safe from any thread."""
        with self._changed:
            if details is not None:
                self._details = details
            if self._teller is None:
                self._teller = threading.Thread(target=self._tell, name="kagzi-heartbeat", daemon=True)
                self._teller.start()
            if not self._is_due:
                self._is_due = True
                self._changed.notify()

    def end(self) -> None:
        """Tell what has not been told, and nothing after."""
        with self._changed:
            self._has_ended = True
            self._send()
            self._changed.notify()

    def _tell(self) -> None:
        while not self._has_ended:
            with self._changed:
                self._changed.wait_for(lambda: self._is_due or self._has_ended)
                self._send()
            time.sleep(_TELL_EVERY_S)

    def _send(self) -> None:
        if self._is_due:
            self._is_due = False
            details, self._details = self._details, None
            with contextlib.suppress(OSError):  # the worker is gone, and so will this process be
                self._line.send(Told(details))


# -- logging -----------------------------------------------------------------------------------------------------


_PLAIN = (str, int, float, bool, type(None))


class _ToWorker(QueueHandler):
    """Hands records to the worker, whose handlers they are for."""

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a record that `prepare` has made fit to travel."""
        line: _Line = self.queue  # type: ignore[assignment] # anything, says logging, as long as enqueue knows it
        fields = record.__dict__
        try:
            pickle.dumps(fields)
        except Exception:  # an `extra` that can't travel
            fields = {name: value if type(value) in _PLAIN else repr(value) for name, value in fields.items()}
        with contextlib.suppress(OSError):  # the worker is gone, and so will this process be
            line.send(Logged(fields))


def _log_to(line: _Line, levels: dict[str, int]) -> None:
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)
    logging.getLogger().addHandler(_ToWorker(line))  # type: ignore[arg-type] # as above


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or a pipe that nobody reads
            stream.flush()


# -- the end -----------------------------------------------------------------------------------------------------


def _die_with(worker_pid: int) -> None:
    """End with the worker, however it ends and whatever this process is doing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != worker_pid:  # it was gone before we asked
            os._exit(1)
    # On Linux too, as the kernel forgets what it was asked for where a step changes its user or its rights.
    threading.Thread(target=_watch, args=(worker_pid,), daemon=True).start()


def _watch(worker_pid: int) -> None:
    while os.getppid() == worker_pid:
        time.sleep(_LOOK_S)
    if os.getpgrp() == os.getpid():  # or else it has joined others, such as those of a supervisor
        os.killpg(0, signal.SIGKILL)  # with what it has started
    os._exit(1)
