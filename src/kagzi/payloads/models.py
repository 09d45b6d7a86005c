"""Pydantic models in payloads. They are known by what they can do; pydantic itself is never imported here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from kagzi.payloads.fields import is_model
from kagzi.payloads.order import in_order

_plain = msgspec.json.Encoder()


def to_json(value: Any) -> msgspec.Raw:
    """msgspec's `enc_hook`: a model as the JSON that it makes of itself; TypeError for anything else."""
    kind = type(value)
    if not is_model(kind):
        raise TypeError(f"Encoding objects of type {kind.__name__} is unsupported")
    dump, _ = _options(kind)
    text: str = in_order(value).model_dump_json(**dump)
    return msgspec.Raw(text.encode())


def from_json(kind: Any, plain: Any) -> Any:
    """msgspec's `dec_hook`: the plain JSON that stands where `kind` was annotated, read back as a `kind`."""
    return model_reader(kind)(_plain.encode(plain)) if is_model(kind) else plain


def model_reader(kind: Any) -> Callable[[bytes | str], Any]:
    """How to read a model of class `kind` from JSON."""
    _, validate = _options(kind)
    read = kind.model_validate_json
    return lambda text: read(text, **validate)


def _options(kind: Any) -> tuple[dict[str, bool], dict[str, bool]]:
    read = kind.model_validate_json
    return _options_of(kind.model_dump_json, getattr(read, "__func__", read))


@lru_cache(maxsize=256)
def _options_of(dump: Callable[..., Any], read: Callable[..., Any]) -> tuple[dict[str, bool], dict[str, bool]]:
    """What to ask of this version's two methods, so that the one reads what the other wrote.

    Both go by the fields' own names, as an alias may be meant for one direction only; pydantic before 2.11 can't
    and goes by alias. `round_trip` leaves out computed fields and keeps `Json[T]` readable. `warnings` are off
    because `in_order` puts a list where a set is annotated.
    """
    by_name = "by_name" in inspect.signature(read).parameters
    takes = inspect.signature(dump).parameters
    wanted = {"round_trip": True, "by_alias": not by_name, "warnings": False}
    return (
        {name: flag for name, flag in wanted.items() if name in takes},
        {"by_alias": False, "by_name": True} if by_name else {},
    )
