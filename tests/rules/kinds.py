"""Kinds of errors by short names, and what the tests of classification look with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kagzi import ErrorKind
from kagzi.rules.classification import Verdict, classify

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)

UNKNOWN = ErrorKind.UNKNOWN
NETWORK = ErrorKind.NETWORK_ERROR
BUSY = ErrorKind.SERVICE_UNAVAILABLE
LIMITED = ErrorKind.RATE_LIMITED
TIMEOUT = ErrorKind.TIMEOUT
DATABASE = ErrorKind.DATABASE_CONNECTION_FAILED
INVALID = ErrorKind.VALIDATION_FAILED
WRONG = ErrorKind.INVALID_INPUT
DENIED = ErrorKind.PERMISSION_DENIED
NOT_FOUND = ErrorKind.NOT_FOUND
BUSINESS = ErrorKind.BUSINESS_LOGIC_ERROR
CANCELLED = ErrorKind.CANCELLED


def looked_at(error: BaseException) -> Verdict:
    return classify(error, now=NOW)


def named(error: Any) -> str:
    return f"{type(error).__module__}.{type(error).__name__}" if isinstance(error, BaseException) else str(error)


def raised_by(do: Callable[[], Any]) -> BaseException:
    """What a function raises, by those who know best what that is."""
    try:
        do()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")
