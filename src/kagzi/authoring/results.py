"""`Ok` and `Err`: how a branch of a parallel group ended, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Literal, NoReturn, TypeVar

from kagzi.errors import KagziError
from kagzi.model.error import StepError

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Ok(Generic[T_co]):
    """A branch that gave `value`."""

    value: T_co

    @property
    def is_ok(self) -> Literal[True]:
        """True."""
        return True

    def unwrap(self) -> T_co:
        """Give the value."""
        return self.value


@dataclass(frozen=True, slots=True)
class Err:
    """A branch that failed or was cancelled (kind CANCELLED). `error` says why, as data."""

    error: StepError
    exception: BaseException | None = field(default=None, kw_only=True, repr=False, compare=False)

    @property
    def is_ok(self) -> Literal[False]:
        """False."""
        return False

    def unwrap(self) -> NoReturn:
        """Raise what the branch raised: StepFailed where it was a step."""
        if self.exception is None:
            raise KagziError(f"the branch failed: {self.error.type}: {self.error.message}")
        raise self.exception
