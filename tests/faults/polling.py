"""Waiting, with a deadline, for what another process does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(reached: Callable[[], bool], what: str, *, within_s: float = 20) -> None:
    """Return as soon as `reached()`; fail, naming `what`, where that takes too long."""
    try:
        async with asyncio.timeout(within_s):
            while not reached():  # noqa: ASYNC110 - another process can't set an event of ours
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"waited for {within_s:g} s in vain: {what}") from None
