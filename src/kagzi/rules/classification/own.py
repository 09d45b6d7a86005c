"""Kagzi's own errors, and what a step raises to decide by hand."""

from __future__ import annotations

from typing import Any

from kagzi.errors import (
    KagziError,
    NonRetryable,
    OutcomeUnknown,
    PayloadError,
    RetryAfter,
    RunNotFound,
    StepFailed,
    StoreUnavailable,
    WorkflowCancelled,
    WorkflowFailed,
)
from kagzi.model.error import ErrorKind, StepError
from kagzi.rules.classification.delays import bounded_s
from kagzi.rules.classification.probes import is_a, read
from kagzi.rules.classification.verdicts import UNKNOWN, Verdict, verdict

_KINDS: tuple[tuple[type[KagziError], ErrorKind], ...] = (
    (PayloadError, ErrorKind.VALIDATION_FAILED),
    (StoreUnavailable, ErrorKind.DATABASE_CONNECTION_FAILED),
    (OutcomeUnknown, ErrorKind.DATABASE_CONNECTION_FAILED),
    (RunNotFound, ErrorKind.NOT_FOUND),
    (WorkflowCancelled, ErrorKind.CANCELLED),
    (KagziError, ErrorKind.INVALID_INPUT),
)


def decided(error: BaseException) -> Verdict | None:
    """What was decided before: by whoever raised the error, or when a step or run failed; None otherwise."""
    if not is_a(error, KagziError):
        return None
    if is_a(error, NonRetryable):
        return Verdict(_kind(error, ErrorKind.BUSINESS_LOGIC_ERROR), retryable=False)
    if is_a(error, RetryAfter):
        return Verdict(_kind(error, ErrorKind.RATE_LIMITED), retryable=True, delay_s=bounded_s(read(error, "delay")))
    if is_a(error, StepFailed) or is_a(error, WorkflowFailed):
        return of_data(read(error, "error"))
    return None


def of_data(error: Any) -> Verdict:
    """What a failure that is data already says."""
    if type(error) is not StepError or type(error.kind) is not ErrorKind:
        return UNKNOWN
    delay_s = bounded_s(error.context.get("retry_after_s")) if type(error.context) is dict else None
    return Verdict(error.kind, error.retryable is True, delay_s)


def by_own_type(error: BaseException) -> Verdict | None:
    """What an error of Kagzi's is; None for any other."""
    if not is_a(error, KagziError):
        return None
    return next((verdict(kind) for type_, kind in _KINDS if is_a(error, type_)), None)


def _kind(error: BaseException, otherwise: ErrorKind) -> ErrorKind:
    kind = read(error, "kind")
    return kind if type(kind) is ErrorKind else otherwise
