"""Errors of gRPC calls, which bear a status code of their own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from kagzi.model.error import ErrorKind
from kagzi.rules.classification.delays import delay_in_headers
from kagzi.rules.classification.probes import Ancestry, guarded, read, text
from kagzi.rules.classification.verdicts import UNKNOWN, Verdict, verdict

# By what gRPC says of its codes ("Status codes and their use in gRPC"). CANCELLED and ALREADY_EXISTS are not here:
# neither says by itself whether another attempt can help.
_KINDS = {
    "ABORTED": ErrorKind.SERVICE_UNAVAILABLE,  # a conflict of transactions
    "DEADLINE_EXCEEDED": ErrorKind.TIMEOUT,
    "FAILED_PRECONDITION": ErrorKind.BUSINESS_LOGIC_ERROR,  # "until the system state has been explicitly fixed"
    "INTERNAL": ErrorKind.SERVICE_UNAVAILABLE,
    "INVALID_ARGUMENT": ErrorKind.VALIDATION_FAILED,
    "NOT_FOUND": ErrorKind.NOT_FOUND,
    "OUT_OF_RANGE": ErrorKind.VALIDATION_FAILED,
    "PERMISSION_DENIED": ErrorKind.PERMISSION_DENIED,
    "RESOURCE_EXHAUSTED": ErrorKind.RATE_LIMITED,
    "UNAUTHENTICATED": ErrorKind.PERMISSION_DENIED,
    "UNAVAILABLE": ErrorKind.SERVICE_UNAVAILABLE,
    "UNIMPLEMENTED": ErrorKind.VALIDATION_FAILED,
}


def by_grpc_status(error: BaseException, names: Ancestry, *, now: datetime) -> Verdict | None:
    """What the status of a failed gRPC call says; None for any other exception.

    Its facts are methods. They return at once, as the call is over by the time its error is raised.
    """
    if ("grpc", "RpcError") not in names:
        return None
    name = text(read(_answer(read(error, "code")), "name"))
    kind = None if name is None else _KINDS.get(name)
    if kind is None:
        return UNKNOWN
    return verdict(kind, delay_in_headers(_answer(read(error, "trailing_metadata")), now=now))


def _answer(method: Callable[[], Any] | None) -> Any:
    return None if method is None else guarded(method)
