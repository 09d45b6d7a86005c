"""Looking at an exception of which nothing is known, without it having a say in what happens to us.

A property may raise, a class may answer to every name, a metaclass may hide its own. What Python itself keeps of an
exception is therefore read by Python's own descriptors, and everything else under guard.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_mro_of = type.__dict__["__mro__"].__get__
_name_of = type.__dict__["__name__"].__get__
_module_of = type.__dict__["__module__"].__get__
_members_of = BaseExceptionGroup.__dict__["exceptions"].__get__
_args_of = BaseException.__dict__["args"].__get__
_cause_of = BaseException.__dict__["__cause__"].__get__
_context_of = BaseException.__dict__["__context__"].__get__
_suppresses_context = BaseException.__dict__["__suppress_context__"].__get__


def guarded(ask: Callable[..., Any], *args: Any) -> Any:
    """What `ask(*args)` returns, or None where it raises."""
    try:
        return ask(*args)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a property that raises SystemExit must not end the worker
        return None


def read(thing: object, name: str) -> Any:
    """An attribute of a thing, or None where it has none or will not say."""
    try:
        return getattr(thing, name, None)
    except KeyboardInterrupt:
        raise
    except BaseException:  # as in `guarded`, without its cost: this is asked a dozen times for each error
        return None


def entry(thing: Any, key: str) -> Any:
    """What a dict holds under a key, or None."""
    return dict.get(thing, key) if is_a(thing, dict) else None


def is_a(thing: object, kind: type) -> bool:
    """As isinstance, by the true type alone: `__class__` may be a property that raises."""
    return issubclass(type(thing), kind)


def whole_number(thing: Any) -> int | None:
    """An int as it is, and any other kind of int as its value; None for what is none."""
    if type(thing) is int:
        return thing
    if is_a(thing, int) and type(thing) is not bool:
        return int.__index__(thing)
    return None


def text(thing: Any) -> str | None:
    """A str as it is, and any other kind of str, or bytes, as its value; None for what is neither."""
    if type(thing) is str:
        return thing
    if is_a(thing, str):
        return str.__getitem__(thing, slice(None))
    if is_a(thing, bytes):
        return bytes.decode(thing, "latin-1")
    return None


def name_of(error: BaseException) -> str:
    """The name of an exception's class."""
    return text(_name_of(type(error))) or "Exception"


def module_of(kind: type) -> str:
    """The module that a class says it comes from; empty where it says nonsense."""
    try:
        return text(_module_of(kind)) or ""
    except AttributeError:
        return ""


Ancestry = tuple[tuple[str, str], ...]


def ancestry(error: BaseException) -> Ancestry:
    """The package and name of an exception's class and of each that it derives from, nearest first."""
    return tuple((module_of(kind).partition(".")[0], text(_name_of(kind)) or "") for kind in _mro_of(type(error)))


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """What an exception group holds; nothing for any other exception."""
    members: tuple[BaseException, ...] = _members_of(error) if is_a(error, BaseExceptionGroup) else ()
    return members


def args_of(error: BaseException) -> tuple[Any, ...]:
    """What an exception was made with."""
    args: tuple[Any, ...] = _args_of(error)
    return args


def origin_of(error: BaseException) -> BaseException | None:
    """What an exception was raised from, or while handling what, unless that is suppressed."""
    cause: BaseException | None = _cause_of(error)
    if cause is None and not _suppresses_context(error):
        cause = _context_of(error)
    return cause
