"""The errors for values and texts that are refused. Only runs once something is wrong, so it may be slow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from kagzi.errors import PayloadError
from kagzi.payloads.difference import find_difference
from kagzi.payloads.exact import TooDeep
from kagzi.payloads.fault import AGREE, Fault, Role, a
from kagzi.payloads.misfit import find_misfit
from kagzi.payloads.models import to_json
from kagzi.payloads.unstorable import find_unstorable, too_deep


def refuse_value(
    value: Any, found: Any, decode: Callable[[Any], Any], role: Role, *, where: str, path: str
) -> PayloadError:
    """The error for a value that can't be stored. `found` is what came back instead, or the exception that came."""
    try:
        fault = _fault(value, found, decode, role)
    except RecursionError:
        fault = too_deep()
    except Exception as error:  # a value so odd that looking at it fails: say what is known
        fault = Fault("", f"can't be stored: {type(error).__name__}: {error}. {role.annotate}, or {role.use}.")
    place = path + fault.path
    return PayloadError(f"{where}: {place} {fault.text}", path=place, step=where)


def refuse_unreadable(
    json: str | bytes, error: Exception, decode: Callable[[Any], Any], *, where: str, path: str
) -> PayloadError:
    """The error for a stored text that doesn't fit the type that it is read as."""
    fault = find_misfit(json, error, decode)
    place = path + fault.path
    return PayloadError(
        f"{where}: what is stored does not fit its type at {place}: {fault.text}. "
        "Let the type read what was stored before: a default for a new field, a union with the old type.",
        path=place,
        step=where,
    )


def _fault(value: Any, found: Any, decode: Callable[[Any], Any], role: Role) -> Fault:
    fault = find_unstorable(value, role)
    if fault is not None:
        return fault
    if isinstance(found, TooDeep | RecursionError):
        return too_deep()
    if not isinstance(found, Exception):
        return find_difference(value, found, role)
    fault = find_misfit(_encode(value), found, decode)
    if fault.path == "" and fault.text.startswith("expected `null`"):
        return Fault("", f"is {a(type(value))}, but its annotation is None. {AGREE}")
    return Fault(fault.path, f"does not fit its type: {fault.text}. {AGREE}")


_encode = msgspec.json.Encoder(enc_hook=to_json).encode
