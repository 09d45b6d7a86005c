"""Of what kind the errors of Python and of well-known libraries are."""

from __future__ import annotations

import asyncio
import concurrent.futures
import email.message
import errno
import http.client
import smtplib
import socket
import sqlite3
import ssl
import urllib.error
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import msgspec
import psycopg
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
from tests.rules.libraries import (
    Response,
    StatusCode,
    a_chain,
    a_class,
    aiohttp_status,
    botocore_error,
    grpc_error,
    httpx_status,
    requests_status,
    sqlalchemy_error,
)

NOW = datetime(2030, 6, 1, 12, 0, tzinfo=UTC)

UNKNOWN = ErrorKind.UNKNOWN
NETWORK = ErrorKind.NETWORK_ERROR
BUSY = ErrorKind.SERVICE_UNAVAILABLE
LIMITED = ErrorKind.RATE_LIMITED
TIMEOUT = ErrorKind.TIMEOUT
DATABASE = ErrorKind.DATABASE_CONNECTION_FAILED
INVALID = ErrorKind.VALIDATION_FAILED
WRONG = ErrorKind.INVALID_INPUT
DENIED = ErrorKind.PERMISSION_DENIED
NOT_FOUND = ErrorKind.NOT_FOUND
BUSINESS = ErrorKind.BUSINESS_LOGIC_ERROR
CANCELLED = ErrorKind.CANCELLED


def looked_at(error: BaseException) -> Verdict:
    return classify(error, now=NOW)


def named(error: Any) -> str:
    return f"{type(error).__module__}.{type(error).__name__}" if isinstance(error, BaseException) else str(error)


def raised_by(do: Callable[[], Any]) -> BaseException:
    """What a function raises, by those who know best what that is."""
    try:
        do()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


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


# -- HTTP --------------------------------------------------------------------------------------------------------

STATUSES = {
    400: INVALID,
    401: DENIED,
    402: BUSINESS,
    403: DENIED,
    404: NOT_FOUND,
    405: INVALID,
    407: DENIED,
    408: TIMEOUT,
    409: UNKNOWN,
    410: NOT_FOUND,
    412: UNKNOWN,
    413: INVALID,
    418: UNKNOWN,
    422: INVALID,
    425: BUSY,
    429: LIMITED,
    500: BUSY,
    502: BUSY,
    503: BUSY,
    504: BUSY,
    599: BUSY,
}


def urllib_status(status: int) -> Exception:
    return urllib.error.HTTPError("http://a", status, "bad", email.message.Message(), None)


def urllib_status_without_anything(status: int) -> Exception:
    return urllib.error.HTTPError("http://a", status, "bad", None, None)  # type: ignore[arg-type] # as some mocks do


def google_status(status: int) -> Exception:
    error = a_class("google.api_core.exceptions.GoogleAPICallError")("bad")
    error.code = http.HTTPStatus(status) if status in {each.value for each in http.HTTPStatus} else status
    return error  # type: ignore[no-any-return] # made by name


def stripe_status(status: int) -> Exception:
    error = a_class("stripe._error.StripeError")("bad")
    error.http_status, error.code = status, "card_declined"
    return error  # type: ignore[no-any-return] # made by name


def openai_status(status: int) -> Exception:
    error = a_class("openai.APIStatusError")("bad")
    error.status_code, error.response, error.code = status, Response(status), None
    return error  # type: ignore[no-any-return] # made by name


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    "library",
    [
        httpx_status,
        requests_status,
        aiohttp_status,
        urllib_status,
        urllib_status_without_anything,
        google_status,
        stripe_status,
        openai_status,
    ],
)
def test_a_status_says_the_same_in_every_library(library: Callable[[int], Exception], status: int) -> None:
    kind = STATUSES[status]

    assert looked_at(library(status)) == Verdict(kind, kind.retryable)


def test_a_body_is_never_read() -> None:
    error: Any = httpx_status(503, {"Retry-After": "3"})

    assert looked_at(error) == Verdict(BUSY, True, 3.0)
    assert error.response.body_reads == 0


@pytest.mark.parametrize("status", [200, 302, 0, -1, 99, 600, 10**30, True, "404", 404.0, None])
def test_what_is_no_status_of_an_error_says_nothing(status: Any) -> None:
    error: Any = Exception("bad")
    error.status_code = status

    assert looked_at(error).kind is UNKNOWN


HTTPX_TRANSPORT = ("httpx.HTTPError", "httpx.RequestError", "httpx.TransportError")
REQUESTS = "requests.exceptions."
URLLIB3 = "urllib3.exceptions."
AIOHTTP = "aiohttp.client_exceptions."


@pytest.mark.parametrize(
    ("kind_of_error", "kind"),
    [
        (a_chain(*HTTPX_TRANSPORT, "httpx.NetworkError", "httpx.ConnectError"), NETWORK),
        (a_chain(*HTTPX_TRANSPORT, "httpx.NetworkError", "httpx.ReadError"), NETWORK),
        (a_chain(*HTTPX_TRANSPORT, "httpx.ProtocolError", "httpx.RemoteProtocolError"), NETWORK),
        (a_chain(*HTTPX_TRANSPORT, "httpx.ProxyError"), NETWORK),
        (a_chain(*HTTPX_TRANSPORT, "httpx.TimeoutException", "httpx.ConnectTimeout"), TIMEOUT),
        (a_chain(*HTTPX_TRANSPORT, "httpx.TimeoutException", "httpx.PoolTimeout"), TIMEOUT),
        (a_chain(*HTTPX_TRANSPORT, "httpx.UnsupportedProtocol"), WRONG),
        (a_chain("httpx.InvalidURL"), WRONG),
        (a_chain("httpx.HTTPError", "httpx.RequestError", "httpx.TooManyRedirects"), UNKNOWN),
        (a_chain(REQUESTS + "RequestException", REQUESTS + "ConnectionError", root=OSError), NETWORK),
        (a_chain(REQUESTS + "RequestException", REQUESTS + "ConnectionError", REQUESTS + "SSLError"), NETWORK),
        (a_chain(REQUESTS + "RequestException", REQUESTS + "Timeout", REQUESTS + "ReadTimeout"), TIMEOUT),
        (a_chain(REQUESTS + "RequestException", REQUESTS + "ConnectionError", REQUESTS + "ConnectTimeout"), TIMEOUT),
        (a_chain(REQUESTS + "RequestException", REQUESTS + "RetryError"), BUSY),
        (a_chain(REQUESTS + "RequestException", REQUESTS + "MissingSchema"), WRONG),
        (a_chain(REQUESTS + "RequestException", root=OSError), UNKNOWN),
        (a_chain(URLLIB3 + "HTTPError", URLLIB3 + "TimeoutError", URLLIB3 + "NewConnectionError"), NETWORK),
        (a_chain(URLLIB3 + "HTTPError", URLLIB3 + "TimeoutError", URLLIB3 + "ReadTimeoutError"), TIMEOUT),
        (a_chain(URLLIB3 + "HTTPError", URLLIB3 + "ProtocolError"), NETWORK),
        (a_chain(AIOHTTP + "ClientError", AIOHTTP + "ClientConnectionError", AIOHTTP + "ClientOSError"), NETWORK),
        (a_chain(AIOHTTP + "ClientError", AIOHTTP + "ClientPayloadError"), NETWORK),
        (a_chain(AIOHTTP + "ClientConnectionError", AIOHTTP + "ServerTimeoutError", root=TimeoutError), TIMEOUT),
        (a_chain(AIOHTTP + "ClientConnectionError", AIOHTTP + "ServerDisconnectedError"), NETWORK),
        (a_chain(AIOHTTP + "ClientError", AIOHTTP + "InvalidURL", root=ValueError), WRONG),
        (a_chain("botocore.exceptions.BotoCoreError", "botocore.exceptions.ConnectionError"), NETWORK),
        (a_chain("botocore.exceptions.ConnectionError", "botocore.exceptions.EndpointConnectionError"), NETWORK),
        (a_chain("botocore.exceptions.ConnectionError", "botocore.exceptions.ConnectTimeoutError"), TIMEOUT),
        (a_chain("botocore.exceptions.HTTPClientError", "botocore.exceptions.ReadTimeoutError"), TIMEOUT),
        (a_chain("botocore.exceptions.BotoCoreError", "botocore.exceptions.NoCredentialsError"), DENIED),
        (a_chain("botocore.exceptions.BotoCoreError", "botocore.exceptions.ParamValidationError"), INVALID),
        (a_chain("redis.exceptions.RedisError", "redis.exceptions.ConnectionError"), DATABASE),
        (a_chain("valkey.exceptions.ValkeyError", "valkey.exceptions.ConnectionError"), DATABASE),
        (a_chain("redis.exceptions.RedisError", "redis.exceptions.TimeoutError"), TIMEOUT),
        (a_chain("redis.exceptions.ConnectionError", "redis.exceptions.BusyLoadingError"), BUSY),
        (a_chain("redis.exceptions.ConnectionError", "redis.exceptions.AuthenticationError"), DENIED),
        (a_chain("redis.exceptions.ResponseError", "redis.exceptions.NoPermissionError"), DENIED),
        (a_chain("redis.exceptions.ResponseError", "redis.exceptions.ReadOnlyError"), BUSY),
        (a_chain("redis.exceptions.RedisError", "redis.exceptions.ResponseError"), UNKNOWN),
        (a_chain("sqlalchemy.exc.SQLAlchemyError", "sqlalchemy.exc.TimeoutError"), TIMEOUT),
        (a_chain("sqlalchemy.exc.SQLAlchemyError", "sqlalchemy.exc.NoResultFound"), NOT_FOUND),
        (a_chain("sqlalchemy.exc.SQLAlchemyError", "sqlalchemy.orm.exc.StaleDataError"), UNKNOWN),
        (a_chain("django.core.exceptions.ObjectDoesNotExist", "shop.models.DoesNotExist"), NOT_FOUND),
        (a_chain("httpx.ConnectError", "shop.clients.ShopUnreachable", root=a_class("httpx.NetworkError")), NETWORK),
        (a_class("shop.ConnectError"), UNKNOWN),
        (a_class("httpx_sse.ReadTimeout"), UNKNOWN),
    ],
    ids=str,
)
def test_an_error_is_known_by_the_names_it_derives_from(kind_of_error: type[Any], kind: ErrorKind) -> None:
    assert looked_at(kind_of_error("bad")) == Verdict(kind, kind.retryable)


def test_what_urllib3_gave_up_on_is_what_its_reason_was() -> None:
    error = a_chain(URLLIB3 + "HTTPError", URLLIB3 + "MaxRetryError")("gave up")
    error.reason = a_chain(URLLIB3 + "HTTPError", URLLIB3 + "TimeoutError", URLLIB3 + "ReadTimeoutError")("slow")

    assert looked_at(error).kind is TIMEOUT


# -- AWS and gRPC ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", 400, LIMITED),
        ("Throttling", 400, LIMITED),
        ("SlowDown", 503, LIMITED),
        ("ProvisionedThroughputExceededException", 400, LIMITED),
        ("Client.RequestLimitExceeded", 503, LIMITED),
        ("RequestTimeout", 400, TIMEOUT),
        ("AccessDenied", 403, DENIED),
        ("AccessDeniedException", 400, DENIED),
        ("ExpiredTokenException", 400, DENIED),
        ("ResourceNotFoundException", 400, NOT_FOUND),
        ("NoSuchKey", 404, NOT_FOUND),
        ("InvalidInstanceID.NotFound", 400, NOT_FOUND),
        ("AWS.SimpleQueueService.NonExistentQueue", 400, NOT_FOUND),
        ("com.amazonaws.sqs#QueueDoesNotExist", 400, NOT_FOUND),
        ("InternalServerError", 500, BUSY),
        ("SomethingElse", 503, BUSY),
        ("ConditionalCheckFailedException", 400, INVALID),
        ("ValidationException", 400, INVALID),
        ("404", 404, NOT_FOUND),
        ("PreconditionFailed", 412, UNKNOWN),
        ("SomethingElse", 200, UNKNOWN),
    ],
)
def test_an_error_of_aws_is_what_its_code_says_and_then_its_status(code: str, status: int, kind: ErrorKind) -> None:
    assert looked_at(botocore_error(code, status)) == Verdict(kind, kind.retryable)


def test_a_throttled_call_of_aws_is_known_without_botocore() -> None:
    headers = {"x-amzn-ErrorType": "ThrottlingException:http://internal.amazon.com/coral/"}

    assert looked_at(httpx_status(400, headers)).kind is LIMITED
    assert looked_at(httpx_status(400, {"x-amzn-ErrorType": "ValidationException"})).kind is INVALID


@pytest.mark.parametrize(
    "response", [{}, {"Error": {}}, {"Error": "no"}, {"ResponseMetadata": []}, {"Error": {"Code": 5}}]
)
def test_a_response_of_aws_that_says_nothing_is_unknown(response: Any) -> None:
    error = a_class("botocore.exceptions.ClientError")("bad")
    error.response = response

    assert looked_at(error) == Verdict(UNKNOWN, retryable=True)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (StatusCode.UNAVAILABLE, BUSY),
        (StatusCode.ABORTED, BUSY),
        (StatusCode.RESOURCE_EXHAUSTED, LIMITED),
        (StatusCode.DEADLINE_EXCEEDED, TIMEOUT),
        (StatusCode.NOT_FOUND, NOT_FOUND),
        (StatusCode.PERMISSION_DENIED, DENIED),
        (StatusCode.UNAUTHENTICATED, DENIED),
        (StatusCode.INVALID_ARGUMENT, INVALID),
        (StatusCode.CANCELLED, UNKNOWN),
        (StatusCode.UNKNOWN, UNKNOWN),
    ],
)
def test_an_error_of_grpc_is_what_its_status_says(code: StatusCode, kind: ErrorKind) -> None:
    assert looked_at(grpc_error(code)) == Verdict(kind, kind.retryable)


def test_a_server_of_grpc_can_ask_to_wait() -> None:
    assert looked_at(grpc_error(StatusCode.UNAVAILABLE, ("grpc-retry-pushback-ms", "1500"))).delay_s == 1.5


# -- databases ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (asyncpg.exceptions.SerializationError("no"), BUSY),
        (asyncpg.exceptions.DeadlockDetectedError("no"), BUSY),
        (asyncpg.exceptions.LockNotAvailableError("no"), BUSY),
        (asyncpg.exceptions.DiskFullError("no"), BUSY),
        (asyncpg.exceptions.ConnectionDoesNotExistError("no"), DATABASE),
        (asyncpg.exceptions.CannotConnectNowError("no"), DATABASE),
        (asyncpg.exceptions.AdminShutdownError("no"), DATABASE),
        (asyncpg.exceptions.TooManyConnectionsError("no"), DATABASE),
        (asyncpg.exceptions.QueryCanceledError("no"), TIMEOUT),
        (asyncpg.exceptions.InvalidPasswordError("no"), DENIED),
        (asyncpg.exceptions.InsufficientPrivilegeError("no"), DENIED),
        (asyncpg.exceptions.UniqueViolationError("no"), INVALID),
        (asyncpg.exceptions.NumericValueOutOfRangeError("no"), INVALID),
        (asyncpg.exceptions.UndefinedTableError("no"), UNKNOWN),
        (asyncpg.exceptions.DataError("invalid input for query argument $1"), INVALID),
        (asyncpg.InterfaceError("connection is closed"), DATABASE),
        (asyncpg.InterfaceError("pool is closing"), DATABASE),
        (asyncpg.InterfaceError("another operation is in progress"), UNKNOWN),
        (psycopg.errors.SerializationFailure("no"), BUSY),
        (psycopg.errors.DeadlockDetected("no"), BUSY),
        (psycopg.errors.UniqueViolation("no"), INVALID),
        (psycopg.errors.UndefinedColumn("no"), UNKNOWN),
        (psycopg.errors.ConnectionTimeout("no"), TIMEOUT),
        (psycopg.errors.QueryCanceled("no"), TIMEOUT),
        (psycopg.OperationalError("the connection is closed"), DATABASE),
        (psycopg.ProgrammingError("no"), UNKNOWN),
        (apsw.BusyError("no"), BUSY),
        (apsw.CantOpenError("no"), DATABASE),
        (apsw.ConstraintError("no"), INVALID),
        (apsw.SQLError("no"), UNKNOWN),
    ],
    ids=named,
)
def test_an_error_of_a_database_is_what_the_database_has_answered(error: Exception, kind: ErrorKind) -> None:
    assert looked_at(error) == Verdict(kind, kind.retryable)


def test_a_database_that_nobody_serves_can_not_be_reached() -> None:
    error = raised_by(lambda: psycopg.connect("host=127.0.0.1 port=1 dbname=x"))

    assert looked_at(error).kind is DATABASE


def broken_sqlite() -> dict[str, BaseException]:
    """What the SQLite of Python raises."""
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES (1)")
        found = {
            "constraint": raised_by(lambda: connection.execute("INSERT INTO t VALUES (1)")),
            "syntax": raised_by(lambda: connection.execute("SELEC")),
            "file": raised_by(lambda: sqlite3.connect("/nonexistent/x.db")),
        }
    connection.close()
    return found


def test_an_error_of_sqlite_is_what_its_code_says() -> None:
    errors = broken_sqlite()

    assert looked_at(errors["constraint"]).kind is INVALID
    assert looked_at(errors["syntax"]).kind is UNKNOWN
    assert looked_at(errors["file"]).kind is DATABASE


def test_a_busy_sqlite_file_is_worth_another_attempt(tmp_path: Any) -> None:
    first, second = (sqlite3.connect(tmp_path / "a.db", timeout=0, isolation_level=None) for _ in range(2))
    first.execute("BEGIN EXCLUSIVE")

    error = raised_by(lambda: second.execute("BEGIN EXCLUSIVE"))
    first.close()
    second.close()

    assert looked_at(error) == Verdict(BUSY, retryable=True)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlalchemy_error("OperationalError", psycopg.OperationalError("refused")), DATABASE),
        (sqlalchemy_error("OperationalError", psycopg.errors.DeadlockDetected("no")), BUSY),
        (sqlalchemy_error("IntegrityError", psycopg.errors.UniqueViolation("no")), INVALID),
        (sqlalchemy_error("ProgrammingError", psycopg.errors.UndefinedTable("no")), UNKNOWN),
        (sqlalchemy_error("InterfaceError", asyncpg.InterfaceError("odd"), invalidated=True), DATABASE),
        (sqlalchemy_error("IntegrityError", Exception("a driver that we don't know")), INVALID),
        (sqlalchemy_error("OperationalError", Exception("a driver that we don't know")), UNKNOWN),
        (sqlalchemy_error("OperationalError", TimeoutError()), TIMEOUT),
    ],
    ids=str,
)
def test_an_error_of_sqlalchemy_is_what_its_drivers_error_is(error: Exception, kind: ErrorKind) -> None:
    assert looked_at(error) == Verdict(kind, kind.retryable)


def test_an_error_of_djangos_database_is_what_it_was_raised_from() -> None:
    error = a_class("django.db.utils.OperationalError")("no")
    error.__cause__ = psycopg.errors.SerializationFailure("no")

    assert looked_at(error).kind is BUSY


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
