"""Of what kind an exception is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kagzi.errors import KagziError, PayloadError, StepFailed
from kagzi.model.error import ErrorKind

Classifier = Callable[[Exception], ErrorKind | None]
"""An application's own say: a kind, or None to leave the exception to the next."""


def classify(error: BaseException, *, classifiers: Sequence[Classifier] = ()) -> ErrorKind:
    """The kind of an exception: what the first classifier with an opinion says, else what our own rules say."""
    if isinstance(error, Exception) and not isinstance(error, StepFailed):
        for classifier in classifiers:
            kind = classifier(error)
            if kind is not None:
                return kind
    return _kind(error)


def _kind(error: BaseException) -> ErrorKind:
    match error:
        case StepFailed():
            return error.error.kind
        case PayloadError():
            return ErrorKind.VALIDATION_FAILED
        case TimeoutError():
            return ErrorKind.TIMEOUT
        case ConnectionError():
            return ErrorKind.NETWORK_ERROR
        case KagziError():
            return ErrorKind.INVALID_INPUT
        case _:
            return ErrorKind.UNKNOWN
