"""Errors of libraries that the tests do without: classes with their names, modules, ancestors and attributes.

Each was held against the real library once: httpx 0.28, requests 2.34, urllib3 2.8, aiohttp 3.14, SQLAlchemy 2.1,
redis 8.1, botocore 1.44, grpcio 1.85. What a class says of itself here (`httpx.ConnectError`) it says there.
"""

from __future__ import annotations

from enum import Enum
from typing import Any


def a_class(path: str, *bases: type) -> type[Any]:
    """An exception class as it is called in its library: `a_class("httpx.ReadTimeout", httpx_timeout)`."""
    module, _, name = path.rpartition(".")
    return type(name, bases or (Exception,), {"__module__": module})


def a_chain(*paths: str, root: type = Exception) -> type[Any]:
    """A class by the paths of its ancestors, farthest first."""
    kind = root
    for path in paths:
        kind = a_class(path, kind)
    return kind


class Response:
    """What HTTP clients give: a status and headers. Reading its body would be a call to the network."""

    def __init__(self, status: int, headers: Any = None) -> None:
        self.status_code = status  # httpx.Response.status_code, requests.Response.status_code
        self.headers = {} if headers is None else headers
        self.body_reads = 0

    def __bool__(self) -> bool:
        return self.status_code < 400  # requests.Response.__bool__ is its `ok`

    @property
    def text(self) -> str:
        """Reads the body."""
        self.body_reads += 1
        raise AssertionError("the body was read")

    content = body = data = read = json = text


def httpx_status(status: int, headers: Any = None) -> Exception:
    """`response.raise_for_status()` of httpx: the error has `request` and `response`."""
    error = a_chain("httpx.HTTPError", "httpx.HTTPStatusError")(f"status {status}")
    error.response = Response(status, headers)
    return error  # type: ignore[no-any-return] # made by name


def requests_status(status: int, headers: Any = None) -> Exception:
    """`response.raise_for_status()` of requests: the error has `request` and `response`."""
    error = a_chain("requests.exceptions.RequestException", "requests.exceptions.HTTPError", root=OSError)("bad")
    error.response = Response(status, headers)
    return error  # type: ignore[no-any-return] # as above


def aiohttp_status(status: int, headers: Any = None) -> Exception:
    """`aiohttp.ClientResponseError`: the error itself has `status` and `headers`, and no response."""
    path = "aiohttp.client_exceptions."
    error = a_chain(path + "ClientError", path + "ClientResponseError")("bad")
    error.status, error.headers = status, headers
    return error  # type: ignore[no-any-return] # as above


def botocore_error(code: str, status: int, headers: Any = None) -> Exception:
    """`botocore.exceptions.ClientError`: the error has `response`, a dict."""
    error = a_class("botocore.exceptions.ClientError")(f"An error occurred ({code})")
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers or {}, "RetryAttempts": 4, "RequestId": "a-1"}
    error.response = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": metadata}
    error.operation_name = "PutItem"
    return error  # type: ignore[no-any-return] # as above


class StatusCode(Enum):
    """`grpc.StatusCode`: its values are pairs of a number and a text."""

    CANCELLED = (1, "cancelled")
    UNKNOWN = (2, "unknown")
    INVALID_ARGUMENT = (3, "invalid argument")
    DEADLINE_EXCEEDED = (4, "deadline exceeded")
    NOT_FOUND = (5, "not found")
    PERMISSION_DENIED = (7, "permission denied")
    UNAUTHENTICATED = (16, "unauthenticated")
    RESOURCE_EXHAUSTED = (8, "resource exhausted")
    ABORTED = (10, "aborted")
    UNAVAILABLE = (14, "unavailable")


class _Metadata:
    """`grpc.aio.Metadata`: `items()` gives pairs."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self._pairs = pairs

    def items(self) -> Any:
        return iter(self._pairs)


def grpc_error(code: StatusCode, *trailers: tuple[str, str]) -> Exception:
    """`grpc.aio.AioRpcError`: `code()` and `trailing_metadata()` are methods."""
    error = a_class("grpc.aio._call.AioRpcError", a_class("grpc.RpcError"))("bad")
    error.code = lambda: code
    error.trailing_metadata = lambda: _Metadata(*trailers)
    return error  # type: ignore[no-any-return] # as above


def sqlalchemy_error(name: str, orig: BaseException, *, invalidated: bool = False) -> Exception:
    """An `sqlalchemy.exc.DBAPIError`: `orig` is the driver's error, `code` a text that names a page of the manual."""
    parents = ("sqlalchemy.exc.SQLAlchemyError", "sqlalchemy.exc.StatementError", "sqlalchemy.exc.DBAPIError")
    error = a_chain(*parents, f"sqlalchemy.exc.{name}")(str(orig))
    error.orig, error.connection_invalidated, error.code, error.statement = orig, invalidated, "e3q8", "SELECT 1"
    return error  # type: ignore[no-any-return] # as above
