"""Starts, signals, events and cancellations inside the caller's own transaction: they commit or vanish with it (P3)."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Any

import apsw
import asyncpg
import psycopg
import pytest
from psycopg.rows import dict_row

from kagzi import (
    ConfigError,
    ConflictError,
    Kagzi,
    RunClosed,
    RunNotFound,
    Signal,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowHandle,
)
from tests.app.applications import until

# SQLAlchemy by name: whoever works on other things need not have it for the types to be checked.
sqlalchemy: Any = import_module("sqlalchemy")
orm: Any = import_module("sqlalchemy.orm")
aio: Any = import_module("sqlalchemy.ext.asyncio")

Lend = Callable[[str], AbstractAsyncContextManager[tuple[Any, Callable[[], Any], Callable[[], Any]]]]
"""Lends a connection in a transaction, with what commits it and what rolls it back; those may be awaitable."""

WORD = Signal("word", str)


@asynccontextmanager
async def by_asyncpg(url: str) -> AsyncIterator[tuple[Any, Any, Any]]:
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection, transaction.commit, transaction.rollback
    await connection.close()


@asynccontextmanager
async def by_asyncpg_pool(url: str) -> AsyncIterator[tuple[Any, Any, Any]]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield connection, transaction.commit, transaction.rollback


@asynccontextmanager
async def by_psycopg(url: str) -> AsyncIterator[tuple[Any, Any, Any]]:
    connection = psycopg.connect(url, row_factory=dict_row)
    yield connection, connection.commit, connection.rollback
    connection.close()


@asynccontextmanager
async def by_psycopg_async(url: str) -> AsyncIterator[tuple[Any, Any, Any]]:
    connection = await psycopg.AsyncConnection.connect(url, row_factory=dict_row)
    yield connection, connection.commit, connection.rollback
    await connection.close()


def by_sqlalchemy(driver: str, *, session: bool) -> Lend:
    @asynccontextmanager
    async def lend(url: str) -> AsyncIterator[tuple[Any, Any, Any]]:
        engine = sqlalchemy.create_engine(_with_driver(url, driver))
        with orm.Session(engine) if session else engine.connect() as lent:
            yield lent, lent.commit, lent.rollback
        engine.dispose()

    return lend


def by_sqlalchemy_async(driver: str, *, session: bool) -> Lend:
    @asynccontextmanager
    async def lend(url: str) -> AsyncIterator[tuple[Any, Any, Any]]:
        engine = aio.create_async_engine(_with_driver(url, driver))
        async with aio.AsyncSession(engine) if session else engine.connect() as lent:
            yield lent, lent.commit, lent.rollback
        await engine.dispose()

    return lend


@asynccontextmanager
async def by_apsw(url: str) -> AsyncIterator[tuple[Any, Any, Any]]:
    connection = apsw.Connection(url.removeprefix("sqlite:///"))
    connection.execute("BEGIN IMMEDIATE")
    yield connection, lambda: connection.execute("COMMIT"), lambda: connection.execute("ROLLBACK")
    connection.close()


def _with_driver(url: str, driver: str) -> str:
    return url.replace("postgresql:", f"postgresql+{driver}:")


ON_POSTGRES: dict[str, Lend] = {
    "asyncpg": by_asyncpg,
    "asyncpg pool": by_asyncpg_pool,
    "psycopg": by_psycopg,
    "psycopg async": by_psycopg_async,
    "sqlalchemy psycopg": by_sqlalchemy("psycopg", session=False),
    "sqlalchemy psycopg session": by_sqlalchemy("psycopg", session=True),
    "sqlalchemy async psycopg": by_sqlalchemy_async("psycopg", session=False),
    "sqlalchemy async asyncpg": by_sqlalchemy_async("asyncpg", session=False),
    "sqlalchemy async asyncpg session": by_sqlalchemy_async("asyncpg", session=True),
}


async def _settle(ending: Callable[[], Any]) -> None:
    answer = ending()
    if hasattr(answer, "__await__"):
        await answer


async def check_starts_and_signals(url: str, lend: Lend) -> None:
    """A start and a signal are nowhere before the commit, there after it, and nowhere after a rollback."""
    kagzi = Kagzi(url)

    @kagzi.workflow
    async def listen(ctx: WorkflowContext, word: str) -> list[str]:
        return [word, await ctx.wait_for(WORD)]

    async with kagzi, kagzi.create_worker():
        waiting = await listen.options(id="waiting").start("one")
        async with lend(url) as (connection, commit, _):
            view = listen.options(connection=connection, id="100%", tags=["50% :x $1"], attributes={"a": 1})
            started = await view.start("ünï'\"%s")
            same = await view.start("ünï'\"%s")
            assert same.run_id == started.run_id
            await waiting.signal(WORD, "two", dedup_key="once", connection=connection)
            for which in ("waiting", waiting.run_id):
                await kagzi.signal(which, WORD, "two", dedup_key="once", connection=connection)
            with pytest.raises(ConflictError):
                await waiting.signal(Signal("another"), 1, dedup_key="once", connection=connection)
            assert [run.id for run in await kagzi.find_runs()] == ["waiting"]
            await _settle(commit)
        assert await waiting.result(timeout=30) == ["one", "two"]
        await started.signal(WORD, "%")
        assert await started.result(timeout=30) == ["ünï'\"%s", "%"]
        assert (await started.describe()).tags == ("50% :x $1",)

        async with lend(url) as (connection, _, rollback):
            vanished = await listen.options(connection=connection, id="vanished").start("three")
            await _settle(rollback)
        with pytest.raises(RunNotFound):
            await vanished.status()

        async with lend(url) as (connection, _, rollback):
            with pytest.raises(ConflictError):
                await listen.options(connection=connection, id="waiting").start("another input")
            many = await kagzi.start_many(listen, ["four", "five"], connection=connection)
            assert len({handle.run_id for handle in many}) == 2
            await _settle(rollback)
        assert len(await kagzi.find_runs()) == 2


async def check_events(url: str, lend: Lend) -> None:
    """An event comes with the commit, to those who waited by then, and never after a rollback."""
    kagzi = Kagzi(url)

    @kagzi.workflow
    async def expect(ctx: WorkflowContext) -> Any:
        return await ctx.wait_for_event("paid", key="ünï'\"%s $1", lookback=0)

    @kagzi.on_event("paid")
    async def book(ctx: WorkflowContext, value: Any) -> Any:
        return value

    async with kagzi, kagzi.create_worker():
        first = await expect.start()
        await until(lambda: _waits(first))
        async with lend(url) as (connection, _, rollback):
            await kagzi.emit("paid", "never", key="ünï'\"%s $1", connection=connection)
            await _settle(rollback)
        async with lend(url) as (connection, commit, _):
            await kagzi.emit("paid", {"%s": ":x"}, key="ünï'\"%s $1", dedup_key="7", connection=connection)
            await kagzi.emit("paid", {"%s": ":x"}, key="ünï'\"%s $1", dedup_key="7", connection=connection)
            with pytest.raises(ConflictError, match="event 'sent' was not emitted: event 'paid' with key"):
                await kagzi.emit("sent", 1, dedup_key="7", connection=connection)
            waiting = [first]
            if "sqlite" not in url:  # there nobody else can write by now
                waiting.append(await expect.start())
                await until(lambda: _waits(waiting[-1]))
            assert await kagzi.find_runs(workflow="book") == []
            await _settle(commit)
        for handle in waiting:
            assert await handle.result(timeout=30) == {"%s": ":x"}
        (booking,) = await kagzi.find_runs(workflow="book")
        assert await kagzi.handle(booking.run_id).result(timeout=30) == {"%s": ":x"}


async def check_cancellations(url: str, lend: Lend) -> None:
    """A run goes on until the commit that ends it, and after a rollback; one that was not begun ends by the commit."""
    kagzi = Kagzi(url)

    @kagzi.workflow
    async def listen(ctx: WorkflowContext) -> str:
        return await ctx.wait_for(WORD)

    async with kagzi:
        asked, ended, kept = [await listen.start() for _ in range(3)]
        queued = await listen.options(queue="another").start()
        async with kagzi.create_worker():
            for handle in (asked, ended, kept):
                await until(lambda handle=handle: _waits(handle))  # type: ignore[misc]
            async with lend(url) as (connection, _, rollback):
                await kept.cancel("never", connection=connection)
                await kept.terminate("never", connection=connection)
                await _settle(rollback)
            await kept.signal(WORD, "kept")
            assert await kept.result(timeout=30) == "kept"
        async with lend(url) as (connection, commit, _):
            unseen = await listen.options(connection=connection).start()
            for _ in range(2):
                await asked.cancel("ünï'\"%s $1", connection=connection)
                await ended.terminate("gone", connection=connection)
                await queued.cancel("too late", connection=connection)
                await unseen.cancel(connection=connection)
            with pytest.raises(RunClosed):
                await kept.cancel(connection=connection)
            with pytest.raises(RunNotFound):
                await kagzi.handle(str(uuid.uuid4())).cancel(connection=connection)
            assert {run.status for run in await kagzi.find_runs(status="CANCELLED")} == set()
            await _settle(commit)
        assert {run.run_id for run in await kagzi.find_runs(status="CANCELLED")} == {
            handle.run_id for handle in (ended, queued, unseen)
        }
        async with kagzi.create_worker():
            with pytest.raises(WorkflowCancelled, match="ünï'\"%s \\$1"):
                await asked.result(timeout=30)


async def _waits(handle: WorkflowHandle[Any]) -> bool:
    return any("event" in what or "signal" in what for what in (await handle.describe()).waiting_for)


@pytest.mark.parametrize("driver", ON_POSTGRES)
async def test_on_postgresql_events_come_with_the_transaction(postgres_url: str, driver: str) -> None:
    """P3: also to a run whose wait began before the commit, and after the call."""
    await check_events(postgres_url, ON_POSTGRES[driver])


async def test_on_sqlite_events_come_with_the_transaction(sqlite_url: str) -> None:
    """P3."""
    await check_events(sqlite_url, by_apsw)


@pytest.mark.parametrize("driver", ON_POSTGRES)
async def test_on_postgresql_a_cancellation_comes_with_the_transaction(postgres_url: str, driver: str) -> None:
    """P3."""
    await check_cancellations(postgres_url, ON_POSTGRES[driver])


async def test_on_sqlite_a_cancellation_comes_with_the_transaction(sqlite_url: str) -> None:
    """P3."""
    await check_cancellations(sqlite_url, by_apsw)


@pytest.mark.parametrize("driver", ON_POSTGRES)
async def test_on_postgresql_they_commit_or_vanish_with_the_transaction(postgres_url: str, driver: str) -> None:
    """P3."""
    await check_starts_and_signals(postgres_url, ON_POSTGRES[driver])


async def test_on_sqlite_they_commit_or_vanish_with_the_transaction(sqlite_url: str) -> None:
    """P3."""
    await check_starts_and_signals(sqlite_url, by_apsw)


async def test_another_copy_of_sqlite_in_one_process_is_refused(sqlite_url: str) -> None:
    """It and ours don't see each other's locks, and would undo each other's commits."""
    kagzi = Kagzi(sqlite_url)
    plain = sqlite3.connect(":memory:")
    engine = sqlalchemy.create_engine("sqlite://")

    async with kagzi:
        with engine.connect() as by_sqlalchemy, orm.Session(engine) as by_session:
            for connection in (plain, by_sqlalchemy, by_session):
                with pytest.raises(ConfigError, match="apsw"):
                    await kagzi.options(connection=connection).start_workflow_version("flow", 1)
    plain.close()
    engine.dispose()


async def test_a_connection_without_a_transaction_is_refused(postgres_url: str) -> None:
    url = postgres_url
    kagzi = Kagzi(url)

    @kagzi.workflow
    async def flow(ctx: WorkflowContext) -> None: ...

    engine = sqlalchemy.create_engine(_with_driver(url, "psycopg"), isolation_level="AUTOCOMMIT")
    bare = await asyncpg.connect(url)
    async with kagzi:
        with psycopg.connect(url, autocommit=True) as psycopgs, engine.connect() as sqlalchemys:
            for connection in (bare, psycopgs, sqlalchemys):
                with pytest.raises(ConfigError, match="without an open transaction"):
                    await flow.options(connection=connection).start()
        assert await kagzi.find_runs() == []
    await bare.close()
    engine.dispose()


async def test_a_connection_to_another_database_is_refused(postgres_url: str, sqlite_url: str, tmp_path: Any) -> None:
    on_postgres, on_sqlite = Kagzi(postgres_url), Kagzi(sqlite_url)
    other = apsw.Connection(str(tmp_path / "other.db"))
    other.execute("BEGIN")
    elsewhere = await asyncpg.connect(postgres_url, database="postgres")

    async with on_postgres, on_sqlite, elsewhere.transaction():
        for kagzi, connection in ((on_postgres, other), (on_sqlite, other), (on_sqlite, elsewhere)):
            with pytest.raises(ConfigError, match="database"):
                await kagzi.options(connection=connection).start_workflow_version("flow", 1)
        with pytest.raises(ConfigError, match="KAGZI_DATABASE_URL"):
            await on_postgres.options(connection=elsewhere).start_workflow_version("flow", 1)
    with pytest.raises(TypeError, match="not known"):
        on_sqlite.options(connection=object())
    other.close()
    await elsewhere.close()


async def test_a_delay_counts_from_the_start_and_not_from_the_transactions_beginning(
    postgres_url: str,
) -> None:
    """P18."""
    kagzi = Kagzi(postgres_url)

    @kagzi.workflow
    async def flow(ctx: WorkflowContext) -> None: ...

    connection = await asyncpg.connect(postgres_url)
    async with kagzi:
        async with connection.transaction():
            await connection.execute("SELECT pg_sleep(0.3)")
            begun = await connection.fetchval("SELECT now()")
            handle = await flow.options(connection=connection, delay=1).start()
        run = await handle.describe()
    await connection.close()

    assert run.wake_at is not None
    assert (run.wake_at - begun).total_seconds() >= 1.3
