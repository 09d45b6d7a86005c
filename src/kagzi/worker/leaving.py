"""Looking after children that their parents leave behind: told by what ends here, found by polling (P14)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from kagzi.errors import StoreUnavailable
from kagzi.model.cancelling import CancelOrder
from kagzi.model.child import Forsaken
from kagzi.model.run import RunStatus
from kagzi.rules.failures import cancelled_error, encode_error

if TYPE_CHECKING:
    from kagzi.worker.worker import Worker

logger = logging.getLogger("kagzi.worker")

_BATCH = 200
_INTERVAL_S = 1.0


class Leaving:
    """One loop that carries out what `parent_close` says: of children whose parents have ended, wherever that was, and
    of those that parents in memory give up."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._wake = asyncio.Event()
        self._given_up: deque[tuple[Forsaken, Callable[[], None]]] = deque()
        self._is_looking = False

    @property
    def is_busy(self) -> bool:
        """Whether something is about to be done."""
        return self._is_looking or self._wake.is_set()

    def wake(self) -> None:
        """A run with children has ended: look."""
        self._wake.set()

    def give_up(self, child: Forsaken, then: Callable[[], None]) -> None:
        """Have a child ended, or asked to end, and `then` called, as a plain callback, once that is durable."""
        self._given_up.append((child, then))
        self._wake.set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self._is_looking = True
            self._wake.clear()
            try:
                while await self._look():
                    pass
            except StoreUnavailable as error:
                logger.warning("The database can't be reached; children wait.", extra={"reason": str(error)})
            except Exception:  # P23
                logger.exception("Children that were left behind could not be looked after; it is tried again.")
            self._is_looking = False
            # Jittered, so that a fleet of workers does not look all at once.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL_S * random.uniform(0.8, 1.0)):
                    await self._wake.wait()

    async def _look(self) -> bool:
        """Carry out what there is; whether there may be more."""
        while self._given_up:
            some = [self._given_up[place] for place in range(min(len(self._given_up), _BATCH))]
            await self._end([child for child, _ in some], "its parent has given it up.")
            for _, then in some:
                self._given_up.popleft()
                asyncio.get_running_loop().call_soon(then)
        left = await self._worker.store.forsaken(self._worker.namespace, limit=_BATCH)
        if left.children:
            await self._end(left.children, "its parent has ended.", has_ended=True)
        return left.more

    async def _end(self, children: Sequence[Forsaken], why: str, *, has_ended: bool = False) -> None:
        error = encode_error(cancelled_error(why))
        orders = [
            CancelOrder(
                namespace=self._worker.namespace,
                run_id=child.run_id,
                error=error,
                at_once=child.at_once,
                left_by=child.parent_run_id if has_ended else None,
            )
            for child in children
        ]
        answers = await self._worker.store.cancel(orders)
        for child, answer in zip(children, answers, strict=True):
            if answer.status is RunStatus.COMPLETED:  # maybe because it has continued as new
                latest = await self._worker.store.latest(child.run_id)
                if latest != child.run_id:
                    await self._end([msgspec.structs.replace(child, run_id=latest)], why, has_ended=has_ended)
