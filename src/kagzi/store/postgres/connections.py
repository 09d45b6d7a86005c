"""Connections to the server: a few, kept open, the one used last taken first.

Our own instead of asyncpg's pool: that one costs 60 µs a loan, and its proxies hide when a connection is broken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from kagzi.clock import monotonic
from kagzi.errors import ConfigError, StoreUnavailable
from kagzi.settings import Settings
from kagzi.store.postgres.address import Address
from kagzi.store.postgres.failures import RETRYABLE, explain

Row = asyncpg.Record
Connection = asyncpg.Connection  # without its type parameter: asyncpg's class takes none at run time

_PATIENCE = 4  # how often a statement that the server undid (deadlock, serialization) is done again
_LONGEST_CONNECT_S = 10.0

# The driver asks the server what these types are when it first meets them, and turns `jit` off meanwhile, for the
# session. Behind a pooler that would stay for the server's next user, so they are met where it can be undone.
_TYPES_TO_MEET = "SELECT NULL::boolean[], NULL::integer[], NULL::uuid[], NULL::timestamptz[]"

# Every statement of ours is a handful of index lookups. A plan made while the tables were young and empty is kept by
# the connection, so it must not depend on how empty they were: nested loops over indexes, always.
PLANNER = {
    "jit": "off",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    # Left to itself, the server plans a statement anew while it thinks that the arguments matter: 0.9 ms a claim, of
    # which the execution takes 0.2.
    "plan_cache_mode": "force_generic_plan",
}

# A start must be on disk when it is acknowledged. What is stronger than `on` (remote_apply) stays.
_DURABLE = """
SELECT set_config('synchronous_commit', 'on', {for_transaction})
WHERE current_setting('synchronous_commit') IN ('off', 'local')
"""


class Connections:
    """At most `size` connections to one address.

    `lent_for` is given where they are for SQL that isn't ours: how long a statement of it may take, and a pause between
    two. The planner is then as the server has it.
    """

    def __init__(self, address: Address, settings: Settings, *, size: int, lent_for: timedelta | None = None) -> None:
        self._address = address
        self._timeout_s = settings.store_timeout.total_seconds()
        self._session: dict[str, str] | None = None
        if lent_for is not None:
            self._session = _limits(statement_s=lent_for.total_seconds(), idle_s=lent_for.total_seconds())
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._out: set[Connection] = set()
        self._closed = False
        self._prologue = _transaction_prologue(self._timeout_s) if address.pooled else ""

    def unlock(self) -> None:
        """Allow connections again after `close`."""
        self._closed = False

    async def open(self) -> None:
        """Connect once, so that a wrong URL is told now. Idempotent."""
        self.unlock()
        if not self._idle and not self._out:
            await self.fetch("SELECT 1")

    async def close(self) -> None:
        """End every connection; what is under way on one ends in StoreUnavailable. Idempotent."""
        self._closed = True
        for connection in (*self._idle, *self._out):
            connection.terminate()
        self._idle.clear()

    async def fetch(self, sql: str, *arguments: Any) -> list[Row]:
        """Run one statement in a transaction of its own and return its rows.

        Raises StoreUnavailable where the server can't be reached or doesn't answer within `store_timeout`.
        """
        for _ in range(_PATIENCE):
            with suppress(*RETRYABLE):
                return await self._fetch(sql, arguments)
        try:
            return await self._fetch(sql, arguments)
        except RETRYABLE as error:
            raise _explained(error, self._address) from error

    async def now(self) -> datetime:
        """The store's clock."""
        now: datetime = (await self.fetch("SELECT now()"))[0][0]
        return now

    @asynccontextmanager
    async def transaction(self, *, timeout_s: float) -> AsyncIterator[Connection]:
        """Lend a connection for one transaction of several statements, which ends within `timeout_s`."""
        connection = await self._take()
        try:
            async with asyncio.timeout(timeout_s), connection.transaction(isolation="read_committed"):
                limits = _limits(statement_s=timeout_s, idle_s=self._timeout_s)
                await connection.execute(set_local(limits))
                yield connection
        except BaseException:
            self.discard(connection)
            raise
        self.give_back(connection)

    async def lend(self) -> Connection:
        """Lend a connection for as long as somebody wants it, once there is one.

        Goes to `give_back` or `discard`. Raises StoreUnavailable where the server can't be reached.
        """
        await self._free.acquire()  # no deadline: whoever has one is bound by the server's
        return await self._pick(monotonic() + self._timeout_s)

    async def _fetch(self, sql: str, arguments: tuple[Any, ...]) -> list[Row]:
        connection = await self._take()
        try:
            if self._prologue:
                rows = await self._fetch_pooled(connection, sql, arguments)
            else:
                rows = await connection.fetch(sql, *arguments, timeout=self._timeout_s)
        except RETRYABLE:
            self.give_back(connection)
            raise
        except asyncpg.PostgresError as error:
            self.discard(connection)
            raise _explained(error, self._address) from error
        except Exception as error:
            self.discard(connection)
            self._distrust()
            raise _explained(error, self._address) from error
        except BaseException:  # cancelled: the server may still be at it; its answer must not meet the next question
            self.discard(connection)
            raise
        self.give_back(connection)
        return rows

    async def _fetch_pooled(self, connection: Connection, sql: str, arguments: tuple[Any, ...]) -> list[Row]:
        async with asyncio.timeout(self._timeout_s):
            await connection.execute(self._prologue)
            try:
                rows: list[Row] = await connection.fetch(sql, *arguments)
            except asyncpg.PostgresError:
                await connection.execute("ROLLBACK")
                raise
            await connection.execute("COMMIT")
            return rows

    async def _take(self) -> Connection:
        deadline = monotonic() + self._timeout_s
        try:
            if self._free.locked():
                async with asyncio.timeout(self._timeout_s):
                    await self._free.acquire()
            else:
                await self._free.acquire()
        except TimeoutError as error:
            raise StoreUnavailable(
                f"every connection to PostgreSQL at {self._address.shown} was busy for {self._timeout_s:g} s. "
                "Raise KAGZI_POOL_SIZE, or look for slow statements."
            ) from error
        return await self._pick(deadline)

    async def _pick(self, deadline: float) -> Connection:
        """An idle connection or a new one, for a place that is ours."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                self._out.add(connection)
                return connection
        try:
            if self._closed:
                raise StoreUnavailable("the store is closed. Open it again, or keep it open while calls are under way.")
            connection = await connect(
                self._address,
                timeout_s=deadline - monotonic(),
                statement_s=self._timeout_s,
                session=self._session,
            )
        except BaseException:
            self._free.release()
            raise
        self._out.add(connection)
        return connection

    def give_back(self, connection: Connection) -> None:
        """Take back a connection that can be used again."""
        self._out.discard(connection)
        if self._closed:
            connection.terminate()
        else:
            self._idle.append(connection)
        self._free.release()

    def discard(self, connection: Connection) -> None:
        """Take back a connection that is broken, or may be."""
        self._out.discard(connection)
        connection.terminate()
        self._free.release()

    def _distrust(self) -> None:
        """Drop the idle connections too: what broke one has likely broken them all, and each would cost a time-out."""
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()


async def connect(
    address: Address, *, timeout_s: float, statement_s: float, session: dict[str, str] | None = None
) -> Connection:
    """Open a connection that keeps our promises about durability and plans. Raises StoreUnavailable, ConfigError."""
    try:
        connection: Connection = await asyncpg.connect(
            address.url,
            timeout=max(0.001, min(timeout_s, _LONGEST_CONNECT_S)),
            server_settings=None if address.pooled else _session_settings(statement_s, session),
            # A pooler may give every transaction another server, which knows no statement prepared before.
            statement_cache_size=0 if address.pooled else 200,
            max_cached_statement_lifetime=0,
        )
    except Exception as error:
        raise _explained(error, address) from error
    try:
        await _prepare(connection, address, timeout_s=statement_s)
    except BaseException as error:
        connection.terminate()
        if isinstance(error, Exception) and (told := explain(error, address)) is not None:
            raise told from error
        raise
    return connection


async def _prepare(connection: Connection, address: Address, *, timeout_s: float) -> None:
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        raise ConfigError(
            f"the database at {address.shown} keeps text in {encoding}, which can't hold every payload. "
            "Use one made with ENCODING 'UTF8'."
        )
    if not address.pooled:
        await connection.execute(durable(for_transaction=False), timeout=timeout_s)
        return
    async with asyncio.timeout(timeout_s):
        await connection.execute("BEGIN")
        await connection.fetch(_TYPES_TO_MEET)
        await connection.execute("ROLLBACK")


def _session_settings(statement_s: float, session: dict[str, str] | None) -> dict[str, str]:
    return {
        **(PLANNER | _limits(statement_s=statement_s, idle_s=statement_s) if session is None else session),
        "application_name": "kagzi",
        "default_transaction_isolation": "read committed",
    }


def _transaction_prologue(statement_s: float) -> str:
    """What a pooled call begins with, in one trip: settings must not outlive the transaction."""
    settings = set_local(PLANNER | _limits(statement_s=statement_s, idle_s=statement_s))
    return f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {settings} {durable(for_transaction=True)}"


def _limits(*, statement_s: float, idle_s: float) -> dict[str, str]:
    """How long the server goes on for a caller who has given up, or has vanished without a word."""
    return {
        "statement_timeout": str(max(1, int(statement_s * 1000))),
        "idle_in_transaction_session_timeout": str(max(1, int(idle_s * 1000))),
    }


def durable(*, for_transaction: bool) -> str:
    """The statement that has commits waited for, in this session or this transaction."""
    return _DURABLE.format(for_transaction="true" if for_transaction else "false")


def set_local(settings: dict[str, str]) -> str:
    """The statements that let settings hold for this transaction."""
    return "".join(f"SET LOCAL {name} = {value};" for name, value in settings.items())


def _explained(error: BaseException, address: Address) -> BaseException:
    return explain(error, address) or error
