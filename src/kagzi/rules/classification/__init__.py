"""Of what kind an exception is: whether another attempt can help, and how long to wait before.

No library is imported for it. What is looked at is what exceptions bear: an HTTP status (http.py), a database's code
(databases.py), a gRPC status (rpc.py), and the names of their classes (names.py). Nothing that an exception does when
it is looked at gets out of here (probes.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from kagzi.model.error import ErrorKind
from kagzi.rules.classification.databases import by_answer
from kagzi.rules.classification.delays import own_delay
from kagzi.rules.classification.http import by_status
from kagzi.rules.classification.names import by_name
from kagzi.rules.classification.own import by_own_type, decided
from kagzi.rules.classification.probes import Ancestry, ancestry, guarded, is_a, members_of, origin_of, read
from kagzi.rules.classification.rpc import by_grpc_status
from kagzi.rules.classification.verdicts import UNKNOWN, Verdict, verdict

__all__ = ["Classification", "Classifier", "Verdict", "classify"]

Classifier = Callable[[Exception], ErrorKind | None]
"""An application's own say: a kind, or None to leave the exception to the next."""

_LAYERS = 4
"""How many wrappers of a library's making are looked into."""


@dataclass(frozen=True, slots=True)
class Classification:
    """Finds out what exceptions are, each once: the members of a group are those of the groups around it, too.

    `now` is for moments in an answer's headers. Belongs to one failure: exceptions are known by their address.
    """

    now: datetime
    classifiers: Sequence[Classifier] = ()
    _known: dict[int, Verdict] = field(default_factory=dict)

    def of(self, error: BaseException) -> Verdict:
        """What was decided before, else what a classifier says, else what our own rules say. Never raises.

        A group is of a kind that all its members share, and worth another attempt if all of them are.
        """
        found = self._known.get(id(error))
        if found is None:
            try:
                found = decided(error) or self._found_out(error)
            except KeyboardInterrupt:
                raise
            except BaseException:  # a hook of the exception's that got past the guards
                found = UNKNOWN
            self._known[id(error)] = found
        return found

    def _found_out(self, error: BaseException) -> Verdict:
        kind = _asked(error, self.classifiers)
        if kind is not None:
            return verdict(kind, _ruled(error, self.now).delay_s if kind.retryable else None)
        if members_of(error):
            return by_name(error, ancestry(error)) or _shared(self.of(leaf) for leaf in _leaves(error))
        return _ruled(error, self.now)


def classify(error: BaseException, *, now: datetime, classifiers: Sequence[Classifier] = ()) -> Verdict:
    """What one exception is; see `Classification.of`."""
    return Classification(now, classifiers).of(error)


def _asked(error: BaseException, classifiers: Sequence[Classifier]) -> ErrorKind | None:
    if classifiers and is_a(error, Exception):
        for classifier in classifiers:
            kind = guarded(classifier, error)
            if type(kind) is ErrorKind:
                return kind
    return None


def _ruled(error: BaseException, now: datetime, layers: int = _LAYERS) -> Verdict:
    """What our own rules say: the most telling first."""
    names = ancestry(error)
    found = (
        by_own_type(error)
        or by_status(error, now=now)
        or by_answer(error)
        or by_grpc_status(error, names, now=now)
        or _of_wrapped(error, names, now, layers)
        or by_name(error, names)
    )
    if found is not None:
        return found
    delay_s = own_delay(error)
    return UNKNOWN if delay_s is None else verdict(ErrorKind.RATE_LIMITED, delay_s)


def _of_wrapped(error: BaseException, names: Ancestry, now: datetime, layers: int) -> Verdict | None:
    """What the exception is that a library has wrapped in its own, where that is known."""
    if not layers:
        return None
    if read(error, "connection_invalidated") is True:  # SQLAlchemy has found the connection gone
        return verdict(ErrorKind.DATABASE_CONNECTION_FAILED)
    inner = read(error, "orig")  # SQLAlchemy
    if not is_a(inner, BaseException):
        inner = read(error, "reason")  # urllib, urllib3
    if not is_a(inner, BaseException) and names[0][0] == "django":
        inner = origin_of(error)
    if not is_a(inner, BaseException) or inner is error:
        return None
    found = _ruled(inner, now, layers - 1)
    return None if found.kind is ErrorKind.UNKNOWN else found


def _shared(verdicts: Iterable[Verdict]) -> Verdict:
    kind: ErrorKind | None = None
    retryable, mixed = True, False
    delays: list[float] = []
    for found in verdicts:
        mixed = mixed or (kind is not None and found.kind is not kind)
        kind = found.kind
        retryable = retryable and found.retryable
        if found.delay_s is not None:
            delays.append(found.delay_s)
        if mixed and not retryable:
            break
    # All of it is tried again together, so the longest wait that any member asks for is the right one.
    delay_s = max(delays) if delays and retryable else None
    return Verdict(ErrorKind.UNKNOWN if mixed or kind is None else kind, retryable, delay_s)


def _leaves(group: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group and in the groups within it, each once: a group may hold another many times over."""
    waiting = [group]
    seen = {id(group)}
    while waiting:
        for member in members_of(waiting.pop()):
            if id(member) in seen:
                continue
            seen.add(id(member))
            if members_of(member):
                waiting.append(member)
            else:
                yield member
