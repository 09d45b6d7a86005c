"""How long a service asks its callers to wait, and how the engine reads it again."""

from __future__ import annotations

import email.message
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagzi import ErrorKind, StepError
from kagzi.model.retry import LONGEST_DELAY
from kagzi.rules import failures
from kagzi.rules.classification import classify
from kagzi.rules.classification.delays import bounded_s, delay_in_headers
from tests.rules.libraries import a_class, aiohttp_status, botocore_error, httpx_status, requests_status

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)
A_HUNDRED_YEARS_S = LONGEST_DELAY.total_seconds()


class AnyCase(Mapping[str, str]):
    """Headers as requests and httpx have them: names are found in any case, and listed in small letters."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = {name.lower(): value for name, value in headers.items()}

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower()]

    def __iter__(self) -> Any:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)


def a_message(name: str, value: str) -> email.message.Message:
    """Headers as urllib and http.client have them."""
    message = email.message.Message()
    message[name] = value
    return message


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER"])
@pytest.mark.parametrize(
    "headers",
    [
        lambda name, value: {"Server": "a", name: value},
        lambda name, value: AnyCase({name: value}),
        lambda name, value: a_message(name, value),
        lambda name, value: [("Server", "a"), (name, value)],
        lambda name, value: ((name, value),),
        lambda name, value: [[name, value]],
        lambda name, value: [(name.encode(), value.encode())],
    ],
    ids=["dict", "any case", "message", "pairs", "tuple of pairs", "lists", "bytes"],
)
def test_a_delay_is_found_in_headers_of_any_make_and_case(headers: Any, name: str) -> None:
    assert delay_in_headers(headers(name, "120"), now=NOW) == 120


@pytest.mark.parametrize(
    ("value", "delay_s"),
    [
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("1.5", 1.5),
        ("9" * 50, A_HUNDRED_YEARS_S),
        ("Sat, 01 Jun 2030 12:00:30 GMT", 30),
        ("Saturday, 01-Jun-30 12:00:30 GMT", 30),
        ("Sat Jun  1 12:00:30 2030", 30),
        ("Sat, 01 Jun 2030 14:00:30 +0200", 30),
        ("Sat, 01 Jun 2030 11:59:30 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", A_HUNDRED_YEARS_S),
    ],
)
def test_a_delay_is_seconds_or_a_moment(value: str, delay_s: float) -> None:
    assert delay_in_headers({"Retry-After": value}, now=NOW) == delay_s


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-5",
        "+5",
        "1e3",
        "inf",
        "nan",
        "0x10",
        "1_000",
        "१२",
        "9" * 5000,
        "Sat, 32 Jun 2030",
        None,
        120,
        ["1"],
    ],
)
def test_what_is_no_delay_is_passed_over(value: Any) -> None:
    assert delay_in_headers({"Retry-After": value}, now=NOW) is None


def test_a_delay_in_milliseconds_goes_before_one_in_whole_seconds() -> None:
    assert delay_in_headers({"retry-after": "2", "Retry-After-Ms": "1350"}, now=NOW) == 1.35


class Loud:
    """Headers that can't be listed."""

    def items(self) -> Any:
        raise SystemExit("no")


class Endless:
    """Headers without an end."""

    def items(self) -> Any:
        while True:
            yield ("a", "b")


@pytest.mark.parametrize(
    "headers", [None, 5, "Retry-After: 5", b"", [5], [("a",)], [("a", "b", "c")], Loud(), Endless()]
)
def test_what_is_no_headers_asks_for_nothing(headers: Any) -> None:
    assert delay_in_headers(headers, now=NOW) is None


@pytest.mark.parametrize(
    ("error", "kind", "delay_s"),
    [
        (httpx_status(429, {"Retry-After": "30"}), ErrorKind.RATE_LIMITED, 30),
        (requests_status(429, AnyCase({"Retry-After": "30"})), ErrorKind.RATE_LIMITED, 30),
        (aiohttp_status(429, {"RETRY-AFTER": "30"}), ErrorKind.RATE_LIMITED, 30),
        (httpx_status(429, {"Retry-After": "Sat, 01 Jun 2030 12:01:00 GMT"}), ErrorKind.RATE_LIMITED, 60),
        (httpx_status(429), ErrorKind.RATE_LIMITED, None),
        (httpx_status(503, {"Retry-After": "30"}), ErrorKind.SERVICE_UNAVAILABLE, 30),
        (httpx_status(403, {"Retry-After": "30"}), ErrorKind.RATE_LIMITED, 30),
        (httpx_status(404, {"Retry-After": "30"}), ErrorKind.NOT_FOUND, None),
        (botocore_error("SlowDown", 503, {"retry-after": "4"}), ErrorKind.RATE_LIMITED, 4),
        (botocore_error("Other", 503, {"retry-after": "4"}), ErrorKind.SERVICE_UNAVAILABLE, 4),
    ],
)
def test_an_error_bears_the_delay_that_its_answer_asks_for(
    error: Exception, kind: ErrorKind, delay_s: float | None
) -> None:
    described = failures.describe(error, now=NOW)

    assert described.kind is kind
    assert described.context == ({} if delay_s is None else {"retry_after_s": delay_s})
    assert failures.retry_after(described) == (None if delay_s is None else timedelta(seconds=delay_s))


@pytest.mark.parametrize("wait", [12, 12.0, timedelta(seconds=12)], ids=repr)
def test_an_error_that_says_how_long_to_wait_is_one_of_too_many_requests(wait: Any) -> None:
    error = a_class("telegram.error.RetryAfter")("flood")
    error.retry_after = wait

    found = classify(error, now=NOW)

    assert (found.kind, found.delay_s) == (ErrorKind.RATE_LIMITED, 12.0)


@pytest.mark.parametrize(
    ("stored", "delay"),
    [
        (0, timedelta(0)),
        (1.5, timedelta(seconds=1.5)),
        (-3, timedelta(0)),
        (10**400, LONGEST_DELAY),
        (float("inf"), LONGEST_DELAY),
        (float("nan"), None),
        (True, None),
        ("30", None),
        (None, None),
        ([30], None),
    ],
    ids=repr,
)
def test_a_stored_delay_is_read_with_care(stored: Any, delay: timedelta | None) -> None:
    error = StepError(kind=ErrorKind.RATE_LIMITED, message="", type="", context={"retry_after_s": stored})

    assert failures.retry_after(error) == delay


@given(
    st.one_of(st.text(), st.binary(), st.floats(), st.integers(), st.datetimes().map(str), st.none()),
    st.sampled_from(["Retry-After", "retry-after-ms"]),
)
def test_no_value_of_a_header_is_too_strange(value: Any, name: str) -> None:
    delay_s = delay_in_headers({name: value}, now=NOW)

    assert delay_s is None or 0 <= delay_s <= A_HUNDRED_YEARS_S


@given(st.one_of(st.floats(), st.integers(), st.timedeltas(), st.text()))
def test_a_delay_is_within_its_bounds(delay: Any) -> None:
    delay_s = bounded_s(delay)

    assert delay_s is None or 0 <= delay_s <= A_HUNDRED_YEARS_S
