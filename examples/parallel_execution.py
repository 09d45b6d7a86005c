"""Side by side: all of them (`gather`), each of many (`map`), whoever is first (`race`).

    python examples/parallel_execution.py

Runs are kept in kagzi.db beside you, or where KAGZI_DATABASE_URL says.
"""

import asyncio
from dataclasses import dataclass

from kagzi import Kagzi, WorkflowContext

kagzi = Kagzi()


@dataclass
class Offer:
    profile: str
    prices: list[float]
    carrier: str


async def load_profile(user: str) -> str:
    await asyncio.sleep(0.1)
    return f"{user}, who likes lamps"


async def load_cart(user: str) -> list[str]:
    await asyncio.sleep(0.1)
    return ["lamp", "table", "chair"]


async def price_of(item: str) -> float:
    await asyncio.sleep(0.1)
    return len(item) * 10.0


async def ask_carrier(name: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return name


@kagzi.workflow("make-offer")
async def make_offer(ctx: WorkflowContext, user: str) -> Offer:
    profile, cart = await ctx.gather(
        ctx.step("load-profile", load_profile, user),
        ctx.step("load-cart", load_cart, user),
    )
    prices = await ctx.map("price", price_of, cart)
    _, carrier = await ctx.race(
        ctx.step("ask-slow-carrier", ask_carrier, "the slow one", 30),
        ctx.step("ask-fast-carrier", ask_carrier, "the fast one", 0.1),
    )
    return Offer(profile, prices, carrier)


async def main() -> None:
    async with kagzi, kagzi.create_worker():
        handle = await make_offer.start("Ada")
        offer = await handle.result(timeout=30)
        print(f"for {offer.profile}: {offer.prices}, by {offer.carrier}")


if __name__ == "__main__":
    asyncio.run(main())
