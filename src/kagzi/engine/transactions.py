"""Executing transactions: the user's SQL and the checkpoint of the step commit together, or not at all (P12)."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Protocol

from kagzi.clock import monotonic
from kagzi.engine.deliveries import Delivery
from kagzi.engine.running import Limit, RunningStep, StepTimeout
from kagzi.errors import StoreUnavailable
from kagzi.model.change import Change
from kagzi.model.transaction import Transacted, Transaction
from kagzi.store.protocol import Store

logger = logging.getLogger("kagzi.transactions")

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0

_LOSSES = 10
"""How often in a row the connection may be lost under the user's code before that counts as the code's failure: it may
be what kills the connection."""


class Owner(Protocol):
    """The execution that a transaction belongs to."""

    async def take_turn(self) -> int:
        """Wait until the run's other writes are durable, and hold back those that come; returns the place for ours."""

    def give_turn(self, place: int) -> None:
        """Let the run's other writes go on; nothing was written at that place."""

    def settle_at(self, running: RunningStep, value: Any, place: int) -> tuple[Change, Delivery]:
        """Make the change of a step that returned `value`. Raises PayloadError."""


class OpenTransaction:
    """One execution of a transaction, which a store carries out: `kagzi.model.transaction.Transaction`.

    `call` awaits an `async def` function within the step's timeout.
    """

    def __init__(
        self, owner: Owner, running: RunningStep, call: Callable[[RunningStep, Any], Awaitable[Any]], *, limit_s: float
    ) -> None:
        self._owner = owner
        self._running = running
        self._call = call
        self._limit_s = limit_s
        self._context = copy_context()
        self._place: int | None = None
        self._deadline: float | None = None
        self._limit: Limit | None = None
        self.delivery: Delivery | None = None
        self.change: Change | None = None
        self.failure: BaseException | None = None

    def begin(self) -> None:
        """The user's code is to be called, maybe again."""
        self.failure = None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._running.owner.run_id

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._running.stopped

    def is_overdue(self) -> bool:
        """Whether the user's code has taken longer than it may."""
        return self._deadline is not None and monotonic() > self._deadline

    async def execute(self, connection: Any) -> Any:
        """Await the user's code."""
        try:
            return await self._call(self._running, connection)
        except Exception as error:
            self.failure = error
            raise

    def execute_here(self, connection: Any) -> Any:
        """Call the user's code on this thread."""
        running = self._running
        self._limit = running.limit()
        if self._limit is not None:
            self._deadline = monotonic() + self._limit.seconds
        try:
            value = self._context.run(running.fn, connection, *running.call.args, **running.call.kwargs)
            if asyncio.iscoroutine(value):
                value.close()
                raise TypeError(
                    f"the function of transaction {running.call.name!r} is `async def`, but on SQLite it runs on the "
                    "thread that writes and can't wait for anything. Make it a plain `def`."
                )
        except BaseException as error:
            self.failure = self._too_late(error) if self.is_overdue() else error
            if self.failure is error:
                raise
            raise self.failure from error
        if self.is_overdue():
            self.failure = self._too_late(None)
            raise self.failure
        return value

    def _too_late(self, error: BaseException | None) -> StepTimeout:
        assert self._limit is not None
        late = self._limit.passed("transaction, which was rolled back,")
        late.__cause__ = error
        return late

    async def turn(self) -> None:
        """Wait until nothing else of the run is on its way to the store, and keep it so."""
        try:
            async with asyncio.timeout(self._limit_s):
                self._place = await self._owner.take_turn()
        except TimeoutError as error:
            raise StoreUnavailable(
                f"other writes of the run did not become durable for {self._limit_s:g} s, so its transaction was "
                "rolled back. Look for one that waits for a lock that this transaction holds."
            ) from error
        self._running.is_committing = True

    def settle(self, value: Any) -> Change:
        """Make the change of what the user's code returned."""
        assert self._place is not None
        try:
            self.change, self.delivery = self._owner.settle_at(self._running, value, self._place)
        except Exception as error:  # PayloadError, or what a type's own hooks raise
            self.failure = error
            raise
        return self.change

    def give_up(self) -> None:
        """Nothing was written."""
        self._running.is_committing = False
        self.change = None
        place, self._place = self._place, None
        if place is not None:
            self._owner.give_turn(place)


async def carry_out(store: Store, transaction: OpenTransaction) -> Transacted:
    """Carry out a transaction, again where the database was lost and nothing was written (P4).

    Once it returns, the owner still has the turn: whatever the run writes next comes after. Raises what the user's
    code raises, or what the database says at the commit, such as a serialization failure; nothing was written then.
    """
    pause_s, losses = _FIRST_PAUSE_S, 0
    while True:
        transaction.begin()
        try:
            return await store.transact(transaction)
        except BaseException as error:
            if isinstance(error, Exception) and transaction.change is not None:
                found = await _find_out(store, transaction)
                if found is not None:
                    return found
            transaction.give_up()
            if not isinstance(error, StoreUnavailable) or error is transaction.failure:
                raise
            losses = losses + 1 if transaction.failure is not None else 0
            if transaction.failure is not None and losses >= _LOSSES:
                raise transaction.failure from error
            logger.warning(
                "The database was lost under a transaction; it had no effect, and is executed again.",
                extra={"run_id": transaction.run_id, "reason": str(error)},
            )
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


async def _find_out(store: Store, transaction: OpenTransaction) -> Transacted | None:
    """Whether a transaction was committed whose answer was lost; None where it had no effect."""
    assert transaction.change is not None
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return await store.transacted(transaction.change)
        except StoreUnavailable as error:
            if transaction.is_given_up:
                raise
            logger.warning(
                "The database can't be reached to see whether a transaction was committed; it is asked again.",
                extra={"run_id": transaction.run_id, "reason": str(error)},
            )
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


_checked: type[Transaction] = OpenTransaction
