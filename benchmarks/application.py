"""The workflows that are measured. Their steps do nothing, so that all time spent is Kagzi's and the database's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter

from kagzi import Kagzi, Signal, Workflow, WorkflowContext

PING = Signal("ping", int)


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """An application and its workflows. Each returns the sum of what its steps were given."""

    kagzi: Kagzi
    sequence: Workflow[[int], int]
    fan_out: Workflow[[int], int]
    grouped: Workflow[[int], int]
    sleeper: Workflow[[float], int]
    waiter: Workflow[[], float]


async def same(number: int) -> int:
    return number


async def sequence(ctx: WorkflowContext, steps: int) -> int:
    """Steps one after the other."""
    total = 0
    for number in range(steps):
        total += await ctx.step("same", same, number)
    return total


async def fan_out(ctx: WorkflowContext, steps: int) -> int:
    """Steps all at once."""
    return sum(await asyncio.gather(*[ctx.step("same", same, number) for number in range(steps)]))


async def grouped(ctx: WorkflowContext, branches: int) -> int:
    """Steps that are branches of a parallel group."""
    async with ctx.parallel("group") as group:
        for number in range(branches):
            group.step("same", same, number)
    return sum(result.unwrap() for result in group.results)


async def sleeper(ctx: WorkflowContext, until: float) -> int:
    """A sleep until a moment in seconds since the epoch, then one step."""
    await ctx.sleep_until("rest", datetime.fromtimestamp(until, UTC))
    return await ctx.step("same", same, 1)


async def waiter(ctx: WorkflowContext) -> float:
    """A wait for a signal; gives when the body had it, by a clock that all processes of a machine share."""
    await ctx.wait_for(PING)
    return perf_counter()


def application(url: str | None = None) -> Application:
    """Make the application on a database (else that of the environment); not connected yet."""
    kagzi = Kagzi(url)
    return Application(
        kagzi=kagzi,
        sequence=kagzi.register_workflow("sequence", sequence),
        fan_out=kagzi.register_workflow("fan-out", fan_out),
        grouped=kagzi.register_workflow("grouped", grouped),
        sleeper=kagzi.register_workflow("sleeper", sleeper),
        waiter=kagzi.register_workflow("waiter", waiter),
    )


def expected_sum(steps: int) -> int:
    """What `sequence`, `fan_out` and `grouped` return."""
    return steps * (steps - 1) // 2
