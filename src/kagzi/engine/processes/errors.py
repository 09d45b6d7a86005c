"""Exceptions on their way out of a process: what they are, what they say and where they were raised."""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass
from typing import Any

from kagzi.rules.classification.probes import origin_of
from kagzi.rules.excerpts import message_of, traceback_of

_DEPTH = 10
_MOST_ERRORS = 60  # more are not kept, either (rules/failures.py)
_TEXT_LIMIT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TravellingError:
    """An exception that left its process. `pickled` is None where it can't be made again from its pickle.

    `lineage` are the modules and names of its class and of those that it derives from, nearest first.
    """

    pickled: bytes | None
    lineage: tuple[tuple[str, str], ...]
    message: str
    fields: dict[str, bytes]
    traceback: str
    cause: TravellingError | None
    members: tuple[TravellingError, ...]

    def arrive(self) -> BaseException:
        """The exception, or one of a class of the same name and lineage that says the same. Never raises."""
        error = self._unpickled() or self._stand_in()
        try:
            error.__kagzi_traceback__ = self.traceback  # type: ignore[attr-defined] # for rules/excerpts.py
            error.__cause__ = self.cause.arrive() if self.cause is not None else None
        except Exception:  # a class that lets nothing be set
            return self._stand_in()
        return error

    def _unpickled(self) -> BaseException | None:
        if self.pickled is None or self.members:
            return None
        try:
            error = pickle.loads(self.pickled)  # noqa: S301 - from a process of our own, and never stored
        except Exception:
            return None
        return error if isinstance(error, BaseException) else None

    def _stand_in(self) -> BaseException:
        if self.members:
            return BaseExceptionGroup(self.message, [member.arrive() for member in self.members])
        error = next(filter(None, map(self._of_class, self.lineage)), None) or Exception(self.message)
        for field, pickled in self.fields.items():
            try:
                setattr(error, field, pickle.loads(pickled))  # noqa: S301 - as above
            except Exception:  # noqa: S112 - a field more or less: the message and the class tell the most
                continue
        return error

    def _of_class(self, place: tuple[str, str]) -> BaseException | None:
        """An error of a class made for it below this one of its lineage, where that is known here and lets us."""
        base, (module, qualname), message = _known_class(place), self.lineage[0], self.message
        if base is None:
            return None
        body = {"__module__": module, "__qualname__": qualname, "__str__": lambda _: message}
        try:
            kind: Any = type(qualname.rpartition(".")[2], (base,), body)
            error: BaseException = base.__new__(kind)
            error.args = (message,)
        except Exception:  # such as a class that wants arguments
            return None
        return error


def depart(error: BaseException, *, skip: str) -> TravellingError:
    """Describe an exception for its way; frames of the file `skip` at the outer end of its traceback are left out."""
    return _Departure(skip).tell(error)


class _Departure:
    """An exception with what led to it and what it holds, up to a number of them all."""

    def __init__(self, skip: str) -> None:
        self._skip = skip
        self._room = _MOST_ERRORS

    def tell(self, error: BaseException, depth: int = 0) -> TravellingError:
        self._room -= 1
        cause = origin_of(error)
        told_cause = None if cause is None or not self._has_room(depth) else self.tell(cause, depth + 1)
        members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        pickled = None if members else _pickled(error)
        fields = vars(error).items() if pickled is None else ()
        return TravellingError(
            pickled=pickled,
            lineage=tuple((kind.__module__, kind.__qualname__) for kind in type(error).__mro__),
            message=error.message if isinstance(error, BaseExceptionGroup) else message_of(error, limit=_TEXT_LIMIT),
            fields={name: text for name, value in fields if (text := _pickled(value)) is not None},
            traceback=traceback_of(_without(error, self._skip), limit=_TEXT_LIMIT),
            cause=told_cause,
            members=tuple(self.tell(member, depth + 1) for member in members if self._has_room(depth)),
        )

    def _has_room(self, depth: int) -> bool:
        return self._room > 0 and depth < _DEPTH


def _pickled(value: Any) -> bytes | None:
    """The pickle of a value, if it can be read again."""
    try:
        text = pickle.dumps(value)
        pickle.loads(text)  # noqa: S301 - made in the line above
    except Exception:
        return None
    return text


def _without(error: BaseException, skip: str) -> BaseException:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == skip:
        trace = trace.tb_next
    return error.with_traceback(trace)


def _known_class(place: tuple[str, str]) -> type[BaseException] | None:
    """A class of the lineage that is imported here already; nothing is imported for it."""
    module, qualname = place
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    fits = isinstance(found, type) and issubclass(found, BaseException) and not issubclass(found, BaseExceptionGroup)
    return found if fits else None
