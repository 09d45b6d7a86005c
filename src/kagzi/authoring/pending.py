"""What goes on beside the body of a `def` workflow."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from kagzi.authoring.durations import Duration, as_duration
from kagzi.authoring.greenlets import wait

R = TypeVar("R")


class Pending(Generic[R]):
    """Something that goes on beside the body: a step (`ctx.submit`), or a part of the body (`ctx.spawn`)."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[R]) -> None:
        self._future = future

    def result(self, timeout: Duration | None = None) -> R:
        """Wait for it, and return what it gives; asked again, it gives the same.

        Raises StepFailed where it is a step that failed, what the function raised where it is a part of the body,
        and TimeoutError where `timeout` (seconds or timedelta, durable) passes first: then it goes on all the same.
        """
        if timeout is None:
            return wait(self._future)
        span = as_duration(timeout, what="the timeout of result")
        done, _ = wait(asyncio.wait({self._future}, timeout=span.total_seconds()))
        if not done:
            raise TimeoutError(f"there was no result within {span.total_seconds():g} s.")
        return self._future.result()

    def done(self) -> bool:
        """Whether `result` would return, or raise, at once."""
        return self._future.done()

    def cancel(self) -> None:
        """Give it up: a step's function is cancelled and no result is recorded, a part of the body is unwound."""
        self._future.cancel()

    def __repr__(self) -> str:
        """Say what it is, and where it stands."""
        return f"<Pending {self._future!r}>"
