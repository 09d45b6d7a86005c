"""Transactions of users: their SQL, and in the same transaction the checkpoint of their step."""

# ruff: noqa: S608 - SQL is put together from constants, and the schema name is quoted.

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import datetime
from typing import Any, TypeVar

import asyncpg

from kagzi.errors import KagziError, StoreUnavailable
from kagzi.model.change import Applied, Change
from kagzi.model.run import RunStatus
from kagzi.model.transaction import Transacted, Transaction
from kagzi.store.postgres.address import Address, Names
from kagzi.store.postgres.commit import record_arguments
from kagzi.store.postgres.commit_sql import COLUMNS, OF_AN_EARLIER_ATTEMPT, ON_CONFLICT
from kagzi.store.postgres.connections import PLANNER, Connection, Connections, Row, durable, set_local
from kagzi.store.postgres.failures import RETRYABLE, explain

T = TypeVar("T")

# Gone where the user's code has ended the transaction that it was given, even if it has begun another.
_MARK = "SET LOCAL kagzi.marked = 'on'"
_IS_MARKED = "SELECT current_setting('kagzi.marked', true) IS NOT DISTINCT FROM 'on'"

# Under the run's row lock from here to the COMMIT that follows at once; none is held while the user's code runs. The
# time is that of now, not that of the transaction's beginning: what the run reckons from it must not be early (P18).
_RECORD = f"""
WITH owned AS MATERIALIZED (
    SELECT w.run_id FROM {{schema}}.workflow_runs AS w
    WHERE w.run_id = $1 AND w.fence = $2 AND w.status = 'RUNNING' AND current_setting('kagzi.marked', true) = 'on'
    FOR NO KEY UPDATE
)
INSERT INTO {{schema}}.step_runs ({COLUMNS})
SELECT owned.run_id, $3, $4, $5, $6, $7, $8, $9, $10::timestamptz, clock_timestamp(), $11::uuid FROM owned
{ON_CONFLICT} {OF_AN_EARLIER_ATTEMPT}
RETURNING finished_at
"""

# Waits for a transaction that is still committing, which holds this lock. What it wrote is to be seen, so the question
# for it has a statement, and a snapshot, of its own.
_WAIT = """
SELECT r.fence, r.status, now() FROM {schema}.workflow_runs AS r WHERE r.run_id = $1 FOR NO KEY UPDATE
"""
_WRITTEN = """
SELECT s.finished_at FROM {schema}.step_runs AS s WHERE s.run_id = $1 AND s.step_id = $2 AND s.seq = $3
"""


class Transactor:
    """The verbs `transact` and `transacted`.

    `lent` are the connections for users' code: with the server's own settings for the planner, not with ours.
    """

    def __init__(
        self, lent: Connections, own: Connections, address: Address, names: Names, *, timeout_s: float
    ) -> None:
        self._lent = lent
        self._own = own
        self._address = address
        self._timeout_s = timeout_s
        self._record = names.fill(_RECORD)
        self._wait = names.fill(_WAIT)
        self._written = names.fill(_WRITTEN)
        self._before_the_record = set_local(PLANNER) + durable(for_transaction=True)

    async def transact(self, transaction: Transaction) -> Transacted:
        """Five trips beside those of the user's code, and one to leave the connection as it was."""
        connection = await self._lent.lend()
        try:
            at = await self._within(connection, transaction)
            is_tidy = await self._tidy(connection)
        except BaseException as error:
            # An error of the user's own SQL is nothing to the connection; whatever else it was, it may be.
            if isinstance(error, Exception) and not connection.is_in_transaction() and await self._tidy(connection):
                self._lent.give_back(connection)
            else:
                self._lent.discard(connection)
            raise
        if is_tidy:
            self._lent.give_back(connection)
        else:
            self._lent.discard(connection)
        if at is None:
            assert transaction.change is not None
            written = await self.transacted(transaction.change)
            if written is None:
                raise StoreUnavailable("a transaction was rolled back, and its run is as it was. Try again.")
            return written
        return Transacted(outcome=Applied.APPLIED, at=at)

    async def transacted(self, change: Change) -> Transacted | None:
        """Two trips."""
        record = change.records[0]
        runs = await self._own.fetch(self._wait, change.run_id)
        rows = await self._own.fetch(self._written, change.run_id, record.step_id, record.seq)
        if not runs or runs[0][0] != change.fence:
            return Transacted(outcome=Applied.LOST, at=runs[0][2] if runs else await self._own.now())
        if rows and rows[0][0] is not None:
            return Transacted(outcome=Applied.ALREADY, at=rows[0][0])
        return None if runs[0][1] == RunStatus.RUNNING else Transacted(outcome=Applied.LOST, at=runs[0][2])

    async def _within(self, connection: Connection, transaction: Transaction) -> datetime | None:
        """Do all of it; None where nothing was written, as the run is not ours."""
        outer = connection.transaction(isolation="read_committed")
        await self._ours(outer.start())
        await self._ours(connection.execute(_MARK))
        try:
            value = await transaction.execute(connection)
        except Exception as error:
            if connection.is_closed():
                raise StoreUnavailable(
                    f"the connection to PostgreSQL at {self._address.shown} was lost under a transaction "
                    f"({type(error).__name__}: {error})."
                ) from error
            if connection.is_in_transaction():
                await self._ours(outer.rollback())
            raise
        await transaction.turn()
        rows = await self._ours(self._write(connection, transaction.settle(value)))
        if rows:
            await self._ours(outer.commit())
            at: datetime = rows[0][0]
            return at
        if not (await self._ours(connection.fetch(_IS_MARKED)))[0][0]:
            raise KagziError(
                "the function of a transaction ended the transaction itself (COMMIT, ROLLBACK), so what it did may be "
                "done twice. Leave that to Kagzi; `async with conn.transaction()` makes a savepoint."
            )
        await self._ours(outer.rollback())
        return None

    async def _write(self, connection: Connection, change: Change) -> list[Row]:
        await connection.execute(self._before_the_record)
        rows: list[Row] = await connection.fetch(
            self._record, change.run_id, change.fence, *record_arguments(change.records[0])
        )
        return rows

    async def _ours(self, work: Awaitable[T]) -> T:
        """Do something that is ours, not the user's, in time, and say what its failure means to us."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await work
        except asyncpg.InFailedSQLTransactionError as error:
            raise KagziError(
                "an error of the database had ended the transaction, but its function went on and returned. Let such "
                "errors pass, or put what may fail into `async with conn.transaction()`, which makes a savepoint."
            ) from error
        except RETRYABLE:
            raise  # the server undid it, so it is the step that has failed
        except Exception as error:
            told: Any = explain(error, self._address)
            if told is None:
                raise
            raise told from error

    async def _tidy(self, connection: Connection) -> bool:
        """Undo what the user's code has set for its session; False where that can't be."""
        if self._address.pooled:
            return not connection.is_closed()
        try:
            await connection.reset(timeout=self._timeout_s)
        except Exception:
            return False
        return True
