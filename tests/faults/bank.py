"""A bank whose transfers are transactions: money is neither made nor lost, and each transfer happens once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from kagzi import Kagzi, RetryPolicy, RetryPredicate, Workflow, WorkflowContext, step_info
from tests.faults.database import SQLITE, harm, query

ACCOUNTS = 6
OPENING = 100_000
TRANSFERS = 5

# No constraint would refuse a transfer that happens twice: the books must come out right by themselves.
_TABLES = """
CREATE TABLE {public}accounts (number integer PRIMARY KEY, cents integer NOT NULL);
CREATE TABLE {public}transfers (step text NOT NULL, attempt integer NOT NULL);
"""


def open_bank(url: str) -> None:
    """Make the tables and the accounts; the database is Kagzi's, migrated or not."""
    public = "" if url.startswith(SQLITE) else "public."
    harm(url, _TABLES.format(public=public))
    for number in range(ACCOUNTS):
        harm(url, f"INSERT INTO {public}accounts VALUES ({number}, {OPENING})")


async def _on_postgres(conn: Any, giver: int, taker: int, cents: int) -> int:
    info = step_info()
    step = f"{info.run_id}/{info.step_id}"
    # Not in the order of the accounts' numbers: some transactions meet in a deadlock.
    await conn.execute("UPDATE public.accounts SET cents = cents - $1 WHERE number = $2", cents, giver)
    await conn.execute("UPDATE public.accounts SET cents = cents + $1 WHERE number = $2", cents, taker)
    await conn.execute("INSERT INTO public.transfers VALUES ($1, $2)", step, info.attempt)
    return cents


def _on_sqlite(conn: Any, giver: int, taker: int, cents: int) -> int:
    info = step_info()
    conn.execute("UPDATE accounts SET cents = cents - ? WHERE number = ?", (cents, giver))
    conn.execute("UPDATE accounts SET cents = cents + ? WHERE number = ?", (cents, taker))
    conn.execute("INSERT INTO transfers VALUES (?, ?)", (f"{info.run_id}/{info.step_id}", info.attempt))
    return cents


def register_bank(kagzi: Kagzi) -> Workflow[[int], int]:
    """Register `bank`: transfers in a row, half of them beside another one, and a short sleep in between."""
    transfer: Callable[..., Any] = _on_sqlite if kagzi.settings.database_url.startswith("sqlite") else _on_postgres

    @kagzi.workflow("bank")
    async def bank(ctx: WorkflowContext, seed: int) -> int:
        chance = random.Random(seed)
        sure = ctx.options(retry=RetryPolicy.fixed(0.02, max_attempts=1000), retry_if=RetryPredicate.ON_ANY_ERROR)

        def move() -> Any:
            giver, taker = chance.sample(range(ACCOUNTS), 2)
            return sure.transaction("transfer", transfer, giver, taker, chance.randint(1, 50))

        moved = 0
        for place in range(TRANSFERS):
            moved += await move()
            if place % 2:
                moved += sum(await ctx.gather(move(), move()))
            if place == 2:
                await ctx.sleep("nap", 0.05)
        return moved

    return bank


TRANSFERS_OF_A_RUN = TRANSFERS + 2 * (TRANSFERS // 2)


def check_books(url: str, *, runs: int) -> None:
    """Every transfer of so many completed runs happened once, and the money is all there (P12)."""
    public = "" if url.startswith(SQLITE) else "public."
    twice = f"SELECT step, count(*) FROM {public}transfers GROUP BY step HAVING count(*) > 1"
    assert _rows(url, twice) == []
    assert _rows(url, f"SELECT count(*) FROM {public}transfers") == [(runs * TRANSFERS_OF_A_RUN,)]
    assert _rows(url, f"SELECT sum(cents) FROM {public}accounts") == [(ACCOUNTS * OPENING,)]
    recorded = "SELECT count(*) FROM step_runs WHERE kind = 'STEP' AND status = 'COMPLETED'"
    assert query(url, recorded) == [(runs * TRANSFERS_OF_A_RUN,)]


def _rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    return query(url, sql)
