"""Where a value and what came back for it part, in words."""

from __future__ import annotations

from datetime import datetime, time
from typing import Any

from kagzi.payloads.exact import same
from kagzi.payloads.fault import AGREE, Fault, Role, a, members, shown


def find_difference(value: Any, back: Any, role: Role) -> Fault:
    """The innermost first place where they differ. They must differ."""
    path = ""
    while True:
        if type(value) is not type(back):
            return Fault(path, _other_type(value, back, role))
        inner = _differing_part(value, back)
        if inner is None:
            return Fault(path, _other_value(value, back, role))
        step, value, back = inner
        path += step


def _differing_part(value: Any, back: Any) -> tuple[str, Any, Any] | None:
    """The first part that differs from the one in its place, unless the parts don't pair."""
    if isinstance(value, (set, frozenset)) or (isinstance(value, dict) and not same(list(value), list(back))):
        return None
    mine, theirs = list(members(value)), list(members(back))
    if len(mine) != len(theirs):
        return None
    for (step, left), (_, right) in zip(mine, theirs, strict=True):
        if not same(left, right):
            return step, left, right
    return None


def _other_type(value: Any, back: Any, role: Role) -> str:
    kind = a(type(value))
    if role.unknown is not None:
        hint = " (JSON has lists only)" if isinstance(value, (tuple, set, frozenset)) else ""
        return f"is {kind}{hint}, but {role.unknown}. {role.annotate}, or {role.use}."
    return f"is {kind} and would come back as {a(type(back))}. {AGREE}"


def _other_value(value: Any, back: Any, role: Role) -> str:
    if isinstance(value, dict):
        return _other_keys(value, back, role)
    if isinstance(value, (datetime, time)):
        return _other_time(value, back)
    return (
        f"is {a(type(value))} that comes back different: {shown(back)} instead of {shown(value)}. "
        "Let its class keep in fields all that makes it up, and read back what it writes."
    )


def _other_keys(value: dict[Any, Any], back: dict[Any, Any], role: Role) -> str:
    for key in value:
        twin = next((other for other in back if same(key, other)), None)
        if twin is None:
            text = f"has the key {shown(key)}, {a(type(key))}, which would be lost or come back as another"
            return f"{text}. {AGREE if role.unknown is None else 'Use str keys.'}"
    return f"comes back with other keys, or in another order: {shown(list(back))} instead of {shown(list(value))}."


def _other_time(value: datetime | time, back: datetime | time) -> str:
    kind = a(type(value))
    if value.tzinfo is not None and value.tzinfo.utcoffset(None) is None:
        return (
            f"is {kind} in the zone {value.tzinfo}, of which only the offset would come back. "
            "Store it in UTC (`.astimezone(UTC)`), and the zone's name beside it if it matters."
        )
    if value.fold != back.fold:
        return f"is {kind} with fold={value.fold}, which would be lost. Make it aware: `.astimezone(UTC)`."
    return f"is {kind} that comes back as {back.isoformat()}. Use an offset of whole minutes: `.astimezone(UTC)`."
