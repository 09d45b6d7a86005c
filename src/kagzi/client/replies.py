"""Waiting for the answers of runs: one question for all who wait in a process."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from kagzi.errors import RunClosed, StoreUnavailable
from kagzi.model.message import Answered
from kagzi.model.run import TERMINAL, RunId
from kagzi.store.protocol import Hint, Store

logger = logging.getLogger("kagzi.client")

_POLL_S = 0.5
_ASKED_AT_ONCE = 1000


class Replies:
    """Everybody in this process who waits for the reply to an update.

    The store is asked when somebody new waits, when it hints that a run has answered, and every half second in case the
    hint was lost, or the run has ended.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiters: dict[tuple[RunId, int], list[asyncio.Future[str]]] = {}
        self._keys: dict[asyncio.Future[str], tuple[RunId, int]] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def reply(self, run_id: RunId, position: int) -> str:
        """Wait for the reply to the update at a position. Raises RunClosed where the run ends without one."""
        if self._closed:
            raise StoreUnavailable("Kagzi was closed. Open it again, and take a new handle: `kagzi.handle(run_id)`.")
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        key = run_id, position
        self._waiters.setdefault(key, []).append(answer)
        self._keys[answer] = key
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._ask_on(), name="kagzi-replies")
        try:
            return await answer
        finally:
            key = self._keys.pop(answer)
            waiters = self._waiters.get(key, [])
            if answer in waiters:
                waiters.remove(answer)
            if not waiters:
                self._waiters.pop(key, None)

    def hinted(self, hint: Hint) -> None:
        """The store hints that something has happened."""
        if self._waiters and hint in (Hint.REPLY_CAME, Hint.RUNS_ENDED):
            self._wake.set()

    async def close(self) -> None:
        """Leave everybody who still waits, or comes to wait, with StoreUnavailable."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._fail(StoreUnavailable("Kagzi was closed while a reply was awaited."))

    async def _ask_on(self) -> None:
        while self._waiters:
            self._wake.clear()
            try:
                await self._ask()
            except StoreUnavailable as error:
                logger.warning("The database can't be reached; replies are awaited.", extra={"reason": str(error)})
                await asyncio.sleep(_POLL_S)
            except Exception as error:
                logger.exception("Replies can't be asked for.")
                self._fail(error)  # nobody may wait for ever
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._wake.wait()

    async def _ask(self) -> None:
        asked = list(self._waiters)
        for start in range(0, len(asked), _ASKED_AT_ONCE):
            some = asked[start : start + _ASKED_AT_ONCE]
            answers = await self._store.answers(some)
            for answered in answers:
                self._tell(answered)
            for gone in set(some) - {(each.run_id, each.position) for each in answers}:
                await self._follow(*gone)

    async def _follow(self, run_id: RunId, position: int) -> None:
        """An update is no longer where it was sent: the run has continued as new, and took it along."""
        run = await self._store.get(run_id)
        waiters = self._waiters.pop((run_id, position), None) if run is not None and run.continued_to else None
        if run is not None and run.continued_to and waiters:
            key = run.continued_to, position
            self._waiters.setdefault(key, []).extend(waiters)
            for waiter in waiters:
                self._keys[waiter] = key
            self._wake.set()

    def _tell(self, answered: Answered) -> None:
        if answered.reply is None and answered.status not in TERMINAL:
            return
        for waiter in self._waiters.pop((answered.run_id, answered.position), ()):
            if waiter.done():
                continue
            if answered.reply is not None:
                waiter.set_result(answered.reply)
            else:
                waiter.set_exception(RunClosed(answered.run_id, answered.status.value, is_unanswered=True))

    def _fail(self, error: Exception) -> None:
        for waiters in list(self._waiters.values()):
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(error)
