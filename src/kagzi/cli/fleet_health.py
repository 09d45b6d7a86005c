"""One health port for several worker processes: the supervisor asks them all, and answers for all.

Each process answers on a socket file of its own, by its own event loop.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kagzi.worker.health_port import HealthPort, Reply
from kagzi.worker.vitals import LIVENESS, READINESS

_PATIENCE_S = 0.8
"""Kubernetes gives a probe one second unless told otherwise; the answer must be on its way by then."""

_LONGEST_ANSWER = 65_536


class FleetHealth:
    """The health of the processes that are `wanted()`, by their numbers, of which `running()` are there now.

    Alive: every process that has begun to answer still does. Ready: all of them are there and ready, and `stopping()`
    is not true.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        wanted: Callable[[], Collection[int]],
        running: Callable[[], Collection[int]],
        stopping: Callable[[], bool],
    ) -> None:
        self._wanted = wanted
        self._running = running
        self._stopping = stopping
        self._folder = ""
        self._port = HealthPort(self.answer, host=host, port=port)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin to listen. Raises ConfigError where that can't be."""
        async with AsyncExitStack() as stack:
            self._folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kagzi-"))
            await stack.enter_async_context(self._port)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more."""
        await self._stack.aclose()

    def socket(self, number: int) -> str:
        """Where a process is to answer."""
        return str(Path(self._folder) / f"{number}.sock")

    async def answer(self, path: str) -> Reply | None:
        """Ask every process, all at once, and put their answers together; None for a path that there is not."""
        if path not in (LIVENESS, READINESS):
            return None
        numbers = sorted(self._running() if path == LIVENESS else self._wanted())
        answers = await asyncio.gather(*(self._ask(number, path) for number in numbers))
        reasons = ["the workers are asked to stop"] if path == READINESS and self._stopping() else []
        for number, answer in zip(numbers, answers, strict=True):
            reasons += [f"process {number}: {reason}" for reason in self._complaints(answer, path)]
        return Reply.because(
            tuple(reasons),
            processes={number: answer for number, answer in zip(numbers, answers, strict=True) if answer is not None},
        )

    def _complaints(self, answer: dict[str, Any] | None, path: str) -> list[str]:
        if answer is None:
            # Not there yet: it starts, or is about to be replaced, which is the supervisor's own business.
            return [] if path == LIVENESS else ["it is not there yet"]
        reasons = answer.get("reasons", [])
        return reasons if isinstance(reasons, list) else []

    async def _ask(self, number: int, path: str) -> dict[str, Any] | None:
        """What a process answers; None where it does not listen."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                reader, writer = await asyncio.open_unix_connection(self.socket(number))
                try:
                    writer.write(f"GET {path} HTTP/1.1\r\nHost: worker\r\n\r\n".encode())
                    head, _, body = (await reader.read(_LONGEST_ANSWER)).partition(b"\r\n\r\n")
                finally:
                    writer.close()
        except TimeoutError:
            return {"status": HTTPStatus.GATEWAY_TIMEOUT.phrase.lower(), "reasons": ["its event loop does not answer"]}
        except OSError:
            return None
        return _parsed(head, body)


def _parsed(head: bytes, body: bytes) -> dict[str, Any] | None:
    """An answer's body; None where the process went away while it answered."""
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    return answer if head and isinstance(answer, dict) else None
