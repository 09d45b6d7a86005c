"""Waiting for the first of several things."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

_CANCELLED_WITHIN_S = 5.0


async def first_of(*ends: Coroutine[Any, Any, Any], limit_s: float) -> None:
    """Wait until one of these is over, for at most `limit_s`."""
    waits = [asyncio.ensure_future(end) for end in ends]
    try:
        await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def completed(work: Coroutine[Any, Any, None], *, unless: asyncio.Event) -> bool:
    """Await `work`, or cancel it once `unless` is set; says whether it was done. Raises what `work` raises."""
    if unless.is_set():
        work.close()
        return False
    working, asked = asyncio.ensure_future(work), asyncio.ensure_future(unless.wait())
    try:
        await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            await asyncio.wait({working}, timeout=_CANCELLED_WITHIN_S)
            return working.done() and not working.cancelled() and working.exception() is None
        await working
        return True
    finally:
        asked.cancel()
        working.cancel()
