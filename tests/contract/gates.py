"""Gates in a database: who writes first stands at one with its locks held until the other has come. So which of two is
first is certain, and so is that the second began before the first was done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import apsw
import asyncpg

Verb = Callable[[], Awaitable[Any]]

_PATIENCE_S = 20.0
_LOCK = 4711

# Each row that is written waits for the lock, after its statement has locked the runs that it is about.
_BUILD = f"""
CREATE FUNCTION kagzi.gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared({_LOCK});
    RETURN NEW;
END
$$;
CREATE TRIGGER gate BEFORE INSERT OR UPDATE ON kagzi.workflow_runs FOR EACH ROW EXECUTE FUNCTION kagzi.gate();
CREATE TRIGGER gate BEFORE INSERT OR UPDATE ON kagzi.step_runs FOR EACH ROW EXECUTE FUNCTION kagzi.gate();
CREATE TRIGGER gate BEFORE INSERT OR UPDATE ON kagzi.messages FOR EACH ROW EXECUTE FUNCTION kagzi.gate();
"""

_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


class Gate(Protocol):
    """One gate, open except while two meet."""

    async def meet(self, first: Verb, second: Verb) -> tuple[Any, Any]:
        """Call both, the second once the first stands at the gate; open it once the second waits or is done."""


class PostgresGate:
    """Triggers that wait for a lock, which `holder` has meanwhile."""

    def __init__(self, holder: asyncpg.Connection, watcher: asyncpg.Connection) -> None:
        self._holder = holder
        self._watcher = watcher

    async def meet(self, first: Verb, second: Verb) -> tuple[Any, Any]:
        """See Gate."""
        await self._holder.execute("SELECT pg_advisory_lock($1)", _LOCK)
        try:
            one = asyncio.ensure_future(first())
            await self._until(1, one)
            assert not one.done(), "the first wrote nothing"
            other = asyncio.ensure_future(second())
            await self._until(2, other)
        finally:
            await self._holder.execute("SELECT pg_advisory_unlock($1)", _LOCK)
        return await one, await other

    async def _until(self, count: int, task: asyncio.Future[Any]) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while await self._watcher.fetchval(_WAITING) < count and not task.done():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)


class SqliteGate:
    """The file's one write lock: a store's verbs wait for it in the order in which they were called."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def meet(self, first: Verb, second: Verb) -> tuple[Any, Any]:
        """See Gate."""
        holder = apsw.Connection(self._path)
        holder.set_busy_timeout(int(_PATIENCE_S * 1000))
        await asyncio.to_thread(holder.execute, "BEGIN IMMEDIATE")
        one, other = asyncio.ensure_future(first()), asyncio.ensure_future(second())
        await asyncio.sleep(0)  # both have been called
        await asyncio.to_thread(holder.execute, "COMMIT")
        holder.close()
        return await one, await other


@asynccontextmanager
async def a_gate(url: str) -> AsyncIterator[Gate]:
    """A gate in the database at this URL, whose schema is there."""
    if url.startswith("sqlite"):
        yield SqliteGate(url.removeprefix("sqlite:///"))
        return
    holder, watcher = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        await holder.execute(_BUILD)
        yield PostgresGate(holder, watcher)
    finally:
        await holder.close()
        await watcher.close()
