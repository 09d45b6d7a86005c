"""Of what kind Python's own errors are, those of validation, Kagzi's, and groups of any."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import http.client
import smtplib
import socket
import ssl
import urllib.error
from pathlib import Path

import msgspec
import pydantic
import pytest

from kagzi import (
    ConfigError,
    ErrorKind,
    KagziError,
    NonRetryable,
    OutcomeUnknown,
    PayloadError,
    RetryAfter,
    RunNotFound,
    StepError,
    StepFailed,
    StoreUnavailable,
    WorkflowCancelled,
    WorkflowFailed,
)
from kagzi.rules.classification import Verdict, classify
from kagzi.rules.failures import describe
from tests.rules.kinds import (
    BUSINESS,
    BUSY,
    CANCELLED,
    DATABASE,
    DENIED,
    INVALID,
    LIMITED,
    NETWORK,
    NOT_FOUND,
    NOW,
    TIMEOUT,
    UNKNOWN,
    WRONG,
    looked_at,
    named,
    raised_by,
)
from tests.rules.libraries import (
    httpx_status,
)

# -- Python's own ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), NETWORK),
        (BrokenPipeError(), NETWORK),
        (socket.gaierror(socket.EAI_NONAME, "no such host"), NETWORK),
        (OSError(errno.EHOSTUNREACH, "no route"), NETWORK),
        (OSError(errno.ENETUNREACH, "no network"), NETWORK),
        (ssl.SSLError(1, "handshake"), NETWORK),
        (asyncio.IncompleteReadError(b"", 10), NETWORK),
        (http.client.RemoteDisconnected("gone"), NETWORK),
        (http.client.IncompleteRead(b""), NETWORK),
        (urllib.error.URLError("no host given"), NETWORK),
        (urllib.error.URLError(ConnectionResetError()), NETWORK),
        (urllib.error.URLError(TimeoutError()), TIMEOUT),
        (smtplib.SMTPServerDisconnected("gone"), NETWORK),
        (smtplib.SMTPAuthenticationError(535, b"no"), DENIED),
        (TimeoutError(), TIMEOUT),
        (concurrent.futures.TimeoutError(), TIMEOUT),
        (OSError(errno.ETIMEDOUT, "too long"), TIMEOUT),
        (asyncio.CancelledError(), CANCELLED),
        (concurrent.futures.CancelledError(), CANCELLED),
        (PermissionError(errno.EACCES, "no", "secret.txt"), DENIED),
        (FileNotFoundError(errno.ENOENT, "no", "missing.txt"), NOT_FOUND),
        (FileNotFoundError("missing.txt"), NOT_FOUND),
        (http.client.InvalidURL("a b"), WRONG),
    ],
    ids=named,
)
def test_what_python_raises_is_of_this_kind(error: BaseException, kind: ErrorKind) -> None:
    assert looked_at(error) == Verdict(kind, kind.retryable)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        TypeError("bad"),
        KeyError("gone"),
        IndexError(),
        AttributeError(),
        ZeroDivisionError(),
        AssertionError(),
        NotImplementedError(),
        ModuleNotFoundError("no module"),
        RecursionError(),
        MemoryError(),
        OSError("odd"),
        OSError(errno.ENOSPC, "disk full"),
        FileExistsError(),
        StopAsyncIteration(),
        SystemExit(404),
        GeneratorExit(),
        Exception(),
        BaseException(),
    ],
    ids=named,
)
def test_what_may_pass_with_other_data_or_code_is_unknown_and_tried_again(error: BaseException) -> None:
    assert looked_at(error) == Verdict(UNKNOWN, retryable=True)


def test_a_unix_socket_that_is_not_there_is_no_missing_file() -> None:
    with socket.socket(socket.AF_UNIX) as client:
        error = raised_by(lambda: client.connect("/nonexistent/server.sock"))

    assert type(error) is FileNotFoundError
    assert looked_at(error).kind is NETWORK


def test_a_file_that_is_not_there_is_not_found() -> None:
    assert looked_at(raised_by(Path("/nonexistent/file").read_text)).kind is NOT_FOUND


# -- validation --------------------------------------------------------------------------------------------------


class Order(pydantic.BaseModel):
    amount: int


def test_a_value_that_a_model_refuses_is_invalid() -> None:
    refused = [
        raised_by(lambda: Order.model_validate({"amount": "many"})),
        raised_by(lambda: msgspec.json.decode(b'{"amount": "many"}', type=dict[str, int])),
    ]

    assert [looked_at(error) for error in refused] == [Verdict(INVALID, retryable=False)] * 2


def test_text_that_is_no_json_may_be_some_next_time() -> None:
    assert looked_at(raised_by(lambda: msgspec.json.decode(b"<html>"))) == Verdict(UNKNOWN, retryable=True)


# -- Kagzi's own, and decisions by hand --------------------------------------------------------------------------

REFUSED = StepError(kind=BUSINESS, message="no", type="Refused")
BUSY_FOR_A_MINUTE = StepError(kind=LIMITED, message="no", type="Busy", retryable=True, context={"retry_after_s": 60.0})


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (KagziError("odd"), Verdict(WRONG, retryable=False)),
        (ConfigError("odd"), Verdict(WRONG, retryable=False)),
        (PayloadError("odd"), Verdict(INVALID, retryable=False)),
        (StoreUnavailable("gone"), Verdict(DATABASE, retryable=True)),
        (OutcomeUnknown("gone"), Verdict(DATABASE, retryable=True)),
        (RunNotFound("01a2"), Verdict(NOT_FOUND, retryable=False)),
        (WorkflowCancelled("01a2"), Verdict(CANCELLED, retryable=False)),
        (StepFailed("charge", REFUSED), Verdict(BUSINESS, retryable=False)),
        (StepFailed("charge", BUSY_FOR_A_MINUTE), Verdict(LIMITED, retryable=True, delay_s=60.0)),
        (WorkflowFailed("01a2", "pay", REFUSED), Verdict(BUSINESS, retryable=False)),
        (NonRetryable("no"), Verdict(BUSINESS, retryable=False)),
        (NonRetryable("no", kind=NETWORK), Verdict(NETWORK, retryable=False)),
        (RetryAfter(5), Verdict(LIMITED, retryable=True, delay_s=5.0)),
        (RetryAfter(0.25, kind=NOT_FOUND), Verdict(NOT_FOUND, retryable=True, delay_s=0.25)),
    ],
    ids=named,
)
def test_what_was_decided_stays_decided(error: Exception, verdict: Verdict) -> None:
    assert classify(error, now=NOW) == verdict
    assert classify(error, now=NOW, classifiers=[lambda error: None]) == verdict


@pytest.mark.parametrize("error", [NonRetryable("no"), RetryAfter(5), StepFailed("charge", REFUSED)], ids=named)
def test_no_classifier_is_asked_about_what_was_decided(error: Exception) -> None:
    asked: list[Exception] = []

    def ask(error: Exception) -> ErrorKind:
        asked.append(error)
        return TIMEOUT

    assert classify(error, now=NOW, classifiers=[ask]) == looked_at(error)
    assert asked == []


def test_the_delay_that_an_answer_asks_for_is_kept_for_a_kind_that_an_application_gives() -> None:
    error = httpx_status(409, {"Retry-After": "7"})

    assert classify(error, now=NOW, classifiers=[lambda error: BUSY]) == Verdict(BUSY, retryable=True, delay_s=7.0)
    assert classify(error, now=NOW, classifiers=[lambda error: BUSINESS]) == Verdict(BUSINESS, retryable=False)


# -- groups ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "verdict"),
    [
        ([TimeoutError(), TimeoutError()], Verdict(TIMEOUT, retryable=True)),
        ([TimeoutError(), ConnectionError()], Verdict(UNKNOWN, retryable=True)),
        ([TimeoutError(), httpx_status(404)], Verdict(UNKNOWN, retryable=False)),
        ([httpx_status(404), httpx_status(410)], Verdict(NOT_FOUND, retryable=False)),
        ([httpx_status(404), httpx_status(400)], Verdict(UNKNOWN, retryable=False)),
        ([NonRetryable("no", kind=TIMEOUT), TimeoutError()], Verdict(TIMEOUT, retryable=False)),
        ([RetryAfter(5), RetryAfter(90), RetryAfter(7)], Verdict(LIMITED, retryable=True, delay_s=90.0)),
        ([RetryAfter(5), NonRetryable("no")], Verdict(UNKNOWN, retryable=False)),
        ([StepFailed("a", BUSY_FOR_A_MINUTE), RetryAfter(5)], Verdict(LIMITED, retryable=True, delay_s=60.0)),
        (
            [ExceptionGroup("in", [TimeoutError(), ExceptionGroup("deep", [TimeoutError()])]), TimeoutError()],
            Verdict(TIMEOUT, retryable=True),
        ),
        ([ExceptionGroup("in", [TimeoutError(), httpx_status(404)])], Verdict(UNKNOWN, retryable=False)),
    ],
)
def test_a_group_is_of_the_kind_that_its_members_share(members: list[Exception], verdict: Verdict) -> None:
    assert looked_at(ExceptionGroup("several", members)) == verdict


def test_a_cancellation_in_a_group_is_not_tried_again() -> None:
    group = BaseExceptionGroup("several", [asyncio.CancelledError(), TimeoutError()])

    assert looked_at(group) == Verdict(UNKNOWN, retryable=False)


def test_a_classifier_can_speak_for_a_group_and_for_each_member() -> None:
    group = ExceptionGroup("several", [ValueError(), ValueError()])

    def of_values(error: Exception) -> ErrorKind | None:
        return INVALID if isinstance(error, ValueError) else None

    def of_groups(error: Exception) -> ErrorKind | None:
        return BUSINESS if isinstance(error, ExceptionGroup) else None

    assert classify(group, now=NOW, classifiers=[of_values]) == Verdict(INVALID, retryable=False)
    assert classify(group, now=NOW, classifiers=[of_groups, of_values]) == Verdict(BUSINESS, retryable=False)


def test_a_member_of_groups_within_groups_is_asked_about_once() -> None:
    asked: list[Exception] = []
    group: Exception = ExceptionGroup("leaves", [ValueError(number) for number in range(100)])
    for _ in range(30):
        group = ExceptionGroup("level", [group])

    describe(group, now=NOW, classifiers=[asked.append])

    assert len([error for error in asked if type(error) is ValueError]) == 100
