"""The smallest whole: connect, register, start, run with a worker, print.

    python examples/simple.py

Runs are kept in kagzi.db beside you, or where KAGZI_DATABASE_URL says.
"""

import asyncio

from kagzi import Kagzi, WorkflowContext

kagzi = Kagzi()


async def fetch_user(user_id: int) -> str:
    return {42: "Ada", 43: "Grace"}.get(user_id, "stranger")


def make_greeting(name: str) -> str:  # a plain function runs in a thread
    return f"Hello, {name}!"


@kagzi.workflow
async def greet(ctx: WorkflowContext, user_id: int) -> str:
    name = await ctx.step("fetch-user", fetch_user, user_id)
    await ctx.sleep("breathe", 0.2)
    return await ctx.step("make-greeting", make_greeting, name)


async def main() -> None:
    async with kagzi:
        handle = await greet.start(42)
        async with kagzi.create_worker():
            print(await handle.result(timeout=30))


if __name__ == "__main__":
    asyncio.run(main())
