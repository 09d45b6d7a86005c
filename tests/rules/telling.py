"""Describing an exception, and seeing that what is kept of it can be stored."""

from __future__ import annotations

from datetime import UTC, datetime

from kagzi import StepError
from kagzi.rules.failures import decode_error, describe, encode_error

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
LARGEST = 256 * 1024


def told(error: BaseException) -> StepError:
    """Describe an error, and see that it can be stored, comes back as it was, and is not too large."""
    described = describe(error, now=NOW)
    text = encode_error(described)
    assert decode_error(text) == described
    assert len(text.encode()) < LARGEST
    return described


def raised(error: BaseException) -> BaseException:
    """An error that has a traceback."""
    try:
        raise error
    except BaseException as raised:
        return raised


class Untellable:
    """What can't be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")
