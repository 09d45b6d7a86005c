"""Where a JSON text does not fit the type that it is read as.

msgspec names list items and fields, but writes `[...]` for whatever stands under a key of a dict. The key is found
by reading ever smaller dicts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from kagzi.payloads.fault import Fault, at_key

_PLACE = re.compile(r"\s*- at `(?P<in_key>key in `)?\$?(?P<path>[^`]*)`+$")
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+)\]|(?P<any>\[\.\.\.\])")


def find_misfit(json: str | bytes, error: BaseException, decode: Callable[[Any], Any]) -> Fault:
    """Path and reason of `error`, which `decode(json)` raised."""
    reason, path = _split(error)
    if "[...]" not in path:
        return Fault(path, reason)
    try:
        return Fault(_name_keys(json, path, decode), reason)
    except Exception:  # odd JSON or an odd type: then the path stays as msgspec gave it
        return Fault(path, reason)


def _split(error: BaseException) -> tuple[str, str]:
    if isinstance(error, RecursionError):
        return "it nests too deep", ""
    message = str(error)
    found = _PLACE.search(message)
    path = found["path"] if found is not None else ""
    reason = message[: found.start()] if found is not None else message
    if not isinstance(error, msgspec.MsgspecError):
        reason = f"{type(error).__name__}: {reason}"
    reason = reason.strip().replace("\n", " ").rstrip(".")
    return reason.replace("Expected", "expected", 1), path


def _name_keys(json: str | bytes, path: str, decode: Callable[[Any], Any]) -> str:
    """`path` with the key that fails in the place of each `[...]`."""
    root: dict[str, Any] = {"$": msgspec.json.decode(json)}
    holder: Any = root
    slot: Any = "$"
    named = ""
    for step in _STEP.finditer(path):
        inner = holder[slot]
        if step["any"] is not None and isinstance(inner, dict):
            key = _failing_key(root, holder, slot, decode)
            named += at_key(key)
            holder, slot = inner, key
        elif step["any"] is not None:
            return named + path[step.start() :]
        else:
            holder, slot = inner, step["name"] if step["name"] is not None else int(step["index"])
            named += step[0]
    return named


def _failing_key(root: dict[str, Any], holder: Any, slot: Any, decode: Callable[[Any], Any]) -> str:
    """The first key of the dict at `holder[slot]` that can't be read, by halving; the dict is put back after."""
    whole: dict[str, Any] = holder[slot]
    keys = list(whole)
    while len(keys) > 1:
        half = keys[: len(keys) // 2]
        holder[slot] = {key: whole[key] for key in half}
        keys = keys[len(half) :] if _reads(root["$"], decode) else half
    holder[slot] = whole
    return keys[0]


def _reads(plain: Any, decode: Callable[[Any], Any]) -> bool:
    try:
        decode(msgspec.json.encode(plain))
    except Exception:
        return False
    return True
