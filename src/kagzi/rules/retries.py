"""Whether a failed execution is tried again, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from kagzi.model.error import ErrorKind, StepError


class Predicate(Protocol):
    """Decides whether an error is worth another execution."""

    def __call__(self, error: StepError, /) -> bool:
        """Whether to try again after `error`."""


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
        """Errors of these kinds."""
        return cls("on_error_kind", kinds=frozenset(ErrorKind(kind) for kind in kinds))

    @classmethod
    def on_types(cls, *types: type[BaseException]) -> RetryPredicate:
        """Exceptions of these types and their subclasses. Raises TypeError for what is no exception type."""
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
                    return isinstance(exception, self.types)
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
