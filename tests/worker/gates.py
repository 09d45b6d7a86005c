"""Steps that wait until the test lets them pass."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.app.applications import until


class Gates:
    """`await gates.enter("a")` is what a step does; `open("a")` lets it, and all who come later, pass.

    `entered` lists who came, in order; `inside` counts those who wait now and `most_inside` the most at one time.
    """

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.inside = 0
        self.most_inside = 0
        self._open: dict[str, asyncio.Event] = {}
        self._all_open = False

    async def enter(self, name: str) -> str:
        """Wait at a gate and return its name."""
        self.entered.append(name)
        self.inside += 1
        self.most_inside = max(self.inside, self.most_inside)
        try:
            if not self._all_open:
                await self._gate(name).wait()
        finally:
            self.inside -= 1
        return name

    def open(self, name: str) -> None:
        """Let those at one gate pass."""
        self._gate(name).set()

    def open_all(self) -> None:
        """Let everybody pass."""
        self._all_open = True
        for gate in self._open.values():
            gate.set()

    async def reached(self, name: str, times: int = 1) -> None:
        """Wait until a gate has been reached so often."""
        await until(lambda: Counter(self.entered)[name] >= times, what=f"gate {name!r} is reached {times} times")

    async def full(self, count: int) -> None:
        """Wait until so many wait at gates."""
        await until(lambda: self.inside == count, what=f"{count} wait at gates")

    def _gate(self, name: str) -> asyncio.Event:
        return self._open.setdefault(name, asyncio.Event())
