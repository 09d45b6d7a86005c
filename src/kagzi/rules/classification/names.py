"""Exceptions that are known by name: of a class, or of one that it derives from, and the package this comes from."""

from __future__ import annotations

import errno
from collections.abc import Callable

from kagzi.model.error import ErrorKind
from kagzi.rules.classification.probes import Ancestry, args_of, read, text, whole_number
from kagzi.rules.classification.verdicts import Verdict, verdict

_NETWORK = ErrorKind.NETWORK_ERROR
_BUSY = ErrorKind.SERVICE_UNAVAILABLE
_TIMEOUT = ErrorKind.TIMEOUT
_DATABASE = ErrorKind.DATABASE_CONNECTION_FAILED
_INVALID = ErrorKind.VALIDATION_FAILED
_WRONG = ErrorKind.INVALID_INPUT
_DENIED = ErrorKind.PERMISSION_DENIED
_NOT_FOUND = ErrorKind.NOT_FOUND
_CANCELLED = ErrorKind.CANCELLED

# By package, then by kind. The nearest ancestor that is named decides, so a class and its parent may both be here.
_NAMES: dict[str, dict[ErrorKind, str]] = {
    # -- Python ------------------------------------------------------------------------------------------------
    # ValueError, TypeError, KeyError and the like are not here: UNKNOWN, as tomorrow's data or code may cure them.
    "builtins": {
        _NETWORK: "ConnectionError",
        _TIMEOUT: "TimeoutError",
        _DENIED: "PermissionError",
    },
    "asyncio": {_CANCELLED: "CancelledError", _NETWORK: "IncompleteReadError"},
    "concurrent": {_CANCELLED: "CancelledError"},
    "socket": {_NETWORK: "gaierror herror"},
    "ssl": {_NETWORK: "SSLError"},
    "http": {_NETWORK: "IncompleteRead BadStatusLine", _WRONG: "InvalidURL"},
    "urllib": {_NETWORK: "URLError ContentTooShortError"},
    "smtplib": {
        _NETWORK: "SMTPServerDisconnected SMTPConnectError SMTPHeloError",
        _DENIED: "SMTPAuthenticationError",
    },
    # -- HTTP clients ------------------------------------------------------------------------------------------
    "httpx": {
        _NETWORK: "NetworkError ProxyError RemoteProtocolError",
        _TIMEOUT: "TimeoutException",
        _WRONG: "InvalidURL UnsupportedProtocol",
    },
    "httpcore": {
        _NETWORK: "NetworkError ProxyError RemoteProtocolError ConnectionNotAvailable",
        _TIMEOUT: "TimeoutException",
        _WRONG: "UnsupportedProtocol",
    },
    "requests": {
        _NETWORK: "ConnectionError ChunkedEncodingError",
        _TIMEOUT: "Timeout ConnectTimeout",
        _BUSY: "RetryError",
        _WRONG: "InvalidURL MissingSchema InvalidSchema InvalidHeader URLRequired",
    },
    "urllib3": {
        _NETWORK: "NewConnectionError ProtocolError ProxyError SSLError IncompleteRead ClosedPoolError",
        _TIMEOUT: "TimeoutError EmptyPoolError",
        _BUSY: "ResponseError",
        _WRONG: "LocationValueError",
    },
    "aiohttp": {
        _NETWORK: "ClientConnectionError ClientPayloadError",
        _TIMEOUT: "ServerTimeoutError",
        _WRONG: "InvalidURL NonHttpUrlClientError",
    },
    "websockets": {_NETWORK: "ConnectionClosed"},
    "botocore": {
        _NETWORK: "ConnectionError HTTPClientError ConnectionClosedError EndpointConnectionError",
        _TIMEOUT: "ConnectTimeoutError ReadTimeoutError",
        _DENIED: "NoCredentialsError PartialCredentialsError NoAuthTokenError UnauthorizedSSOTokenError",
        _INVALID: "ParamValidationError ValidationError MissingParametersError",
    },
    # -- databases ---------------------------------------------------------------------------------------------
    # Only what bears no code of the server's; that is looked at before (databases.py).
    "asyncpg": {
        _DATABASE: "PostgresConnectionError TargetServerAttributeNotMatched",
        _INVALID: "DataError",
        _WRONG: "ClientConfigurationError",
    },
    "psycopg": {_DATABASE: "OperationalError", _TIMEOUT: "ConnectionTimeout", _INVALID: "DataError IntegrityError"},
    "psycopg_pool": {_DATABASE: "PoolClosed", _TIMEOUT: "PoolTimeout", _BUSY: "TooManyRequests"},
    "psycopg2": {_DATABASE: "OperationalError InterfaceError", _INVALID: "DataError IntegrityError"},
    "apsw": {
        _BUSY: "BusyError LockedError",
        _DATABASE: "CantOpenError",
        _DENIED: "ReadOnlyError PermissionsError AuthError",
        _INVALID: "ConstraintError MismatchError TooBigError",
    },
    "sqlalchemy": {
        _DATABASE: "DisconnectionError",
        _TIMEOUT: "TimeoutError",
        _NOT_FOUND: "NoResultFound",
        _INVALID: "DataError IntegrityError",
    },
    "redis": {
        _DATABASE: "ConnectionError",
        _TIMEOUT: "TimeoutError",
        _BUSY: "BusyLoadingError ReadOnlyError ClusterDownError MasterDownError TryAgainError OutOfMemoryError "
        "WatchError",
        _DENIED: "AuthenticationError AuthorizationError NoPermissionError",
        _INVALID: "DataError",
    },
    # -- validation --------------------------------------------------------------------------------------------
    "pydantic": {_INVALID: "ValidationError"},
    "pydantic_core": {_INVALID: "ValidationError"},
    "msgspec": {_INVALID: "ValidationError"},
    "marshmallow": {_INVALID: "ValidationError"},
    "jsonschema": {_INVALID: "ValidationError"},
    "cattrs": {_INVALID: "BaseValidationError"},
    "django": {
        _INVALID: "ValidationError",
        _DENIED: "PermissionDenied",
        _NOT_FOUND: "ObjectDoesNotExist Http404",
    },
}
_NAMES["valkey"] = _NAMES["redis"]  # the same client under another name

_KINDS = {
    (package, name): kind
    for package, kinds in _NAMES.items()
    for kind, names in kinds.items()
    for name in names.split()
}

_UNREACHABLE = frozenset(
    {
        errno.EADDRNOTAVAIL,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENOTCONN,
    }
)


def by_name(error: BaseException, names: Ancestry) -> Verdict | None:
    """What the names of an exception's class and of its ancestors say; None where none is known."""
    for name in names:
        kind = _KINDS.get(name)
        if kind is not None:
            return verdict(kind)
        if (look_closer := _CLOSER.get(name)) is not None:
            return look_closer(error)
    return None


def _of_missing_file(error: BaseException) -> Verdict | None:
    # The system's own error that names no file is a Unix socket to which nobody listens.
    nameless = read(error, "errno") == errno.ENOENT and read(error, "filename") is None
    return verdict(_NETWORK if nameless else _NOT_FOUND)


def _of_system_error(error: BaseException) -> Verdict | None:
    return verdict(_NETWORK) if whole_number(read(error, "errno")) in _UNREACHABLE else None


def _of_asyncpg_interface(error: BaseException) -> Verdict | None:
    # One class for a closed connection and for calls that make no sense.
    message = next(map(text, args_of(error)), None)
    closed = message is not None and message.endswith(("is closed", "is closing"))
    return verdict(_DATABASE) if closed else None


_CLOSER: dict[tuple[str, str], Callable[[BaseException], Verdict | None]] = {
    ("builtins", "FileNotFoundError"): _of_missing_file,
    ("builtins", "OSError"): _of_system_error,
    ("asyncpg", "InterfaceError"): _of_asyncpg_interface,
}
