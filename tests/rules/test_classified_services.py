"""Of what kind the errors of HTTP clients, of redis, AWS and gRPC are."""

from __future__ import annotations

import email.message
import http.client
import urllib.error
from collections.abc import Callable
from typing import Any

import pytest

from kagzi import (
    ErrorKind,
)
from kagzi.rules.classification import Verdict
from tests.rules.kinds import (
    BUSINESS,
    BUSY,
    DATABASE,
    DENIED,
    INVALID,
    LIMITED,
    NETWORK,
    NOT_FOUND,
    TIMEOUT,
    UNKNOWN,
    WRONG,
    looked_at,
)
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
)

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


def test_a_response_that_is_a_dict_does_not_hide_a_status() -> None:
    error = a_class("shop.client.ApiError")("bad")
    error.response, error.status_code = {"message": "no"}, 503

    assert looked_at(error).kind is BUSY


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
