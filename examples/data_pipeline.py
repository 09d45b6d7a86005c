"""Extract, transform, load: a pipeline that goes on where it was, and cleans its rows side by side.

    python examples/data_pipeline.py

Each stage is a step, so a crash in the last one repeats neither of the first two. Runs are kept in kagzi.db beside you,
or where KAGZI_DATABASE_URL says.
"""

import asyncio
import csv
import io
from dataclasses import dataclass

from kagzi import Err, Kagzi, Ok, ParallelErrorStrategy, WorkflowContext

kagzi = Kagzi()

SALES = """shop,item,amount
north,lamp,40.00
south,lamp,38.50
north,chair,not a number
south,table,120.00
north,table,99.90
"""


@dataclass
class Sale:
    shop: str
    item: str
    cents: int


@dataclass
class Report:
    cents_by_shop: dict[str, int]
    rejected: list[str]


async def extract(source: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(SALES)))  # here: a download, a query


def clean(row: dict[str, str]) -> Sale:
    try:
        cents = round(float(row["amount"]) * 100)
    except ValueError as error:
        raise ValueError(f"{row['shop']} sold a {row['item']} for {row['amount']!r}") from error
    return Sale(row["shop"], row["item"], cents)


def load(sales: list[Sale]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for sale in sales:
        totals[sale.shop] = totals.get(sale.shop, 0) + sale.cents
    return totals


@kagzi.workflow("data-pipeline")
async def pipeline(ctx: WorkflowContext, source: str) -> Report:
    rows = await ctx.step("extract", extract, source)
    cleaned = await ctx.map("clean", clean, rows, max_concurrency=4, on_error=ParallelErrorStrategy.COLLECT_ALL)
    sales, rejected = [], []
    for each in cleaned:
        match each:
            case Ok(sale):
                sales.append(sale)
            case Err(error):
                rejected.append(error.message)
    return Report(await ctx.step("load", load, sales), rejected)


async def main() -> None:
    async with kagzi, kagzi.create_worker():
        handle = await pipeline.start("sales.csv")
        report = await handle.result(timeout=30)
        for shop, cents in sorted(report.cents_by_shop.items()):
            print(f"{shop}: {cents / 100:.2f}")
        print(f"rejected: {report.rejected}")


if __name__ == "__main__":
    asyncio.run(main())
