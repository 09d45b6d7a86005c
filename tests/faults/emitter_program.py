"""A process that emits 0, 1, 2, ... until it is killed, each with its number for a dedup_key: `python -m
tests.faults.emitter_program URL`."""

from __future__ import annotations

import asyncio
import sys
from itertools import count

from kagzi import Kagzi
from tests.faults.workflows import NEWS


async def main(url: str) -> None:
    """Emit for ever."""
    async with Kagzi(url) as kagzi:
        for number in count():
            await kagzi.emit(NEWS, number, dedup_key=str(number))
            await asyncio.sleep(0.002)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
