"""Steps that are executed in processes, and what they leave behind for the tests to see."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kagzi import step, step_info
from tests.app.applications import until

logger = logging.getLogger("tests.computing")


@dataclass
class Place:
    """Where a function ran."""

    pid: int
    parent: int
    main_thread: bool


@step(executor="process")
def where() -> Place:
    return Place(os.getpid(), os.getppid(), threading.current_thread() is threading.main_thread())


@step(executor="process")
def meet(folder: str, name: str, count: int) -> int:
    """Come in, and wait until `count` are there."""
    _come_in(folder, name)
    while len(list(Path(folder).iterdir())) < count:
        time.sleep(0.005)
    return os.getpid()


@step(executor="process")
def wait_for(folder: str, name: str) -> str:
    """Come in, and wait until there is a file `open`."""
    _come_in(folder, name)
    while not (Path(folder) / "open").exists():
        time.sleep(0.005)
    return name


@step(executor="process")
def spin(folder: str, name: str = "spin") -> None:
    """Compute for ever, beside something that was started."""
    beside = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (Path(folder) / f"{name}-beside").write_text(str(beside.pid))
    _come_in(folder, name)
    while True:
        pass


@step(executor="process")
def spin_forgotten(folder: str, name: str) -> None:
    """As `spin`, and the kernel has forgotten whose death to end at, as it does where a process changes its user."""
    ctypes.CDLL(None).prctl(1, 0)
    spin(folder, name)


@step(executor="process")
def spin_elsewhere(folder: str) -> None:
    """Compute for ever in the process group of the worker."""
    os.setpgid(0, os.getpgid(os.getppid()))
    _come_in(folder, "spin")
    while True:
        pass


@step(executor="process")
def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


@step(executor="process")
def count_to(limit: int) -> int:
    total = 0
    for number in range(limit):
        total += number
    return total


@step(executor="process")
def die(how: str) -> None:
    match how:
        case "exit":
            os._exit(3)
        case "raise":
            sys.exit(4)
        case "fork":  # what is forked holds on to all that was open
            if os.fork() == 0:
                time.sleep(600)
            os._exit(3)
        case "exec":
            os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"])
        case "close":
            os.closerange(3, 100)
            time.sleep(600)
        case _:
            os.kill(os.getpid(), getattr(signal, how))
            time.sleep(60)


@step(executor="process")
def die_once(folder: str) -> int:
    attempts = len(list(Path(folder).iterdir()))
    _come_in(folder, str(attempts))
    if not attempts:
        os._exit(3)
    return step_info().attempt


@step(executor="process")
def note(folder: str) -> str:
    """Leave a file for each call."""
    (Path(folder) / str(time.monotonic_ns())).touch()
    return "done"


@step(executor="process")
def note_and_die(folder: str) -> str:
    """Leave a file for each call, and say nothing more."""
    note(folder)
    os._exit(3)


@step(executor="process")
def tell_and_fail() -> Any:
    """Tell much, and fail twice."""
    info = step_info()
    for page in range(10):
        info.heartbeat({"page": page, "of": info.attempt})
    if info.attempt < 3:
        raise ConnectionError("lost")
    return info.heartbeat_details


@step(executor="process")
def fall_silent(folder: str) -> Any:
    """Tell something, and then compute for ever; the second time give what was told."""
    info = step_info()
    if info.attempt > 1:
        return info.heartbeat_details
    for page in range(3):
        info.heartbeat(page)
        time.sleep(0.15)
    while True:
        pass


@step("told", executor="process")
def tell() -> list[Any]:
    told = step_info()
    return [told.run_id, told.step_id, told.name, told.attempt, told.idempotency_key, told.cancelled]


class Refused(ConnectionError):
    """An exception that can't be made again from its pickle."""

    def __init__(self, host: str, *, status_code: int) -> None:
        super().__init__(f"{host} refuses")
        self.status_code = status_code
        self.lock = threading.Lock()


class Plain(Exception):
    """An exception as most are."""


@step(executor="process")
def fail(how: str) -> None:
    match how:
        case "plain":
            try:
                raise KeyError("first")
            except KeyError as error:
                raise Plain("second", 2) from error
        case "unpicklable":
            raise Refused("example.com", status_code=503)
        case "local":

            class Local(LookupError):
                pass

            raise Local("here only")
        case "group":
            raise ExceptionGroup("several", [ValueError("one"), Refused("other", status_code=500)])
        case "circle":
            first, second = ValueError("first"), ValueError("second")
            first.__cause__, second.__cause__ = second, first
            raise first


@step(executor="process")
def give(what: str) -> Any:
    return {"lambda": lambda: 1, "lock": threading.Lock(), "list": [1] * 3_000_000}[what]


@step(executor="process")
def take(thing: Any) -> int:
    return len(thing)


@step(executor="process")
def log() -> None:
    logger.debug("quiet")
    logger.info("loud %s", 1, extra={"thing": threading.Lock(), "number": 7})
    try:
        raise ValueError("inside")
    except ValueError:
        logging.getLogger("tests.computing.deeper").exception("failed")


def plainly() -> int:
    return os.getpid()


renamed = step("renamed", executor="process")(plainly)


def moved() -> None:
    """Its name leads to something else."""


moved_step = step(executor="process")(moved)
moved = None  # type: ignore[assignment] # on purpose


def _come_in(folder: str, name: str) -> None:
    unfinished = Path(folder) / f".{name}"
    unfinished.write_text(str(os.getpid()))
    unfinished.rename(Path(folder) / name)


async def pid_of(folder: Path, name: str) -> int:
    """Wait until a step has come in, and return its process."""
    await until(lambda: (folder / name).exists(), what=f"{name} comes in")
    return int((folder / name).read_text())


async def gone(pid: int) -> None:
    """Wait until a process is gone, with nothing left of it, not even a zombie."""
    await until(lambda: state_of(pid) is None, what=f"process {pid} is gone")


async def dead(pid: int) -> None:
    """Wait until a process that is not our child runs no more. Nobody may be there to bury it."""
    await until(lambda: state_of(pid) in (None, "Z"), what=f"process {pid} is dead")


def state_of(pid: int) -> str | None:
    """R, S, Z (zombie) and so on; None where there is no such process."""
    found = _stat(pid)
    return None if found is None else found[0]


def processes(of: int | None = None) -> list[int]:
    """The processes for steps that this process, or another, has; zombies included."""
    worker = of or os.getpid()
    every = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    children = [pid for pid in every if (found := _stat(pid)) is not None and found[1] == worker]
    return [pid for pid in children if state_of(pid) == "Z" or "kagzi.engine" in _command(pid)]


def _stat(pid: int) -> tuple[str, int] | None:
    """State and parent."""
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return state, int(parent)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
