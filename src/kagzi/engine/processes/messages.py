"""What a worker and its processes say to each other: pickles behind their length, over a pair of sockets."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

from kagzi.authoring.steps import StepInfo
from kagzi.engine.processes.errors import TravellingError
from kagzi.engine.processes.functions import FunctionName

LENGTH = 8
"""Bytes in front of each message, big-endian."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The first message to a process: what it takes over from its worker."""

    argv: list[str]
    log_levels: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Call a function. `arguments` is the pickle of `(args, kwargs)`, to be read once `main` is imported.

    `until_s` is when it must not be called any more, by the clock `since_boot`, which all processes share.
    """

    function: FunctionName
    arguments: bytes
    main: dict[str, str] | None
    info: StepInfo
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """The function is being called."""


@dataclass(frozen=True, slots=True)
class Told:
    """A sign of life, maybe with details as JSON."""

    details: str | None


@dataclass(frozen=True, slots=True)
class Logged:
    """A record of the logging module, as its fields."""

    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Returned:
    """The pickle of what the function returned."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Raised:
    """What the function raised."""

    error: TravellingError


@dataclass(frozen=True, slots=True)
class TooLate:
    """The function was not called, as its time was over."""


Answer = Returned | Raised | TooLate
FromProcess = Begun | Told | Logged | Answer


def pack(message: Setup | Request | FromProcess) -> bytes:
    """The bytes of a message, its length first."""
    text = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(text).to_bytes(LENGTH, "big") + text


def unpack(text: bytes) -> Any:
    """The message of what followed its length."""
    return pickle.loads(text)  # noqa: S301 - from a process of our own, and never stored
