"""Two versions of a workflow beside each other, the default in the database, and a change under running runs.

    python examples/workflow_versioning.py

A run stays on the version that it was started with. For a small change, `ctx.patched` lets runs that are under way go
on as they began, and new ones take the new path. Runs are kept in kagzi.db beside you, or where KAGZI_DATABASE_URL
says.
"""

import asyncio

from kagzi import Kagzi, VersionDeprecated, WorkflowContext

kagzi = Kagzi()


async def tax_of(cents: int, percent: int) -> int:
    return cents * percent // 100


async def round_up(cents: int) -> int:
    return -(-cents // 100) * 100


@kagzi.workflow("invoice", version=1)
async def invoice_v1(ctx: WorkflowContext, cents: int) -> str:
    await ctx.sleep("until-month-end", 0.3)
    tax = await ctx.step("tax", tax_of, cents, 19)
    return f"version 1: {cents + tax}"


@kagzi.workflow("invoice", version=2)
async def invoice_v2(ctx: WorkflowContext, cents: int) -> str:
    tax = await ctx.step("tax", tax_of, cents, 21)
    total = cents + tax
    if ctx.patched("round-up"):  # False in runs that were further than this before the change was deployed
        total = await ctx.step("round-up", round_up, total)
    return f"version 2: {total}"


async def main() -> None:
    async with kagzi, kagzi.create_worker():
        await kagzi.set_default_workflow_version("invoice", 1)
        old = await invoice_v1.start(1050)

        await kagzi.set_default_workflow_version("invoice", 2)  # for every process on this database
        new = await kagzi.start_workflow("invoice", 1050)
        print(f"the default is {await kagzi.get_default_workflow_version('invoice')}")
        print(await new.result(timeout=30))
        print(await old.result(timeout=30))

        by_hand = await kagzi.start_workflow_version("invoice", 1, 2000)
        print(f"open runs of version 1: {(await kagzi.count_open_runs())['invoice', 1]}")
        print(await by_hand.result(timeout=30))

        await kagzi.deprecate_workflow_version("invoice", 1)  # open runs go on, and none is started any more
        try:
            await kagzi.start_workflow_version("invoice", 1, 2000)
        except VersionDeprecated as error:
            print(error)
        await kagzi.undeprecate_workflow_version("invoice", 1)


if __name__ == "__main__":
    asyncio.run(main())
