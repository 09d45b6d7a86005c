"""The process of a measured worker: takes a line, does it, answers with a line, and ends with its input."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

import msgspec

from benchmarks.application import application
from benchmarks.looping import run
from benchmarks.usage import usage
from kagzi.worker import garbage


async def _serve(slots: int) -> None:
    questions = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    async with AsyncExitStack() as stack:
        kagzi = await stack.enter_async_context(application().kagzi)
        garbage.tune()
        print("connected", flush=True)
        while question := (await questions.readline()).decode().strip():
            if question == "begin":
                await stack.enter_async_context(kagzi.create_worker(max_concurrent_workflows=slots))
                print("begun", flush=True)
            else:
                print(msgspec.json.encode(usage()).decode(), flush=True)


if __name__ == "__main__":
    run(_serve(int(sys.argv[1])))
