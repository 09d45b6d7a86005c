"""Listening for notifications, on a connection of its own that comes back for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg

from kagzi.settings import Settings
from kagzi.store.postgres.address import Address, Names
from kagzi.store.postgres.connections import connect
from kagzi.store.postgres.hint_sql import DRAIN, DUE, ENDED, EVENT, MAIL, REPLIED
from kagzi.store.protocol import Hint, HintListener

_log = logging.getLogger("kagzi.store.postgres")

_HINTS = {
    DUE: Hint.RUNS_DUE,
    ENDED: Hint.RUNS_ENDED,
    DRAIN: Hint.DRAIN_ASKED,
    MAIL: Hint.MAIL_CAME,
    REPLIED: Hint.REPLY_CAME,
    EVENT: Hint.EVENT_CAME,
}
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_PULSE_S = 5.0  # a peer that vanished without a word is only noticed by asking


class Ear:
    """Passes notifications on to listeners, from the first `listen` until `close`."""

    def __init__(self, address: Address, names: Names, settings: Settings) -> None:
        self._address = address
        self._channel = names.channel
        self._timeout_s = settings.store_timeout.total_seconds()
        self._listeners: dict[object, HintListener] = {}
        self._task: asyncio.Task[None] | None = None

    def listen(self, listener: HintListener) -> Callable[[], None]:
        """Have `listener` called on every hint; behind a transaction pooler nothing is ever heard."""
        token = object()
        self._listeners[token] = listener
        if self._task is None and not self._address.pooled:
            self._task = asyncio.get_running_loop().create_task(self._listen(), name="kagzi-postgres-hints")
        return lambda: void(self._listeners.pop(token, None))

    async def close(self) -> None:
        """Stop listening. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _listen(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                connection = await connect(self._address, timeout_s=self._timeout_s, statement_s=self._timeout_s)
                try:
                    await connection.add_listener(self._channel, self._hear)
                    pause_s = _FIRST_PAUSE_S
                    self._tell_all()
                    await self._stay(connection)
                finally:
                    connection.terminate()
            except Exception as error:  # whatever it was, polling goes on, and we come back
                _log.warning("listening for notifications was interrupted", extra={"error": type(error).__name__})
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _stay(self, connection: asyncpg.Connection) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        while not lost.is_set() and not connection.is_closed():
            with suppress(TimeoutError):
                async with asyncio.timeout(_PULSE_S):
                    await lost.wait()
                return
            await connection.execute("SELECT 1", timeout=self._timeout_s)

    def _hear(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        hint = _HINTS.get(str(payload))
        if hint is not None:
            self._tell(hint)

    def _tell_all(self) -> None:
        """What was said while we were deaf is lost, so all of it may have been."""
        for hint in Hint:
            self._tell(hint)

    def _tell(self, hint: Hint) -> None:
        for listener in tuple(self._listeners.values()):
            listener(hint)


def void(_: object) -> None:
    """Drop a value."""
