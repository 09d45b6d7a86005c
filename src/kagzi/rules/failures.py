"""Turning exceptions into data, and data into text. Nothing is ever revived from it (P25)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from kagzi.errors import NonRetryable, RetryAfter, StepFailed, WorkflowFailed
from kagzi.model.error import ErrorKind, StepError
from kagzi.rules.classification import Classification, Classifier
from kagzi.rules.classification.delays import bounded_s
from kagzi.rules.classification.probes import guarded, is_a, members_of, origin_of, read
from kagzi.rules.excerpts import context_of, message_of, shortened, size, traceback_of, type_of

# Bytes of JSON. All that is told of a failure takes less than a quarter of a mebibyte: the whole of what leads to it
# while there is room, then as many short forms as there may be.
_MESSAGE_LIMIT = 10_000
_TRACEBACK_LIMIT = 32_000
_CONTEXT_LIMIT = 32_000
_ROOM = 160_000
_SHORT_MESSAGE_LIMIT = 500
_MOST_ERRORS = 60
_MOST_MEMBERS = 20

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(StepError)


def describe(error: BaseException, *, now: datetime, classifiers: Sequence[Classifier] = ()) -> StepError:
    """Describe an exception as data, with what it was raised from and what it holds, if it is a group.

    An error that is a step's own failure keeps the kind it has; of others the application's `classifiers` are asked in
    turn, before our own rules. Never raises: a run must not hang because its error can't be told.
    """
    try:
        return _told(error, Classification(now, classifiers))
    except KeyboardInterrupt:
        raise
    except BaseException:
        message = "an exception of which nothing can be told"
        return StepError(kind=ErrorKind.UNKNOWN, type="Exception", message=message, retryable=True, occurred_at=now)


@dataclass(slots=True)
class _Node:
    """One error of those that belong to a failure, and what is beneath it."""

    error: BaseException | StepError
    told: StepError
    causes: list[_Node] = field(default_factory=list)
    left_out: int = 0


def _told(error: BaseException, classification: Classification) -> StepError:
    """Tell of an error and of all that is beneath it, breadth first, each once, until there is no more room."""
    nodes = [_Node(error, _own(error, classification))]
    seen = {id(error)}
    room = _ROOM
    for node in nodes:  # which grows meanwhile
        causes = _beneath(node.error)
        if causes and node is nodes[0]:
            room -= size(node.told)
        for cause in causes:
            if id(cause) in seen:
                continue
            if len(node.causes) == _MOST_MEMBERS or len(nodes) == _MOST_ERRORS:
                node.left_out += 1
                continue
            seen.add(id(cause))
            told = _own(cause, classification)
            if (taken := size(told)) <= room:
                room -= taken
            else:
                told = _in_short(told)
            node.causes.append(_Node(cause, told))
            nodes.append(node.causes[-1])
    for node in reversed(nodes):
        if node.causes:
            node.told = dataclasses.replace(node.told, causes=tuple(cause.told for cause in node.causes))
        if node.left_out:
            context = {**node.told.context, "causes_left_out": node.left_out}
            node.told = dataclasses.replace(node.told, context=context)
    return nodes[0].told


def _beneath(error: Any) -> list[BaseException | StepError]:
    """What a group holds, what a step's or a run's failure was, and what an exception was raised from."""
    if type(error) is StepError:
        return [cause for cause in error.causes if type(cause) is StepError] if type(error.causes) is tuple else []
    beneath: list[BaseException | StepError] = [*members_of(error)]
    if is_a(error, StepFailed) or is_a(error, WorkflowFailed):
        failure = read(error, "error")
        if type(failure) is StepError:
            beneath.append(failure)
    origin = origin_of(error)
    if origin is not None:
        beneath.append(origin)
    return beneath


def _own(error: Any, classification: Classification) -> StepError:
    """An exception, or a failure that is data already, without what is beneath it."""
    if type(error) is StepError:
        alone = dataclasses.replace(error, causes=())
        # Whoever made it by hand may have put anything into it, and it must come back from the store.
        return decode_error(guarded(encode_error, alone) or "")
    found = classification.of(error)
    by_hand = is_a(error, NonRetryable) or is_a(error, RetryAfter)
    context = context_of(error, limit=_CONTEXT_LIMIT) if by_hand else {}
    if found.delay_s is not None:
        context["retry_after_s"] = found.delay_s
    return StepError(
        kind=found.kind,
        message=message_of(error, limit=_MESSAGE_LIMIT),
        type=type_of(error),
        context=context,
        retryable=found.retryable,
        traceback=traceback_of(error, limit=_TRACEBACK_LIMIT),
        occurred_at=classification.now,
    )


def _in_short(told: StepError) -> StepError:
    message = shortened(told.message, limit=_SHORT_MESSAGE_LIMIT)
    return dataclasses.replace(told, message=message, type=shortened(told.type, limit=255), traceback="", context={})


def retry_after(error: StepError) -> timedelta | None:
    """How long to wait before trying again, as whoever failed has asked: `context["retry_after_s"]`, bounded.

    None where nothing was asked, or nothing that makes sense. A hundred years at most.
    """
    delay_s = bounded_s(error.context.get("retry_after_s"))
    return None if delay_s is None else timedelta(seconds=delay_s)


def encode_error(error: StepError) -> str:
    """Turn error data into JSON text. It holds no NUL: JSON escapes it."""
    return _encoder.encode(error).decode()


def decode_error(text: str) -> StepError:
    """Turn JSON text into error data; text that isn't such gives an UNKNOWN error that says so, and never raises."""
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        return StepError(kind=ErrorKind.UNKNOWN, type="Unreadable", message=f"the stored error can't be read: {error}")


def cancelled_error(reason: str | None) -> StepError:
    """What a run ends with that somebody cancelled; the reason is in its context, too, where one was given.

    It has no time: who cancels need not know the store's, and the record or the run's end has it.
    """
    return StepError(
        kind=ErrorKind.CANCELLED,
        type="WorkflowCancelled",
        message="the run was cancelled." if reason is None else reason,
        context={} if reason is None else {"reason": reason},
    )


def run_timeout_error(which: str, *, now: datetime) -> StepError:
    """What a run ends with whose time is over: `which` is "run" (to its end) or "start" (in the queue)."""
    told = "did not end within its timeout" if which == "run" else "was not begun within its start_timeout"
    return StepError(
        kind=ErrorKind.TIMEOUT,
        type="TimeoutError",
        message=f"the run {told}.",
        context={"timeout": which},
        occurred_at=now,
    )


def interrupted_error(*, attempt: int, cause: StepError | None, now: datetime) -> StepError:
    """What a step has failed with that is executed at most once, and of whose execution `attempt` nobody knows whether
    it happened; `cause` is what is known."""
    known = "" if cause is None else f" ({cause.type}: {shortened(cause.message, limit=_SHORT_MESSAGE_LIMIT)})"
    context = {"timeout": cause.context["timeout"]} if cause is not None and "timeout" in cause.context else {}
    return StepError(
        kind=ErrorKind.INTERRUPTED,
        type="StepInterrupted",
        message=(
            f"execution {attempt} was begun and interrupted{known}, and nobody knows whether it happened, so it was "
            "not made again. Find out what became of it; given as reconcile=, a function does so by itself."
        ),
        context=context,
        occurred_at=now,
        causes=() if cause is None else (cause,),
    )


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
