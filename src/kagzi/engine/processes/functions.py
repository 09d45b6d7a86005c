"""Functions on their way to a process: by module and qualified name, never by value."""

from __future__ import annotations

import importlib
import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kagzi.errors import ConfigError

_DEPTH = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionName:
    """Where a function is found: `module`, `qualname` in it, and how many decorators lie around it there."""

    module: str
    qualname: str
    depth: int

    def resolve(self) -> Callable[..., Any]:
        """Import the module and find the function. Raises what the import raises, and AttributeError."""
        found: Any = _look_up(self.module, self.qualname)
        for _ in range(self.depth):
            found = found.__wrapped__
        return found  # type: ignore[no-any-return] # name_function has seen that it is one


def name_function(fn: Callable[..., Any], *, step: str) -> FunctionName:
    """Say where `fn` is found. Raises ConfigError where it is not what its own name leads to."""
    module, qualname = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    try:
        if module is None or qualname is None:
            raise AttributeError("it has no name")
        found: Any = _look_up(module, qualname)
    except Exception as error:  # whatever the import of its module raises
        raise _not_found(fn, step, str(error)) from error
    for depth in range(_DEPTH):
        if found is fn:
            return FunctionName(module=module, qualname=qualname, depth=depth)
        found = getattr(found, "__wrapped__", None)
    raise _not_found(fn, step, "that name leads to something else")


def main_module(*parts: bytes, step: str) -> dict[str, str] | None:
    """What a process needs to import this program's `__main__`, where one of the pickles leads there; else None.

    Raises ConfigError where it can't be imported again, as in an interactive session.
    """
    if not any(b"__main__" in part for part in parts):
        return None
    from multiprocessing import spawn  # here, as most workers need none of it

    told = spawn.get_preparation_data("kagzi-step")
    found = {key: value for key, value in told.items() if key.startswith("init_main")}
    if not found:
        raise ConfigError(
            f"step {step!r} is executed in a process, which can't import what is defined in an interactive session or "
            "by `python -c`. Put the function, and the classes of its arguments, into a module."
        )
    return found


def import_main(told: dict[str, str]) -> None:
    """In a process: import the program's `__main__`, once, under the name `__mp_main__`, as multiprocessing does."""
    from multiprocessing import spawn

    global _imports_main
    _imports_main = True
    try:
        spawn.prepare(dict(told))
    finally:
        _imports_main = False


def refuse_in_an_import_of_main() -> None:
    """Raise ConfigError where a process for steps is importing the program, which must not start over in there."""
    if _imports_main:
        raise ConfigError(
            "the program was started again: a process for steps has to import its main module, to find a function or a "
            'class. Put what the program does under `if __name__ == "__main__":`, or the step into another module.'
        )


_imports_main = False


def _look_up(module: str, qualname: str) -> Any:
    # The module of the program itself is `__main__` in the parent and, once imported, in a process.
    holder = sys.modules.get(module) or importlib.import_module(module)
    return operator.attrgetter(qualname)(holder)


def _not_found(fn: Callable[..., Any], step: str, reason: str) -> ConfigError:
    return ConfigError(
        f"step {step!r} is executed in a process, which has to find {fn!r} by its module and name: {reason}. "
        "Define the function at the top level of a module."
    )
