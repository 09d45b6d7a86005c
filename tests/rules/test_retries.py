"""Retry policies and predicates, and what follows from a failure."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagzi.errors import NonRetryable, RetryAfter
from kagzi.model.error import ErrorKind, StepError
from kagzi.model.retry import RetryPolicy
from kagzi.rules.failures import describe
from kagzi.rules.retries import Attempts, RetryIf, RetryPredicate, next_wait, retrying

NOW = datetime(2026, 1, 1, tzinfo=UTC)
THRICE = RetryPolicy.fixed(10, max_attempts=3)
PASSING, LASTING = ConnectionError("no answer"), PermissionError("not yours")


def wait_after(
    error: BaseException,
    policy: RetryPolicy | None = THRICE,
    *,
    made: int = 1,
    retry_if: RetryIf | None = None,
    chance: float = 1.0,
) -> float | None:
    """How long to wait after `error`, in seconds; None where there is no other execution."""
    attempts = Attempts(made=made, policy=policy, retry_if=retry_if, chance=lambda: chance)
    wait = next_wait(describe(error, now=NOW), error, attempts)
    return None if wait is None else wait.total_seconds()


# -- policies ----------------------------------------------------------------------------------------------------


def test_the_first_wait_is_the_initial_one_and_each_is_longer_up_to_the_maximum() -> None:
    policy = RetryPolicy.exponential(1, 30, multiplier=3, jitter=False)

    assert [policy.delay(attempt).total_seconds() for attempt in range(1, 7)] == [1, 3, 9, 27, 30, 30]


def test_defaults_are_those_that_are_promised() -> None:
    growing, equal = RetryPolicy.exponential(), RetryPolicy.fixed()

    assert (growing.initial, growing.maximum) == (timedelta(seconds=1), timedelta(hours=1))
    assert (growing.multiplier, growing.max_attempts, growing.jitter) == (2, 5, True)
    assert (equal.initial, equal.maximum, equal.max_attempts) == (timedelta(seconds=5), timedelta(seconds=5), 3)
    assert RetryPolicy.none().max_attempts == 1


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(1, 1e6))
def test_a_wait_is_never_longer_than_asked_and_never_shorter_than_half(
    attempt: int, chance: float, multiplier: float
) -> None:
    jittered = RetryPolicy.exponential(1, 3600, multiplier=multiplier, max_attempts=None)
    plain = RetryPolicy.exponential(1, 3600, multiplier=multiplier, max_attempts=None, jitter=False)

    whole = plain.delay(attempt)

    microsecond = timedelta(microseconds=1)  # by which a timedelta is rounded
    assert whole / 2 - microsecond <= jittered.delay(attempt, chance=chance) <= whole + microsecond
    assert whole <= timedelta(hours=1)


# As somebody without a type checker would call them.
exponential: Callable[..., Any] = RetryPolicy.exponential
fixed: Callable[..., Any] = RetryPolicy.fixed
on_types: Callable[..., Any] = RetryPredicate.on_types
on_error_kind: Callable[..., Any] = RetryPredicate.on_error_kind


@pytest.mark.parametrize(
    ("make", "error", "told"),
    [
        (lambda: RetryPolicy.exponential(-1), ValueError, "initial is -1"),
        (lambda: RetryPolicy.exponential(float("nan")), ValueError, "initial is nan"),
        (lambda: RetryPolicy.exponential(timedelta(days=-1)), ValueError, "initial is"),
        (lambda: RetryPolicy.exponential(10, 5), ValueError, "above maximum"),
        (lambda: RetryPolicy.exponential(maximum=1e12), ValueError, "maximum is"),
        (lambda: exponential("1"), TypeError, "initial must be seconds"),
        (lambda: RetryPolicy.exponential(True), TypeError, "initial must be seconds"),
        (lambda: RetryPolicy.exponential(multiplier=0.5), ValueError, "multiplier is 0.5"),
        (lambda: RetryPolicy.exponential(multiplier=float("inf")), ValueError, "multiplier is inf"),
        (lambda: RetryPolicy.exponential(max_attempts=0), ValueError, "max_attempts is 0"),
        (lambda: RetryPolicy.fixed(max_attempts=True), ValueError, "max_attempts is True"),
        (lambda: fixed(max_attempts=2.0), ValueError, "max_attempts is 2.0"),
        (lambda: exponential(jitter=1), TypeError, "jitter must be True or False"),
        (lambda: on_types(ValueError("an object")), TypeError, "takes exception types"),
        (lambda: on_types(int), TypeError, "takes exception types"),
        (lambda: RetryPredicate.on_types(), ValueError, "at least one exception type"),
        (lambda: RetryPredicate.on_error_kind(), ValueError, "at least one ErrorKind"),
        (lambda: on_error_kind("ODD"), ValueError, "ODD"),
    ],
)
def test_what_can_not_be_is_refused_at_the_call(make: Callable[[], Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        make()


def test_policies_and_predicates_pickle_and_compare() -> None:
    for each in (THRICE, RetryPolicy.exponential(), RetryPredicate.NEVER, RetryPredicate.on_types(OSError)):
        assert pickle.loads(pickle.dumps(each)) == each
    assert RetryPolicy.fixed(5) != RetryPolicy.fixed(6)


# -- decisions ---------------------------------------------------------------------------------------------------


def test_an_error_that_can_pass_is_tried_again_and_one_that_can_not_is_not() -> None:
    assert (wait_after(PASSING), wait_after(LASTING)) == (10, None)


def test_max_attempts_counts_executions_the_first_included() -> None:
    assert [wait_after(PASSING, made=made) for made in (1, 2, 3, 4)] == [10, 10, None, None]
    assert wait_after(PASSING, RetryPolicy.fixed(1, max_attempts=None), made=10**9) == 1


def test_without_a_policy_nothing_is_tried_again() -> None:
    assert wait_after(PASSING, None) is None
    assert wait_after(PASSING, RetryPolicy.none()) is None


@pytest.mark.parametrize(
    ("retry_if", "passing", "lasting"),
    [
        (RetryPredicate.ON_RETRYABLE_ERROR, 10, None),
        (RetryPredicate.ON_ANY_ERROR, 10, 10),
        (RetryPredicate.NEVER, None, None),
        (RetryPredicate.on_error_kind(ErrorKind.PERMISSION_DENIED), None, 10),
        (RetryPredicate.on_types(OSError), 10, 10),  # both are kinds of it
        (RetryPredicate.on_types(TimeoutError, ConnectionError), 10, None),
        (lambda error: error.message == "not yours", None, 10),
        (lambda error: [], None, None),
    ],
)
def test_a_predicate_says_which_errors_are_tried_again(
    retry_if: RetryIf, passing: float | None, lasting: float | None
) -> None:
    assert (wait_after(PASSING, retry_if=retry_if), wait_after(LASTING, retry_if=retry_if)) == (passing, lasting)


def test_what_is_raised_by_hand_goes_before_the_predicate() -> None:
    assert wait_after(NonRetryable("no use"), retry_if=RetryPredicate.ON_ANY_ERROR) is None
    assert wait_after(NonRetryable("no use", kind=ErrorKind.NETWORK_ERROR)) is None
    assert wait_after(RetryAfter(7), retry_if=RetryPredicate.NEVER) == 7


def test_retry_after_counts_against_a_policy_and_is_heeded_without_one() -> None:
    assert wait_after(RetryAfter(7), made=3) is None
    assert wait_after(RetryAfter(7), RetryPolicy.none()) is None
    assert wait_after(RetryAfter(7), None, made=1000) == 7


def test_a_delay_that_is_asked_for_is_not_shortened() -> None:
    policy = RetryPolicy.exponential(1, 2, max_attempts=3)

    assert wait_after(RetryAfter(3600), policy, chance=0.0) == 3600


def test_chance_is_asked_once_and_only_where_there_is_another_execution() -> None:
    asked: list[None] = []

    def chance() -> float:
        asked.append(None)
        return 0.0

    waits = [
        next_wait(
            describe(error, now=NOW), error, Attempts(made, RetryPolicy.exponential(4, max_attempts=3), None, chance)
        )
        for error, made in ((LASTING, 1), (PASSING, 3), (PASSING, 1))
    ]

    assert (waits, len(asked)) == ([None, None, timedelta(seconds=2)], 1)


def test_a_predicate_by_types_knows_an_error_that_is_only_data_by_its_name() -> None:
    error = StepError(kind=ErrorKind.UNKNOWN, type="LookupError", message="", retryable=True)

    assert RetryPredicate.on_types(LookupError)(error)
    assert not RetryPredicate.on_types(OSError)(error)


def test_people_are_told_how_often_it_failed_and_when_it_goes_on() -> None:
    assert retrying("step 'call'", made=2, most=5, at=NOW) == (
        "step 'call', retrying at 2026-01-01T00:00:00+00:00: 2 of 5 attempts failed"
    )
    assert retrying("the run", made=1, most=None, at=NOW).endswith(": 1 attempt failed")
    assert retrying("the run", made=2, most=None, at=NOW).endswith(": 2 attempts failed")
