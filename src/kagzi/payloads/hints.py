"""What a function's annotations say, resolved where the function was defined."""

from __future__ import annotations

import asyncio
import collections.abc as abc
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any


def result_hint(fn: Callable[..., Any]) -> Any:
    """The type that `await fn(...)` or `fn(...)` gives, Any if nothing says. Raises NameError for an unknown name."""
    target = _definition(fn)
    if isinstance(target, type):
        return target
    raw = getattr(target, "__annotations__", {}).get("return", Any)
    if raw is Any:
        return Any
    hint = resolve(raw, target)
    if not inspect.iscoroutinefunction(target):
        hint = _awaited(hint)
    return Any if isinstance(hint, typing.TypeVar | typing.ParamSpec) or hint in _NO_TYPE else hint


def parameter_hints(fn: Callable[..., Any]) -> dict[str, Any]:
    """The types of the parameters that have one, by name. Raises NameError for an unknown name."""
    target = _definition(fn)
    if isinstance(target, type):
        target = inspect.getattr_static(target, "__init__")
    annotations = getattr(target, "__annotations__", {})
    return {name: resolve(raw, target) for name, raw in annotations.items() if name != "return"}


def resolve(annotation: Any, target: Any) -> Any:
    """`annotation` with its forward references resolved as `target`'s own names, its enclosing function's included."""
    inner = inspect.unwrap(target)
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    known = {parameter.__name__: parameter for parameter in getattr(inner, "__type_params__", ())}
    code = getattr(inner, "__code__", None)
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(inner, "__closure__", None) or (), strict=False):
        try:
            known[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return typing.get_type_hints(holder, getattr(inner, "__globals__", {}), known, include_extras=True)["it"]


def function_name(fn: Callable[..., Any]) -> str:
    """The name by which errors call a function."""
    target = _definition(fn)
    return str(getattr(target, "__qualname__", None) or type(fn).__qualname__)


def _definition(fn: Any) -> Any:
    """The function or class behind a partial, a bound method or an object with `__call__`."""
    while True:
        if isinstance(fn, functools.partial | functools.partialmethod):
            fn = fn.func
        elif inspect.ismethod(fn):
            fn = fn.__func__
        elif isinstance(fn, type) or inspect.isroutine(fn):
            return fn
        elif hasattr(fn, "__wrapped__"):
            fn = fn.__wrapped__
        else:
            return inspect.getattr_static(type(fn), "__call__", fn)


def _awaited(hint: Any) -> Any:
    """What awaiting gives, for a plain function that returns an awaitable."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is abc.Coroutine:
        return arguments[2]
    if origin in (abc.Awaitable, asyncio.Future, asyncio.Task):
        return arguments[0]
    return Any if hint in (abc.Coroutine, abc.Awaitable, asyncio.Future, asyncio.Task) else hint


_NO_TYPE = (typing.Self, typing.NoReturn, typing.Never)
