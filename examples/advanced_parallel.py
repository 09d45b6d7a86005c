"""Groups in depth: a limit, failures that are collected or stop the group, groups in groups, a sleep in one branch.

    python examples/advanced_parallel.py

Runs are kept in kagzi.db beside you, or where KAGZI_DATABASE_URL says.
"""

import asyncio

from kagzi import Err, Kagzi, Ok, ParallelErrorStrategy, ParallelExecutor, StepFailed, WorkflowContext

kagzi = Kagzi()


async def check(what: str) -> str:
    await asyncio.sleep(0.02)
    if what == "fraud":
        raise ValueError("looks odd")
    return f"{what} is fine"


async def build(part: str) -> str:
    await asyncio.sleep(0.02)
    return f"{part} built"


@kagzi.workflow("collect-all")
async def collect_all(ctx: WorkflowContext) -> list[str]:
    """Every check is made, whatever the others say; two at a time."""
    async with ctx.parallel("checks", on_error=ParallelErrorStrategy.COLLECT_ALL, max_concurrency=2) as group:
        for what in ("stock", "fraud", "address", "credit"):
            group.step(what, check, what)
    lines = []
    for result in group.results:  # in the order of the calls
        match result:
            case Ok(value):
                lines.append(value)
            case Err(error):
                lines.append(f"failed: {error.message}")
    return lines


@kagzi.workflow("fail-fast")
async def fail_fast(ctx: WorkflowContext) -> str:
    """The first failure cancels what still runs, and is raised."""
    try:
        async with ctx.parallel("checks") as group:
            group.step("fraud", check, "fraud")
            group.sleep("a-month", 30 * 24 * 3600)
    except StepFailed as failed:
        return f"stopped by {failed.step}: {failed.error.message}"
    return "never"


async def build_wing(ctx: WorkflowContext, wing: str) -> list[str]:
    """A branch of several steps, with a group of its own."""
    foundation = await ctx.step("foundation", build, f"{wing} foundation")
    async with ctx.parallel("walls") as walls:
        for side in ("left", "right"):
            walls.step("wall", build, f"{wing} {side} wall")
    return [foundation, *(result.unwrap() for result in walls.results)]


@kagzi.workflow("build-house")
async def build_house(ctx: WorkflowContext) -> list[str]:
    """Groups in a group; one branch waits before it begins, and holds up nobody."""
    async with ctx.parallel("house") as house:
        east = house.start(build_wing(ctx, "east"))
        west = house.start(after_rain(ctx, "west"))
    return [*east.result(), *west.result()]


async def after_rain(ctx: WorkflowContext, wing: str) -> list[str]:
    await ctx.sleep("rain", 0.1)
    return await build_wing(ctx, wing)


@kagzi.workflow("by-executor")
async def by_executor(ctx: WorkflowContext) -> list[str]:
    """The same without a block."""
    executor = ParallelExecutor(ctx, "parts", ParallelErrorStrategy.COLLECT_ALL)
    executor.execute_step("step-1", build, "roof")
    executor.execute_step("step-2", build, "chimney")
    return [result.unwrap() for result in await executor.join()]


async def main() -> None:
    async with kagzi, kagzi.create_worker():
        print(await (await collect_all.start()).result(timeout=30))
        print(await (await fail_fast.start()).result(timeout=30))
        print(await (await build_house.start()).result(timeout=30))
        print(await (await by_executor.start()).result(timeout=30))


if __name__ == "__main__":
    asyncio.run(main())
