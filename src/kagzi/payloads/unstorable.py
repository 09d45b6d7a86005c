"""What no type can store: cycles, depth, lone surrogates, NaN, and objects that are not values."""

from __future__ import annotations

import math
import sys
from typing import Any

import msgspec

from kagzi.payloads.exact import MAX_DEPTH
from kagzi.payloads.fault import Fault, Role, a, at_key, members, shown
from kagzi.payloads.fields import field_names
from kagzi.payloads.models import to_json

_DEEP = f"nests more than {MAX_DEPTH} levels. Store it flatter, such as a list of nodes that name their parents."


def find_unstorable(value: Any, role: Role) -> Fault | None:
    """The first such place in `value`, in the order of its parts; None if there is none."""
    ancestors: list[int] = []
    stack: list[tuple[str, Any, int]] = [("", value, 0)]
    while stack:
        path, here, depth = stack.pop()
        del ancestors[depth:]
        if id(here) in ancestors:
            return Fault(path, "contains itself. Store a tree: keep an id where the value points back.")
        fault = _fault_of(here, role)
        if fault is not None:
            return Fault(path + fault.path, fault.text)
        parts = list(members(here))
        if parts and depth >= MAX_DEPTH:
            return Fault("", _DEEP)
        if parts:
            ancestors.append(id(here))
            stack.extend((path + step, part, depth + 1) for step, part in reversed(parts))
    return None


def too_deep() -> Fault:
    """The fault of a value that nests too deep for the walk too."""
    return Fault("", _DEEP)


def _fault_of(value: Any, role: Role) -> Fault | None:
    """What is wrong with `value` itself, its parts apart."""
    if isinstance(value, dict):
        return next(filter(None, (_fault_of_key(key) for key in value)), None)
    if isinstance(value, (list, tuple, set, frozenset)) or field_names(type(value)) is not None:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return Fault("", f"is {value}, which JSON can't hold. Use None, or a string.")
    if isinstance(value, int) and value.bit_length() > 12_000 and not _speakable(value):
        limit = sys.get_int_max_str_digits()
        return Fault("", f"is an int of more than {limit} digits. Store it as a string, such as hex(value).")
    try:
        _encode(value)
    except UnicodeEncodeError:
        return Fault("", "holds a lone surrogate, which UTF-8 can't hold. Decode the text with errors='replace' first.")
    except Exception:
        return Fault("", _unknown_type(value, role))
    return None


def _fault_of_key(key: Any) -> Fault | None:
    try:
        _encode({key: None})
    except UnicodeEncodeError:
        return Fault(at_key(key), "is a key with a lone surrogate, which UTF-8 can't hold. Use another key.")
    except Exception:
        return Fault("", f"has the key {shown(key)}, {a(type(key))}, which JSON can't hold. Use str keys.")
    return None


def _speakable(value: int) -> bool:
    try:
        str(value)
    except ValueError:
        return False
    return True


def _unknown_type(value: Any, role: Role) -> str:
    kind = type(value)
    for base in (str, int, float, bytes):
        if isinstance(value, base):
            return f"is {a(kind)}, a kind of {base.__name__} that would not come back. Turn it into {a(base)} first."
    return (
        f"is {a(kind)}, which can't be stored. {role.use[0].upper()}{role.use[1:]}, "
        "a dataclass, a msgspec Struct or a pydantic model."
    )


_encode = msgspec.json.Encoder(enc_hook=to_json).encode
