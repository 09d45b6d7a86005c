"""Stand-ins for the functions of steps."""

from __future__ import annotations

import inspect
from typing import Any


class Mock:
    """What is called instead of a step's function; records its calls.

    `calls` holds `(args, kwargs)` of each, in order. `reconcile` is what is called instead of the step's own one, None
    where that is used.
    """

    def __init__(self, name: str, stand_in: Any, reconcile: Mock | None = None) -> None:
        self.name = name
        self.reconcile = reconcile
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._stand_in = stand_in

    @property
    def count(self) -> int:
        """How often it was called."""
        return len(self.calls)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Record the call, and give what the stand-in gives."""
        self.calls.append((args, kwargs))
        stand_in = self._stand_in
        if isinstance(stand_in, BaseException):
            raise stand_in.with_traceback(None)  # or it would grow with each call
        if not callable(stand_in):
            return stand_in
        value = stand_in(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value

    def __repr__(self) -> str:
        """Name the step, and say how often it was called."""
        return f"<Mock of step {self.name!r}, called {self.count} times>"
