"""Errors as data: what a failed step or run leaves behind in the store. Never an object to be revived."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class ErrorKind(StrEnum):
    """What sort of failure it was; decides whether trying again can help."""

    NETWORK_ERROR = "NETWORK_ERROR"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    RATE_LIMITED = "RATE_LIMITED"
    TIMEOUT = "TIMEOUT"
    DATABASE_CONNECTION_FAILED = "DATABASE_CONNECTION_FAILED"
    UNKNOWN = "UNKNOWN"
    VALIDATION_FAILED = "VALIDATION_FAILED"
    NOT_FOUND = "NOT_FOUND"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    INVALID_INPUT = "INVALID_INPUT"
    BUSINESS_LOGIC_ERROR = "BUSINESS_LOGIC_ERROR"
    CANCELLED = "CANCELLED"
    INTERRUPTED = "INTERRUPTED"
    POISON_RUN = "PoisonRun"

    @property
    def retryable(self) -> bool:
        """Whether another attempt can be expected to help."""
        return self in RETRYABLE


RETRYABLE = frozenset(
    {
        ErrorKind.NETWORK_ERROR,
        ErrorKind.SERVICE_UNAVAILABLE,
        ErrorKind.RATE_LIMITED,
        ErrorKind.TIMEOUT,
        ErrorKind.DATABASE_CONNECTION_FAILED,
        ErrorKind.UNKNOWN,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepError:
    """One failure: `kind`, the exception's `type` name and `message`, its `traceback` as text.

    `context` holds what the raiser wants to be known (JSON values), `retry_after_s` where a wait is asked for, and
    `causes_left_out` where there were too many. `causes` are the members of an `ExceptionGroup`, and what the exception
    was raised from or while handling it. `occurred_at` is by the store's clock.
    """

    kind: ErrorKind
    message: str
    type: str
    context: dict[str, Any] = field(default_factory=dict)
    retryable: bool = False
    traceback: str = ""
    occurred_at: datetime | None = None
    causes: tuple[StepError, ...] = ()
