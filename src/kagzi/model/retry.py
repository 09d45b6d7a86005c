"""Retry policies: how often and how far apart a failed execution is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from kagzi.model.spans import LONGEST_SPAN, as_span

LONGEST_DELAY = LONGEST_SPAN


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often an execution may be made and how long to wait before the next.

    Made by `exponential`, `fixed` and `none`. `max_attempts` counts executions in all, the first included; None is
    without a limit. Before execution n + 1 the wait is `initial * multiplier ** (n - 1)`, at most `maximum`. With
    `jitter` a wait is drawn from between half of that and all of it, so that what failed together does not come back
    together (the "equal jitter" of Marc Brooker, Exponential Backoff And Jitter, 2015).
    """

    initial: timedelta
    maximum: timedelta
    multiplier: float
    max_attempts: int | None
    jitter: bool

    def __post_init__(self) -> None:
        """Refuse what can't be a policy: raises TypeError or ValueError naming the parameter."""
        if self.max_attempts is not None and (type(self.max_attempts) is not int or self.max_attempts < 1):
            raise ValueError(
                f"max_attempts is {self.max_attempts!r}; give a whole number from 1, which counts the first execution "
                "too, or None for no limit."
            )
        if type(self.multiplier) not in (int, float) or not 1 <= self.multiplier < float("inf"):
            raise ValueError(f"multiplier is {self.multiplier!r}; give a number from 1, as waits must not shrink.")
        if self.initial > self.maximum:
            raise ValueError(f"initial is {self.initial}, above maximum, which is {self.maximum}.")

    @classmethod
    def exponential(
        cls,
        initial: float | timedelta = 1.0,
        maximum: float | timedelta = 3600.0,
        multiplier: float = 2.0,
        max_attempts: int | None = 5,
        jitter: bool = True,
    ) -> RetryPolicy:
        """Wait longer before each execution, from `initial` up to `maximum` (seconds or timedelta)."""
        return cls(
            initial=as_span(initial, what="initial"),
            maximum=as_span(maximum, what="maximum"),
            multiplier=multiplier,
            max_attempts=max_attempts,
            jitter=_flag(jitter),
        )

    @classmethod
    def fixed(cls, delay: float | timedelta = 5.0, max_attempts: int | None = 3, jitter: bool = False) -> RetryPolicy:
        """Wait `delay` (seconds or timedelta) before each execution."""
        span = as_span(delay, what="delay")
        return cls(initial=span, maximum=span, multiplier=1.0, max_attempts=max_attempts, jitter=_flag(jitter))

    @classmethod
    def none(cls) -> RetryPolicy:
        """One execution: what fails has failed."""
        zero = timedelta(0)
        return cls(initial=zero, maximum=zero, multiplier=1.0, max_attempts=1, jitter=False)

    def delay(self, attempt: int, *, chance: float = 1.0) -> timedelta:
        """The wait after execution `attempt` (from 1) has failed; `chance` from 0 to 1 draws the jitter."""
        try:
            span_s = self.initial.total_seconds() * self.multiplier ** (attempt - 1)
        except OverflowError:
            span_s = float("inf")
        span_s = min(span_s, self.maximum.total_seconds())
        if self.jitter:
            span_s *= 0.5 + 0.5 * chance
        return timedelta(seconds=span_s)


def _flag(jitter: bool) -> bool:
    if type(jitter) is not bool:
        raise TypeError(f"jitter must be True or False, not {jitter!r}.")
    return jitter
