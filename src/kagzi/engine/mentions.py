"""Which names a workflow's code holds, to guess what became of an operation that it no longer asks for."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any

_MOST = 200
"""Functions that are looked into: enough for a workflow and its helpers, and for no program."""


def names_in(function: Callable[..., Any]) -> frozenset[str]:
    """Every text and every name in the code of a function, of those inside it, and of those in its module that it uses.

    A name that is put together at run time is not among them: this serves a guess, and decides nothing.
    """
    names: set[str] = set()
    seen: set[int] = set()
    waiting: list[object] = [function]
    while waiting and len(seen) < _MOST:
        each = waiting.pop()
        each = getattr(each, "__wrapped__", each)
        code = each if isinstance(each, CodeType) else getattr(each, "__code__", None)
        if not isinstance(code, CodeType) or id(code) in seen:
            continue
        seen.add(id(code))
        names.update(code.co_names)
        names.update(constant for constant in code.co_consts if isinstance(constant, str))
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        waiting += _used_by(each, code)
    return frozenset(names)


def _used_by(function: object, code: CodeType) -> list[object]:
    """Functions of the same module that a function names, and those that it closes over."""
    namespace = getattr(function, "__globals__", {})
    module = getattr(function, "__module__", None)
    used = [namespace[name] for name in code.co_names if name in namespace]
    for cell in getattr(function, "__closure__", None) or ():
        try:
            used.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    return [each for each in used if callable(each) and getattr(each, "__module__", None) == module]
