"""The tree of errors: what derives from what, what they keep, and that they travel between processes."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import kagzi
from kagzi import (
    ChildFailed,
    ConfigError,
    ConflictError,
    DivergenceError,
    ErrorKind,
    KagziError,
    MigrationError,
    NonRetryable,
    OutcomeUnknown,
    Parked,
    PayloadError,
    PayloadTooLarge,
    RetryAfter,
    RunClosed,
    RunNotFound,
    StepError,
    StepFailed,
    StepInterrupted,
    StoreUnavailable,
    VersionDeprecated,
    VersionNotFound,
    WorkerNotFound,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowIOError,
    WorkflowNotRegistered,
)
from kagzi.model.retry import LONGEST_DELAY

CAUSE = StepError(
    kind=ErrorKind.NETWORK_ERROR,
    message="refused",
    type="ConnectionError",
    context={"host": "a"},
    retryable=True,
    traceback="Traceback ...",
    occurred_at=datetime(2030, 1, 2, tzinfo=UTC),
    causes=(StepError(kind=ErrorKind.UNKNOWN, message="inner", type="OSError"),),
)

ERRORS: list[BaseException] = [
    KagziError("something"),
    ConfigError("set up wrongly"),
    StoreUnavailable("not there"),
    MigrationError("number 3 failed"),
    OutcomeUnknown("lost"),
    WorkflowNotRegistered("order", known=("a", "b")),
    VersionNotFound("order", 3, known=(1, 2)),
    VersionDeprecated("order", 3, usable=(1, 2)),
    ConflictError("another input", id="order-1", run_id="01a2"),
    RunNotFound("01a2"),
    RunClosed("01a2", "COMPLETED"),
    WorkerNotFound("w", living=("w1", "w2"), several=True),
    PayloadError("can't be stored", path="$.a[3]", step="charge"),
    PayloadTooLarge("too large", path="$", step=None),
    WorkflowFailed("01a2", "order", CAUSE),
    WorkflowCancelled("01a2", "duplicate"),
    WorkflowCancelled("01a2"),
    StepFailed("charge", CAUSE),
    StepInterrupted("charge", CAUSE),
    ChildFailed("child", CAUSE, child_run_id="01a3"),
    DivergenceError("does not fit", expected=("a",), found=("b", "c")),
    WorkflowIOError("socket", "Do it in a step."),
    NonRetryable("refused", kind=ErrorKind.NOT_FOUND, context={"card": "1"}),
    RetryAfter(30, "later", kind=ErrorKind.SERVICE_UNAVAILABLE, context={"shop": "a"}),
    Parked(),
]


def name(error: BaseException) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", ERRORS, ids=name)
@pytest.mark.parametrize("travel", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_an_error_keeps_its_fields_on_its_way_between_processes(error: BaseException, travel: object) -> None:
    assert callable(travel)

    arrived = travel(error)

    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert arrived.args == error.args
    assert vars(arrived) == vars(error)


def test_every_public_error_is_tried_here() -> None:
    public = {
        each
        for each in vars(kagzi).values()
        if isinstance(each, type) and issubclass(each, BaseException) and each.__module__.startswith("kagzi")
    }

    assert public == {type(error) for error in ERRORS}


def test_the_tree_is_the_one_that_is_promised() -> None:
    assert {name(error): type(error).__bases__[0].__name__ for error in ERRORS} == {
        "KagziError": "Exception",
        "ConfigError": "KagziError",
        "StoreUnavailable": "KagziError",
        "MigrationError": "KagziError",
        "OutcomeUnknown": "KagziError",
        "WorkflowNotRegistered": "KagziError",
        "VersionNotFound": "KagziError",
        "VersionDeprecated": "VersionNotFound",
        "ConflictError": "KagziError",
        "RunNotFound": "KagziError",
        "RunClosed": "KagziError",
        "WorkerNotFound": "KagziError",
        "PayloadError": "KagziError",
        "PayloadTooLarge": "PayloadError",
        "WorkflowFailed": "KagziError",
        "WorkflowCancelled": "KagziError",
        "StepFailed": "KagziError",
        "StepInterrupted": "StepFailed",
        "ChildFailed": "StepFailed",
        "DivergenceError": "KagziError",
        "WorkflowIOError": "KagziError",
        "NonRetryable": "KagziError",
        "RetryAfter": "KagziError",
        "Parked": "BaseException",
    }


def test_parked_passes_by_whoever_catches_exceptions() -> None:
    assert not issubclass(Parked, Exception)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (WorkflowNotRegistered("order", known=("b", "a")), ["'order'", "a, b", "@kagzi.workflow"]),
        (WorkflowNotRegistered("order"), ["none"]),
        (VersionNotFound("order", 3, known=(2, 1)), ["'order'", "no version 3", "1, 2", "Register version 3"]),
        (RunNotFound("01a2"), ["'01a2'", "database URL"]),
        (RunClosed("01a2", "FAILED"), ["01a2", "FAILED", "no more messages"]),
        (RunClosed("01a2", "FAILED", is_unanswered=True), ["01a2", "FAILED", "without a reply", "undelivered"]),
        (WorkflowFailed("01a2", "order", CAUSE), ["01a2", "'order'", "ConnectionError: refused"]),
        (WorkflowCancelled("01a2", "duplicate"), ["01a2", "duplicate"]),
        (StepFailed("charge", CAUSE), ["'charge'", "ConnectionError: refused"]),
        (WorkflowIOError("socket", "Do it in a step."), ["socket", "workflow body", "Do it in a step."]),
    ],
    ids=str,
)
def test_a_message_says_what_happened_to_which_thing_and_what_to_do(error: Exception, says: list[str]) -> None:
    assert [part for part in says if part not in str(error)] == []


@pytest.mark.parametrize(
    ("given", "delay"),
    [
        (30, timedelta(seconds=30)),
        (0.5, timedelta(milliseconds=500)),
        (timedelta(hours=1), timedelta(hours=1)),
        (-5, timedelta(0)),
        (timedelta(days=-1), timedelta(0)),
        (float("inf"), LONGEST_DELAY),
        (1e300, LONGEST_DELAY),
        (10**400, LONGEST_DELAY),
        (timedelta.max, LONGEST_DELAY),
    ],
    ids=repr,
)
def test_a_wait_is_brought_between_zero_and_a_hundred_years(given: float | timedelta, delay: timedelta) -> None:
    assert RetryAfter(given).delay == delay


@pytest.mark.parametrize("wrong", [None, "30", True, float("nan")])
def test_what_is_no_wait_is_refused_at_the_call(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="RetryAfter takes"):
        RetryAfter(wrong)


@pytest.mark.parametrize("decide", [NonRetryable, lambda **options: RetryAfter(1, **options)])
def test_a_kind_that_there_is_not_is_refused_at_the_call(decide: Any) -> None:
    with pytest.raises(ValueError, match="TEAPOT"):
        decide(kind="TEAPOT")
