"""A process that starts runs: `python -m tests.faults.starter_program URL ID COUNT WORK_S`.

It says "ready", and when it is sent a line it starts COUNT runs at once, all with one id, and prints a JSON list: the
run_id that each start was answered with, or the name of the error that it raised.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from kagzi import Kagzi
from tests.faults.ledger import Ledger
from tests.faults.workflows import Pace, register_chain


async def main(url: str, name: str, count: int, pace: Pace) -> None:
    """Start the runs when told to."""
    async with Kagzi(url) as kagzi:
        chain = register_chain(kagzi, Ledger(Path(os.devnull))).options(id=name)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        answers = await asyncio.gather(*[chain.start(pace) for _ in range(count)], return_exceptions=True)
        told = [type(answer).__name__ if isinstance(answer, BaseException) else answer.run_id for answer in answers]
        print(msgspec.json.encode(told).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Pace(work_s=float(sys.argv[4]))))
