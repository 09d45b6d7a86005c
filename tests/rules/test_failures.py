"""What is kept of an exception: its kind, its text, its causes, in a bounded size, and whatever it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kagzi import ErrorKind, NonRetryable, RetryAfter, StepError, StepFailed, WorkflowFailed
from tests.rules.telling import NOW, Untellable, raised, told

NO_NAMES = {0: "x", 0xD800: "x"}  # what the name of a class can't hold


def every(error: StepError) -> Iterator[StepError]:
    """An error and all that is beneath it."""
    yield error
    for cause in error.causes:
        yield from every(cause)


# -- chains ------------------------------------------------------------------------------------------------------


def test_what_an_error_was_raised_from_is_kept() -> None:
    try:
        try:
            raise KeyError("a")
        except KeyError as error:
            raise ConnectionError("b") from error
    except ConnectionError as error:
        described = told(error)

    assert [(each.type, each.message, each.kind) for each in every(described)] == [
        ("ConnectionError", "b", ErrorKind.NETWORK_ERROR),
        ("KeyError", "'a'", ErrorKind.UNKNOWN),
    ]
    assert "raise KeyError" in described.causes[0].traceback
    assert "raise KeyError" not in described.traceback


def test_what_was_being_handled_is_kept_as_well() -> None:
    try:
        try:
            raise KeyError("a")
        except KeyError:
            raise ValueError("b")  # noqa: B904 - that is the point
    except ValueError as error:
        described = told(error)

    assert [each.type for each in every(described)] == ["ValueError", "KeyError"]


def test_what_was_being_handled_is_left_out_where_that_is_asked_for() -> None:
    try:
        try:
            raise KeyError("a")
        except KeyError:
            raise ValueError("b") from None
    except ValueError as error:
        described = told(error)

    assert described.causes == ()


def a_chain(length: int, make: Callable[[int], BaseException] = lambda number: ValueError(number)) -> BaseException:
    """An error that was raised from another, and so on."""
    error = make(length)
    for number in reversed(range(length)):
        outer = make(number)
        outer.__cause__ = error
        error = outer
    return error


def test_of_a_long_chain_the_near_end_is_kept() -> None:
    described = told(a_chain(5000))

    kept = list(every(described))
    assert [each.message for each in kept] == [str(number) for number in range(60)]
    assert kept[-1].context == {"causes_left_out": 1}


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_chain_that_bites_its_tail_ends(length: int) -> None:
    errors = [ValueError(number) for number in range(length)]
    for error, cause in zip(errors, [*errors[1:], errors[0]], strict=True):
        error.__cause__ = cause

    assert [each.message for each in every(told(errors[0]))] == [str(number) for number in range(length)]


def test_a_group_in_its_own_chain_ends() -> None:
    member = ValueError("in")
    group = ExceptionGroup("out", [member])
    member.__cause__ = group
    group.__cause__ = member

    assert [each.type for each in every(told(group))] == ["ExceptionGroup", "ValueError"]


# -- groups ------------------------------------------------------------------------------------------------------


def test_the_members_of_a_group_and_what_it_was_raised_from_are_kept() -> None:
    group = ExceptionGroup("several", [TimeoutError("a"), ExceptionGroup("in", [TimeoutError("b")])])
    group.__cause__ = KeyError("c")

    described = told(group)

    assert (described.kind, described.retryable) == (ErrorKind.TIMEOUT, True)
    assert described.message == "several (2 sub-exceptions)"
    assert [each.type for each in described.causes] == ["TimeoutError", "ExceptionGroup", "KeyError"]
    assert [each.message for each in described.causes[1].causes] == ["b"]


def test_a_group_of_ten_thousand_is_counted_whole_and_told_in_part() -> None:
    members = [TimeoutError(number) for number in range(10_000)]

    described = told(ExceptionGroup("many", members))
    spoilt = told(ExceptionGroup("many", [*members, NonRetryable("the last one")]))

    assert (described.kind, described.retryable) == (ErrorKind.TIMEOUT, True)
    assert len(described.causes) == 20
    assert described.context == {"causes_left_out": 9_980}
    assert (spoilt.kind, spoilt.retryable) == (ErrorKind.UNKNOWN, False)


def test_groups_nested_deep_end() -> None:
    group: ExceptionGroup[Exception] = ExceptionGroup("leaf", [TimeoutError()])
    for _ in range(5_000):
        group = ExceptionGroup("level", [group])

    described = told(group)

    assert described.kind is ErrorKind.TIMEOUT
    assert len(list(every(described))) == 60


def test_a_group_that_holds_another_many_times_over_is_looked_at_once() -> None:
    group: ExceptionGroup[Exception] = ExceptionGroup("leaf", [TimeoutError()])
    for _ in range(200):  # 2**200 ways lead to the leaf
        group = ExceptionGroup("level", [group, group])

    assert told(group).kind is ErrorKind.TIMEOUT


# -- failures of steps and runs ----------------------------------------------------------------------------------


def test_a_failed_step_is_told_with_the_error_it_is_stored_with() -> None:
    inner = told(raised(a_chain(3)))

    described = told(StepFailed("charge", inner))

    assert (described.kind, described.retryable, described.type) == (inner.kind, inner.retryable, "StepFailed")
    assert described.causes == (inner,)
    assert told(WorkflowFailed("01a2", "pay", inner)).causes == (inner,)


def test_failures_within_failures_do_not_grow() -> None:
    described = told(ExceptionGroup("many", [ValueError("x" * 100_000) for _ in range(100)]))

    for _ in range(50):  # as children of children fail
        described = told(StepFailed("child", described))

    assert "many" in "".join(each.message for each in every(described))


@pytest.mark.parametrize(
    "odd",
    [
        None,
        "no error",
        StepError(kind="TEAPOT", message="", type=""),  # type: ignore[arg-type] # as somebody may make it by hand
        StepError(kind=ErrorKind.TIMEOUT, message=5, type=None, context=None),  # type: ignore[arg-type] # as above
        StepError(kind=ErrorKind.TIMEOUT, message="", type="", context={"a": object()}),
        StepError(kind=ErrorKind.TIMEOUT, message="\ud800", type="", causes=5),  # type: ignore[arg-type] # as above
        StepError(kind=ErrorKind.TIMEOUT, message="", type="", causes=(None,)),  # type: ignore[arg-type] # as above
    ],
)
def test_a_failure_that_was_made_by_hand_and_badly_is_told_all_the_same(odd: Any) -> None:
    failure = StepFailed.__new__(StepFailed)
    failure.error = odd

    assert told(failure).type == "StepFailed"


# -- what its raiser wants to be known ---------------------------------------------------------------------------


@pytest.mark.parametrize("make", [NonRetryable, partial(RetryAfter, 5)], ids=["no", "later"])
def test_a_context_is_kept_as_json_values_and_anything_else_as_text(make: Any) -> None:
    context = {
        "card": "1",
        "amount": 1.5,
        "ok": None,
        "list": [1, (2, 3)],
        "huge": 2**70,
        "nan": float("nan"),
        "when": NOW,
        "kind": ErrorKind.TIMEOUT,
        5: {"in": {1}},
        "bytes": b"a",
    }

    kept = told(make("no", context=context)).context
    kept.pop("retry_after_s", None)

    assert kept == {
        "card": "1",
        "amount": 1.5,
        "ok": None,
        "list": [1, [2, 3]],
        "huge": str(2**70),
        "nan": "nan",
        "when": repr(NOW),
        "kind": "TIMEOUT",
        "5": {"in": "{1}"},
        "bytes": "b'a'",
    }


def test_a_context_that_leads_back_to_itself_or_is_too_large_is_cut() -> None:
    circle: dict[str, Any] = {"first": "kept"}
    circle["self"] = circle
    long = "x" * 100_000
    large = {f"key {number}": [long, {long: long}] for number in range(10_000)}

    assert told(NonRetryable("no", context=circle)).context["first"] == "kept"
    assert "key 0" in told(NonRetryable("no", context=large)).context


def test_a_context_that_can_not_be_shown_is_told_as_such() -> None:
    kept = told(NonRetryable("no", context={"value": Untellable(), "next": 1})).context

    assert kept["next"] == 1
    assert "__repr__ raised RuntimeError" in kept["value"]


def test_a_decision_by_hand_keeps_what_it_was_raised_from() -> None:
    try:
        try:
            raise ConnectionError("original")
        except ConnectionError as error:
            raise NonRetryable("no use", kind=ErrorKind.NOT_FOUND, context={"card": "1"}) from error
    except NonRetryable as error:
        described = told(error)

    assert (described.kind, described.retryable, described.context) == (ErrorKind.NOT_FOUND, False, {"card": "1"})
    assert [each.message for each in described.causes] == ["original"]


def test_only_a_decision_by_hand_has_a_context() -> None:
    error: Any = ValueError("bad")
    error.context = {"card": "1"}

    assert told(error).context == {}


# -- texts -------------------------------------------------------------------------------------------------------


def test_notes_are_kept_beneath_the_traceback() -> None:
    error = raised(ValueError("bad"))
    error.add_note("of order 5")
    error.add_note("🦔")

    assert told(error).traceback.endswith("ValueError: bad\nof order 5\n🦔\n")


def test_a_traceback_says_what_python_would_say() -> None:
    traceback = told(raised(NonRetryable("bad"))).traceback

    assert traceback.startswith("Traceback (most recent call last):\n  File ")
    assert "in raised\n    raise error\n" in traceback
    assert traceback.endswith("kagzi.errors.NonRetryable: bad\n")


def recurse(depth: int) -> None:
    if depth == 0:
        raise ValueError("bottom")
    (recurse_again if depth % 2 else recurse)(depth - 1)


def recurse_again(depth: int) -> None:
    recurse(depth)


def test_of_a_long_traceback_both_ends_are_kept() -> None:
    with pytest.raises(ValueError, match="bottom") as failure:
        recurse(400)

    traceback = told(failure.value).traceback

    assert "in test_of_a_long_traceback" in traceback
    assert "more frames ..." in traceback
    assert 'raise ValueError("bottom")' in traceback


def test_of_a_traceback_with_long_lines_the_end_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "long.py"
    file.write_text(f"def outer():\n    inner()  # {'x' * 300_000}\n\n\ndef inner():\n    1 / 0\n")
    names: dict[str, Any] = {}
    exec(compile(file.read_text(), file, "exec"), names)
    with pytest.raises(ZeroDivisionError) as failure:
        names["outer"]()
    failure.value.add_note("n" * 300_000)

    traceback = told(failure.value).traceback

    assert traceback.startswith("Traceback (most recent call last):\n")
    assert "in inner\n    1 / 0\n" in traceback
    assert "\nZeroDivisionError: division by zero\nnnn" in traceback


@pytest.mark.parametrize("character", ["x", "é", "🦔", "\0", "\ud800", '"', "\\"])
def test_no_text_is_too_long(character: str) -> None:
    long = character * 1_000_000

    described = told(raised(type(long[:5000].translate(NO_NAMES), (ValueError,), {})(long)))

    assert 1_000 < len(described.message) <= 10_000
    assert described.message.endswith("...")
