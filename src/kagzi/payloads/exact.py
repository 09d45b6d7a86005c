"""Whether two values are the same to the last type: what decides that a payload survived.

Python's own `==` is too kind for that: `True == 1 == 1.0`, a subclass may equal its base, and a class may
leave fields out of its `__eq__`.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from operator import attrgetter
from typing import Any
from uuid import UUID

from kagzi.payloads.fields import field_names

MAX_DEPTH = 500
"""Levels of nesting. Half of Python's default recursion limit, so that a replay started deeper still decodes it."""

_ATOMS = frozenset({str, int, bool, type(None), float, bytes, bytearray, UUID, date, timedelta})
"""Types whose values are the same when both are of the type and equal. (NaN never meets NaN: JSON has none.)"""

_Parts = list[Any]
_Compare = Callable[[Any, Any, _Parts, _Parts], bool]
"""Whether two values of one class are the same but for their parts, which are appended to the two lists."""


class TooDeep(ValueError):
    """The value nests more than `MAX_DEPTH` levels."""


def same(left: Any, right: Any) -> bool:
    """Whether `right`, the decoded value, is what `left` was, types and order of keys included. Raises TooDeep.

    One freedom, from PEP 484: an `int` that was annotated `float` comes back as the float equal to it.
    Level by level rather than by recursion: it costs no stack, and a level of atoms is compared in C.
    """
    lefts: _Parts = []
    rights: _Parts = []
    if not _same_but_parts(left, right, lefts, rights):
        return False
    for _ in range(MAX_DEPTH):
        kinds = [*map(type, lefts)]
        if kinds == [*map(type, rights)] and _ATOMS.issuperset(kinds):
            return lefts == rights
        parts: _Parts = []
        right_parts: _Parts = []
        for one, other in zip(lefts, rights, strict=True):
            if one is not other and not _same_but_parts(one, other, parts, right_parts):
                return False
        if not parts:
            return True
        lefts, rights = parts, right_parts
    raise TooDeep


def same_json(value: Any, back: Any, text: bytes) -> bool:
    """`same` for a `back` that was read from `text` as plain JSON values.

    By `marshal`, all in C: 1.3 µs for a dict of six values where `same` takes 4. It writes exact types only, so
    what it writes alike is the same. Version 2 knows no references, which would tell one list twice from two lists.
    """
    if _may_be_deep(text):
        return same(value, back)
    try:
        return marshal.dumps(value, 2) == marshal.dumps(back, 2)
    except ValueError:  # a class that marshal doesn't know, so no JSON value
        return False


def same_zone(left: tzinfo | None, right: tzinfo | None) -> bool:
    """Whether both are the same fixed offset. A zone with rules (Europe/Berlin) is none: only its offset is stored."""
    if left is None or right is None:
        return left is right
    offset = left.utcoffset(None)
    return offset is not None and offset == right.utcoffset(None)


def _may_be_deep(text: bytes) -> bool:
    """Whether the JSON may nest more than `MAX_DEPTH` levels: certainly so if it does, rarely if it doesn't.

    Taking every `[]` out of the brackets alone takes the innermost level off; brackets in strings can stop that.
    """
    if len(text) < 2 * MAX_DEPTH:
        return False
    brackets = text.translate(_ONE_KIND, _NO_BRACKETS)
    for taken in range(50):
        if len(brackets) // 2 <= MAX_DEPTH - taken:
            return False
        brackets = brackets.replace(b"[]", b"")
    return True


def _same_but_parts(left: Any, right: Any, lefts: _Parts, rights: _Parts) -> bool:
    kind = type(left)
    if kind is not type(right):
        return kind is int and type(right) is float and bool(left == right)
    if kind in _ATOMS:
        return bool(left == right)
    return (_COMPARE.get(kind) or _learn(kind))(left, right, lefts, rights)


def _learn(kind: type) -> _Compare:
    if len(_COMPARE) > 1000:  # classes made inside functions would pile up here
        _COMPARE.clear()
        _COMPARE.update(_BUILT_IN)
    compare = _COMPARE[kind] = _comparer(kind)
    return compare


def _comparer(kind: type) -> _Compare:
    names = field_names(kind)
    if names is not None:
        return _by_fields(names)
    if issubclass(kind, tuple):
        return _same_length
    if issubclass(kind, set | frozenset):
        return _same_members
    if issubclass(kind, datetime | time):
        return _same_time
    if issubclass(kind, Decimal):
        return lambda left, right, *_: bool(left.as_tuple() == right.as_tuple())  # 1.0 is not 1.00; NaN is NaN
    if kind.__eq__ is object.__eq__:
        return lambda left, right, lefts, rights: _same_keys(dict(vars(left)), dict(vars(right)), lefts, rights)
    return lambda left, right, *_: bool(left == right)


def _by_fields(names: tuple[str, ...]) -> _Compare:
    if not names:
        return lambda *_: True
    values = attrgetter(*names) if len(names) > 1 else _only(names[0])

    def compare(left: Any, right: Any, lefts: _Parts, rights: _Parts) -> bool:
        lefts += values(left)
        rights += values(right)
        return True

    return compare


def _only(name: str) -> Callable[[Any], tuple[Any]]:
    return lambda value: (getattr(value, name),)


def _same_length(left: Any, right: Any, lefts: _Parts, rights: _Parts) -> bool:
    lefts += left
    rights += right
    return len(left) == len(right)


def _same_keys(left: dict[Any, Any], right: dict[Any, Any], lefts: _Parts, rights: _Parts) -> bool:
    lefts += left
    lefts += left.values()
    rights += right
    rights += right.values()
    return len(left) == len(right)


def _same_members(left: Any, right: Any, lefts: _Parts, rights: _Parts) -> bool:
    twins = {member: member for member in right}
    mine = list(left)
    if len(mine) != len(twins) or not all(member in twins for member in mine):
        return False
    lefts += mine
    rights += [twins[member] for member in mine]
    return True


def _same_time(left: datetime | time, right: datetime | time, *_: _Parts) -> bool:
    if left != right or not same_zone(left.tzinfo, right.tzinfo):
        return False
    return left.tzinfo is not None or left.fold == right.fold  # a fixed offset has no fold


_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_BUILT_IN: dict[type, _Compare] = {list: _same_length, tuple: _same_length, dict: _same_keys}
_COMPARE = dict(_BUILT_IN)
