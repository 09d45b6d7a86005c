"""Transactions: the user's SQL and the checkpoint of the step commit together, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from kagzi import Kagzi, RetryPolicy, StepFailed, WorkflowContext, step_info
from tests.app.watched_store import WatchedStore
from tests.faults.database import harm, query

ACCOUNTS = "CREATE TABLE accounts (name text PRIMARY KEY, cents integer NOT NULL CHECK (cents >= 0))"
OPEN = "INSERT INTO accounts VALUES ('ada', 1000), ('bob', 1000)"


@pytest.fixture
async def bank(kagzi: Kagzi, any_database_url: str) -> AsyncIterator[str]:
    """The URL of a database with two accounts of 1,000 each, migrated, to which `kagzi` is connected."""
    async with kagzi:
        harm(any_database_url, f"{_PUBLIC if _is_postgres(any_database_url) else ''} {ACCOUNTS}; {OPEN}")
        yield any_database_url


def move(url: str) -> Callable[..., Any]:
    """A function for transactions that moves money, for the database of this URL."""

    async def on_postgres(conn: asyncpg.Connection, cents: int) -> int:
        await conn.execute("UPDATE accounts SET cents = cents + $1 WHERE name = 'bob'", cents)
        await conn.execute("UPDATE accounts SET cents = cents - $1 WHERE name = 'ada'", cents)
        left: int = await conn.fetchval("SELECT cents FROM accounts WHERE name = 'ada'")
        return left

    def on_sqlite(conn: Any, cents: int) -> int:
        conn.execute("UPDATE accounts SET cents = cents + ? WHERE name = 'bob'", (cents,))
        conn.execute("UPDATE accounts SET cents = cents - ? WHERE name = 'ada'", (cents,))
        left: int = conn.execute("SELECT cents FROM accounts WHERE name = 'ada'").fetchall()[0][0]
        return left

    return on_postgres if _is_postgres(url) else on_sqlite


def balances(url: str) -> list[int]:
    if _is_postgres(url):
        return [row[0] for row in query(url, "SELECT cents FROM public.accounts ORDER BY name")]
    return [row[0] for row in query(url, "SELECT cents FROM accounts ORDER BY name")]


_PUBLIC = "SET search_path = public;"


def _is_postgres(url: str) -> bool:
    return url.startswith("postgres")


async def test_a_transaction_commits_the_users_sql_and_its_checkpoint(kagzi: Kagzi, bank: str) -> None:
    """P12."""

    @kagzi.workflow
    async def transfer(ctx: WorkflowContext) -> list[int]:
        first = await ctx.transaction("move", move(bank), 100)
        await ctx.step("between", str)
        return [first, *await asyncio.gather(*(ctx.transaction("more", move(bank), 50) for _ in range(3)))]

    async with kagzi.create_worker():
        handle = await transfer.start()
        result = await handle.result(timeout=30)

    assert result[0] == 900
    assert sorted(result[1:]) == [750, 800, 850]
    assert balances(bank) == [750, 1250]
    steps = await handle.history()
    assert [step.name for step in steps] == ["move", "between", "more", "more", "more"]
    assert all(step.finished_at is not None for step in steps)


async def test_a_transaction_that_fails_leaves_nothing_and_is_tried_again(kagzi: Kagzi, bank: str) -> None:
    @kagzi.workflow
    async def transfer(ctx: WorkflowContext) -> int:
        with suppress(StepFailed):
            await ctx.transaction("too much", move(bank), 2000)
        retried = ctx.options(retry=RetryPolicy.fixed(0.01, max_attempts=3), retry_if=lambda error: True)
        return await retried.transaction("flaky", flaky, 10)

    tries: list[int] = []

    async def flaky_async(conn: Any, cents: int) -> int:
        left: int = await move(bank)(conn, cents)
        tries.append(step_info().attempt)
        if len(tries) < 3:
            raise RuntimeError("not yet")
        return left

    def flaky_plain(conn: Any, cents: int) -> int:
        left: int = move(bank)(conn, cents)
        tries.append(step_info().attempt)
        if len(tries) < 3:
            raise RuntimeError("not yet")
        return left

    flaky = flaky_async if _is_postgres(bank) else flaky_plain
    async with kagzi.create_worker():
        result = await (await transfer.start()).result(timeout=30)

    assert result == 990
    assert tries == [1, 2, 3]
    assert balances(bank) == [990, 1010]


async def test_a_transaction_whose_answer_is_lost_is_executed_once(
    kagzi: Kagzi, store: WatchedStore, bank: str
) -> None:
    """P4, P12."""

    @kagzi.workflow
    async def transfer(ctx: WorkflowContext) -> int:
        return await ctx.transaction("move", move(bank), 100)

    store.mute.add("transact")
    async with kagzi.create_worker():
        result = await (await transfer.start()).result(timeout=30)

    assert result == 900
    assert balances(bank) == [900, 1100]
    assert store.trips["transact"] == store.trips["transacted"] == 1


async def test_what_happens_beside_a_transaction_keeps_its_place_in_the_order(kagzi: Kagzi, bank: str) -> None:
    """Steps that end while a transaction is under way come before it or after it, the same in a replay."""

    async def step(number: int) -> int:
        await asyncio.sleep(number % 7 / 1000)
        return number

    @kagzi.workflow
    async def busy(ctx: WorkflowContext) -> list[int]:
        seen: list[int] = []

        async def branch(number: int) -> None:
            for _ in range(5):
                seen.append(await ctx.step("step", step, number))
                seen.append(await ctx.transaction("move", move(bank), 1))
                seen.append(await ctx.step("again", step, number + 3))

        await asyncio.gather(*(branch(number) for number in range(12)))
        return seen

    async with kagzi.create_worker():
        handle = await busy.start()
        result = await handle.result(timeout=60)
        replayed = [each async for each in kagzi.replays([handle.run_id])]

    assert balances(bank) == [940, 1060]
    assert sorted(result)[-60:] == list(range(940, 1000))
    assert [each.error for each in replayed] == [None]
    places = query(bank, "SELECT seq FROM step_runs ORDER BY seq")
    assert places == [(place,) for place in range(1, 181)]
