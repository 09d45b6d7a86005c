"""Turning exceptions into data, and data into text. Nothing is ever revived from it (P25)."""

from __future__ import annotations

import traceback
from datetime import datetime

import msgspec

from kagzi.errors import KagziError, PayloadError, StepFailed
from kagzi.model.error import ErrorKind, StepError

_MESSAGE_LIMIT = 10_000
_TRACEBACK_LIMIT = 20_000
_CAUSES_LIMIT = 10

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(StepError)


def describe(error: BaseException, *, now: datetime) -> StepError:
    """Describe an exception as data. An error that is a step's own failure keeps the kind it has.

    Never raises: a run must not hang because its error can't be told.
    """
    try:
        return _own(error, _kind(error), now=now)
    except Exception:  # such as a class whose name can't be asked for
        message = "an exception of which nothing can be told"
        return StepError(kind=ErrorKind.UNKNOWN, type="Exception", message=message, retryable=True, occurred_at=now)


def _own(error: BaseException, kind: ErrorKind, *, now: datetime, depth: int = 0) -> StepError:
    return StepError(
        kind=kind,
        message=_storable(_message(error), limit=_MESSAGE_LIMIT),
        type=_storable(type(error).__name__, limit=255),
        retryable=kind.retryable,
        traceback=_storable(_traceback(error), limit=_TRACEBACK_LIMIT),
        occurred_at=now,
        causes=(error.error,) if isinstance(error, StepFailed) else _causes(error, now=now, depth=depth),
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


def _causes(error: BaseException, *, now: datetime, depth: int) -> tuple[StepError, ...]:
    if depth >= _CAUSES_LIMIT:
        return ()
    if isinstance(error, BaseExceptionGroup):
        causes = error.exceptions[:_CAUSES_LIMIT]
    else:
        causes = (error.__cause__,) if error.__cause__ is not None else ()
    return tuple(_own(cause, _kind(cause), now=now, depth=depth + 1) for cause in causes)


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


def _storable(text: str, *, limit: int) -> str:
    """Cut to `limit` characters and replace what no store keeps (lone surrogates)."""
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return text.encode("utf-8", "replace").decode()


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
