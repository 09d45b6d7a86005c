"""Sets in an order that does not change with the hash seed, so that equal values encode to equal texts.

msgspec can sort sets, but sorts dicts with them; the order of a dict is part of its value.
"""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from kagzi.payloads.fields import field_names, is_model

_ATOMS = frozenset({str, int, bool, type(None), float, bytes})


def in_order(value: Any) -> Any:
    """`value` with every set in it made a sorted list: itself if it holds none, else a copy for encoding only."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is list or kind is tuple:
        return _list_in_order(value)
    if kind is dict:
        items = {key: in_order(member) for key, member in value.items()}
        return items if any(items[key] is not value[key] for key in items) else value
    if issubclass(kind, (set, frozenset)):
        return sorted((in_order(member) for member in value), key=_sort_key)
    if issubclass(kind, tuple):
        return _list_in_order(value)
    names = field_names(kind)
    return value if names is None else _fields_in_order(value, names)


def _list_in_order(value: list[Any] | tuple[Any, ...]) -> Any:
    members = [in_order(member) for member in value]
    return members if any(new is not old for new, old in zip(members, value, strict=True)) else value


def _fields_in_order(value: Any, names: tuple[str, ...]) -> Any:
    changes = {}
    for name in names:
        old = getattr(value, name, None)
        new = in_order(old)
        if new is not old:
            changes[name] = new
    return _copy_with(value, changes) if changes else value


def _copy_with(value: Any, changes: dict[str, Any]) -> Any:
    """A copy with fields set past every check, of frozen classes too: it is encoded and thrown away."""
    if is_model(type(value)):
        return value.model_copy(update=changes)
    if isinstance(value, msgspec.Struct):
        struct = copy.copy(value)
        for name, member in changes.items():
            msgspec.structs.force_setattr(struct, name, member)
        return struct
    other = object.__new__(type(value))
    for name in field_names(type(value)) or ():
        object.__setattr__(other, name, changes.get(name, getattr(value, name)))
    return other


def _sort_key(member: Any) -> tuple[str, bytes]:
    return type(member).__name__, _encode(member)


def _model_text(value: Any) -> msgspec.Raw:
    return msgspec.Raw(value.model_dump_json().encode())


_encode = msgspec.json.Encoder(enc_hook=_model_text, order="sorted").encode
