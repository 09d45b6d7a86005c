"""Turning exceptions into data, and data into text. Nothing is ever revived from it (P25)."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from kagzi.errors import StepFailed
from kagzi.model.error import ErrorKind, StepError
from kagzi.model.retry import LONGEST_DELAY
from kagzi.rules.classification import Classifier, classify

_MESSAGE_LIMIT = 10_000
_TRACEBACK_LIMIT = 20_000
_CAUSES_LIMIT = 10

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(StepError)


def describe(error: BaseException, *, now: datetime, classifiers: Sequence[Classifier] = ()) -> StepError:
    """Describe an exception as data. An error that is a step's own failure keeps the kind it has.

    The application's `classifiers` are asked for the kind in turn, before our own rules.

    Never raises: a run must not hang because its error can't be told.
    """
    try:
        return _own(error, now=now, classifiers=classifiers)
    except Exception:  # such as a class whose name can't be asked for
        message = "an exception of which nothing can be told"
        return StepError(kind=ErrorKind.UNKNOWN, type="Exception", message=message, retryable=True, occurred_at=now)


def _own(error: BaseException, *, now: datetime, classifiers: Sequence[Classifier], depth: int = 0) -> StepError:
    kind = classify(error, classifiers=classifiers)
    return StepError(
        kind=kind,
        message=_storable(_message(error), limit=_MESSAGE_LIMIT),
        type=_storable(type(error).__name__, limit=255),
        retryable=kind.retryable,
        traceback=_storable(_traceback(error), limit=_TRACEBACK_LIMIT),
        occurred_at=now,
        causes=(error.error,)
        if isinstance(error, StepFailed)
        else _causes(error, now=now, classifiers=classifiers, depth=depth),
    )


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:  # a run must not hang because its error can't be told
        return f"its message can't be told: __str__ raised {type(failure).__name__}"


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error, chain=False))
    except Exception as failure:  # as above; a SyntaxError with odd fields is enough
        return f"the traceback can't be told: formatting it raised {type(failure).__name__}"


def _causes(
    error: BaseException, *, now: datetime, classifiers: Sequence[Classifier], depth: int
) -> tuple[StepError, ...]:
    if depth >= _CAUSES_LIMIT:
        return ()
    if isinstance(error, BaseExceptionGroup):
        causes = error.exceptions[:_CAUSES_LIMIT]
    else:
        causes = (error.__cause__,) if error.__cause__ is not None else ()
    return tuple(_own(cause, now=now, classifiers=classifiers, depth=depth + 1) for cause in causes)


def _storable(text: str, *, limit: int) -> str:
    """Cut to `limit` characters and replace what no store keeps (lone surrogates)."""
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return text.encode("utf-8", "replace").decode()


def retry_after(error: StepError) -> timedelta | None:
    """How long to wait before trying again, as whoever failed has asked: `context["retry_after_s"]`, bounded.

    None where nothing was asked, or nothing that makes sense. A hundred years at most.
    """
    delay_s = error.context.get("retry_after_s")
    if isinstance(delay_s, bool) or not isinstance(delay_s, int | float) or delay_s != delay_s:  # the last is NaN
        return None
    return timedelta(seconds=min(max(delay_s, 0), LONGEST_DELAY.total_seconds()))


def encode_error(error: StepError) -> str:
    """Turn error data into JSON text. It holds no NUL: JSON escapes it."""
    return _encoder.encode(error).decode()


def decode_error(text: str) -> StepError:
    """Turn JSON text into error data; text that isn't such gives an UNKNOWN error that says so, and never raises."""
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        return StepError(kind=ErrorKind.UNKNOWN, type="Unreadable", message=f"the stored error can't be read: {error}")


def poison_error(*, crashes: int, now: datetime | None = None) -> StepError:
    """What a run is set aside with that killed its worker `crashes` times in a row."""
    return StepError(
        kind=ErrorKind.POISON_RUN,
        type="PoisonRun",
        message=(
            f"the run's worker died {crashes} times in a row without one new checkpoint, so the run was set aside to "
            "keep the others going. Find out what kills the process (memory, a crash in native code), then retry it."
        ),
        occurred_at=now,
    )
