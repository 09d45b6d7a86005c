"""Retries against a service that is down for a while, with a circuit breaker that spares it.

    python examples/retry_pattern.py

After three failures in a row the breaker opens: for a moment nobody asks the service, and the step is told when to come
back (`RetryAfter`). Then one call may try; if it succeeds, the breaker closes. Runs are kept in kagzi.db beside you, or
where KAGZI_DATABASE_URL says.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from kagzi import Kagzi, RetryAfter, RetryPolicy, WorkflowContext

kagzi = Kagzi()


@dataclass
class CircuitBreaker:
    """One for each service and process: it protects the service from this process, and needs no memory of its own."""

    failures_allowed: int
    pause_s: float
    failures: int = 0
    opened_at: float | None = None

    async def call(self, ask: Callable[[], Awaitable[str]]) -> str:
        if self.opened_at is not None:
            left_s = self.opened_at + self.pause_s - time.monotonic()
            if left_s > 0:
                raise RetryAfter(left_s, "the circuit is open")
        try:
            answer = await ask()
        except ConnectionError:
            self.failures += 1
            if self.failures >= self.failures_allowed:
                self.opened_at = time.monotonic()
                print("the circuit opens", flush=True)
            raise
        self.failures, self.opened_at = 0, None
        return answer


@dataclass
class Service:
    """Down for its first calls."""

    down_for: int
    calls: int = 0

    async def ask(self) -> str:
        self.calls += 1
        print(f"call {self.calls}", flush=True)
        if self.calls <= self.down_for:
            raise ConnectionError("the service does not answer")
        return "in stock"


@dataclass
class Shop:
    service: Service = field(default_factory=lambda: Service(down_for=4))
    breaker: CircuitBreaker = field(default_factory=lambda: CircuitBreaker(failures_allowed=3, pause_s=0.5))

    async def look_up(self, item: str) -> str:
        return await self.breaker.call(self.service.ask)


shop = Shop()


@kagzi.workflow("check-stock")
async def check_stock(ctx: WorkflowContext, item: str) -> str:
    patient = ctx.options(retry=RetryPolicy.exponential(0.05, maximum=1, max_attempts=20), timeout=5)
    return await patient.step("look-up", shop.look_up, item)


async def main() -> None:
    async with kagzi, kagzi.create_worker():
        handle = await check_stock.start("lamp")
        print(f"lamp: {await handle.result(timeout=30)}")
        (step,) = await handle.history()
        kinds = [failed.error.type for failed in step.failed_attempts]
        print(f"{step.attempts} attempts; {kinds.count('RetryAfter')} of them met an open circuit")


if __name__ == "__main__":
    asyncio.run(main())
