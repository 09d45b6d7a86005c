"""Whether a failed execution is tried again, and when."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, NamedTuple

from kagzi.errors import NonRetryable, RetryAfter
from kagzi.model.error import ErrorKind, StepError
from kagzi.model.retry import RetryPolicy
from kagzi.rules.classification.probes import is_a
from kagzi.rules.failures import retry_after

logger = logging.getLogger("kagzi.retries")


@dataclass(frozen=True, slots=True)
class RetryPredicate:
    """Which errors are tried again: one of the constants, `on_error_kind(...)`, `on_types(...)`, or any function of a
    `StepError` that returns a bool."""

    name: str
    kinds: frozenset[ErrorKind] = frozenset()
    types: tuple[type[BaseException], ...] = ()

    ON_RETRYABLE_ERROR: ClassVar[RetryPredicate]
    """Those that `StepError.retryable` says can pass by themselves. The default."""
    ON_ANY_ERROR: ClassVar[RetryPredicate]
    NEVER: ClassVar[RetryPredicate]

    @classmethod
    def on_error_kind(cls, *kinds: ErrorKind) -> RetryPredicate:
        """Errors of these kinds. Raises ValueError where none is given, or for what is no kind."""
        if not kinds:
            raise ValueError("on_error_kind() takes at least one ErrorKind; for none there is RetryPredicate.NEVER.")
        return cls("on_error_kind", kinds=frozenset(ErrorKind(kind) for kind in kinds))

    @classmethod
    def on_types(cls, *types: type[BaseException]) -> RetryPredicate:
        """Exceptions of these types and their subclasses. Raises TypeError for what is no exception type, ValueError
        where none is given."""
        if not types:
            raise ValueError("on_types() takes at least one exception type; for none there is RetryPredicate.NEVER.")
        for given in types:
            _check_type(given)
        return cls("on_types", types=types)

    def __call__(self, error: StepError, exception: BaseException | None = None, /) -> bool:
        """Whether to try again after `error`; `exception` is what it describes."""
        match self.name:
            case "ON_RETRYABLE_ERROR":
                return error.retryable
            case "ON_ANY_ERROR":
                return True
            case "on_error_kind":
                return error.kind in self.kinds
            case "on_types":
                if exception is not None:
                    return issubclass(type(exception), self.types)
                return error.type in {each.__name__ for each in self.types}
            case _:
                return False


def _check_type(given: object) -> None:
    if not (isinstance(given, type) and issubclass(given, BaseException)):
        raise TypeError(f"on_types() takes exception types, not {given!r}.")


RetryPredicate.ON_RETRYABLE_ERROR = RetryPredicate("ON_RETRYABLE_ERROR")
RetryPredicate.ON_ANY_ERROR = RetryPredicate("ON_ANY_ERROR")
RetryPredicate.NEVER = RetryPredicate("NEVER")

RetryIf = RetryPredicate | Callable[[StepError], bool]
"""What `retry_if` takes."""


class Attempts(NamedTuple):
    """Executions made so far, and what is to be thought of another: `chance` draws from 0 to 1."""

    made: int
    policy: RetryPolicy | None
    retry_if: RetryIf | None
    chance: Callable[[], float]


def next_wait(error: StepError, exception: BaseException, attempts: Attempts) -> timedelta | None:
    """How long to wait before the next execution; None where there is to be none.

    `NonRetryable` ends it and `RetryAfter` says when, whatever the predicate thinks. A delay that the error asks for
    (a `Retry-After`) goes before the policy's. Without a policy only `RetryAfter` is heeded, and each time.
    """
    policy = attempts.policy
    if is_a(exception, NonRetryable):
        return None
    by_hand = is_a(exception, RetryAfter)
    if policy is None:
        return retry_after(error) if by_hand else None
    if policy.max_attempts is not None and attempts.made >= policy.max_attempts:
        return None
    if not by_hand and not _is_worth_it(error, exception, attempts.retry_if):
        return None
    asked = retry_after(error)
    return policy.delay(attempts.made, chance=attempts.chance()) if asked is None else asked


def _is_worth_it(error: StepError, exception: BaseException, retry_if: RetryIf | None) -> bool:
    if retry_if is None:
        return error.retryable
    if isinstance(retry_if, RetryPredicate):
        return retry_if(error, exception)
    try:
        return bool(retry_if(error))
    except Exception:
        # Whoever sets a policy wants retries, and a predicate that fails has not said otherwise.
        logger.exception("A retry predicate raised; the error's own kind decides.", extra={"error_kind": error.kind})
        return error.retryable


def retrying(what: str, *, made: int, most: int | None, at: datetime) -> str:
    """What a run waits for where `what` failed and is executed again."""
    count = f"{made} of {most} attempts" if most is not None else f"{made} attempt{'s' if made > 1 else ''}"
    return f"{what}, retrying at {at.isoformat()}: {count} failed"
