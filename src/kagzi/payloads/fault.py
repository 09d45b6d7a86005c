"""The words for what is wrong with a value: where in it, what, and the cure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kagzi.payloads.fields import field_names

AGREE = "Change the value or its annotation, so that they agree."


@dataclass(frozen=True, slots=True)
class Fault:
    """`path` is relative to the value (`.items[3]`); `text` follows it in the error: what it is, then the cure."""

    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a type belongs to, in words for errors. `unknown` says why there is no type, if there is none."""

    annotate: str
    use: str
    unknown: str | None = None


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts that a value is stored by, each with its path in it; none for a value without parts."""
    if isinstance(value, dict):
        yield from ((at_key(key), member) for key, member in value.items())
    elif isinstance(value, (set, frozenset)):
        yield from (("[...]", member) for member in value)
    elif (names := field_names(type(value))) is not None:
        yield from ((at_key(name), getattr(value, name)) for name in names if hasattr(value, name))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from ((at_key(name), member) for name, member in zip(value._fields, value, strict=True))
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", member) for index, member in enumerate(value))


def at_key(key: Any) -> str:
    """The path of a key or a field: `.price`, or `['unit price']` where the dot would mislead."""
    if isinstance(key, str) and key.isidentifier():
        return f".{key}"
    return f"[{shown(key)}]"


def shown(value: Any) -> str:
    """A short `repr` that can be encoded and never fails."""
    try:
        text = ascii(value) if isinstance(value, str) else repr(value)
    except Exception:  # an int of more than 4,300 digits, a class whose repr is broken
        return f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}..."


def a(kind: type) -> str:
    """A class's name with its article: `a str`, `an int`."""
    name = kind.__name__
    return "None" if kind is type(None) else f"{'an' if name[:1].lower() in 'aeio' else 'a'} {name}"
