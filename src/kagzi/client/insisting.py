"""Writes that may be made again: made until there is an answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kagzi.client.link import Link
from kagzi.errors import OutcomeUnknown, StoreUnavailable

T = TypeVar("T")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


async def insist(link: Link, write: Callable[[], Awaitable[T]], *, unknown: str) -> T:
    """Make a write, which is safe to make again, until there is an answer, for at most the store's timeout.

    Raises OutcomeUnknown where there was none in time; `unknown` says what that leaves open, and what to do.
    """
    limit_s = link.settings.store_timeout.total_seconds()
    pause_s = _FIRST_PAUSE_S
    try:
        async with asyncio.timeout(limit_s):
            while True:
                try:
                    return await write()
                except StoreUnavailable:
                    if not link.is_open:  # it won't come back
                        raise
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
    except TimeoutError as error:
        raise OutcomeUnknown(f"the database did not answer for {limit_s:g} s, so {unknown}") from error
