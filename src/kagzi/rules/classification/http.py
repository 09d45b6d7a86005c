"""Exceptions that bear an HTTP status, whichever library they come from.

Only the status and the headers are read: asking for a body (`response.text`) can mean waiting for the network.
"""

from __future__ import annotations

from datetime import datetime

from kagzi.model.error import ErrorKind
from kagzi.rules.classification.aws import kind_of_code
from kagzi.rules.classification.delays import delay_in_headers, values
from kagzi.rules.classification.probes import entry, is_a, read, text, whole_number
from kagzi.rules.classification.verdicts import Verdict, verdict

_KINDS = {
    400: ErrorKind.VALIDATION_FAILED,
    401: ErrorKind.PERMISSION_DENIED,
    402: ErrorKind.BUSINESS_LOGIC_ERROR,  # payment required: a card that was refused
    403: ErrorKind.PERMISSION_DENIED,
    404: ErrorKind.NOT_FOUND,
    405: ErrorKind.VALIDATION_FAILED,
    406: ErrorKind.VALIDATION_FAILED,
    407: ErrorKind.PERMISSION_DENIED,  # of a proxy
    408: ErrorKind.TIMEOUT,
    410: ErrorKind.NOT_FOUND,
    411: ErrorKind.VALIDATION_FAILED,
    413: ErrorKind.VALIDATION_FAILED,
    414: ErrorKind.VALIDATION_FAILED,
    415: ErrorKind.VALIDATION_FAILED,
    416: ErrorKind.VALIDATION_FAILED,
    422: ErrorKind.VALIDATION_FAILED,
    425: ErrorKind.SERVICE_UNAVAILABLE,  # too early: the same request is welcome later
    429: ErrorKind.RATE_LIMITED,
    431: ErrorKind.VALIDATION_FAILED,
    451: ErrorKind.PERMISSION_DENIED,
}
# Of what is not here, such as 409 and 412, the status alone does not say whether another attempt can help.

_ON_ERROR = ("status_code", "status", "http_status", "code")
_ON_RESPONSE = ("status_code", "status")


def by_status(error: BaseException, *, now: datetime) -> Verdict | None:
    """What the HTTP status of an exception or of its response says; None where it has none."""
    if is_a(error, SystemExit):  # its `code` is of another kind
        return None
    response = read(error, "response")
    if is_a(response, dict):
        if (found := _of_botocore(response, now=now)) is not None:
            return found
        response = None
    elif response is None:
        response = read(error, "resp")  # googleapiclient
    status = _status(error, _ON_ERROR)
    if status is None and response is not None:
        status = _status(response, _ON_RESPONSE)
    if status is None:
        return None
    places = (error, response) if response is not None else (error,)
    headers = [found for place in places if (found := read(place, "headers")) is not None]
    return _of_response(status, headers, now=now)


def _of_botocore(response: object, *, now: datetime) -> Verdict | None:
    """What a `ClientError` of botocore says in its dict of an error and the response's metadata."""
    code = text(entry(entry(response, "Error"), "Code"))
    metadata = entry(response, "ResponseMetadata")
    headers = entry(metadata, "HTTPHeaders")
    kind = None if code is None else kind_of_code(code)
    if kind is not None:
        return verdict(kind, delay_in_headers(headers, now=now))
    status = whole_number(entry(metadata, "HTTPStatusCode"))
    if status is not None and 400 <= status <= 599:
        return _of_response(status, [headers], now=now)
    return None


def _of_response(status: int, headers: list[object], *, now: datetime) -> Verdict:
    """What an HTTP status and the headers beside it say."""
    kind = ErrorKind.SERVICE_UNAVAILABLE if status >= 500 else _KINDS.get(status, ErrorKind.UNKNOWN)
    delays = (delay_in_headers(each, now=now) for each in headers)
    delay_s = next((delay for delay in delays if delay is not None), None)
    if status == 403 and delay_s is not None:
        kind = ErrorKind.RATE_LIMITED  # GitHub's secondary limits: nobody asks the forbidden to come back
    elif status == 400 and _was_throttled(headers):
        kind = ErrorKind.RATE_LIMITED
    return verdict(kind, delay_s)


def _status(thing: object, names: tuple[str, ...]) -> int | None:
    for name in names:
        status = whole_number(read(thing, name))
        if status is not None and 400 <= status <= 599:
            return status
    return None


def _was_throttled(headers: list[object]) -> bool:
    """AWS answers 400 then; a client without botocore sees the error's code in a header alone."""
    return any(
        kind_of_code(code) is ErrorKind.RATE_LIMITED
        for each in headers
        for code in values(each, {"x-amzn-errortype"}).values()
    )
