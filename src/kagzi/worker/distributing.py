"""Giving events to those who wait for them, and starting what handles them: told by hints, found by polling (P14)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import TYPE_CHECKING

from kagzi.clock import monotonic
from kagzi.errors import KagziError, StoreUnavailable
from kagzi.ids import new_id
from kagzi.model.event import Enrolment, EventHandler, Forgetting, PendingEvent
from kagzi.model.run import NewRun, RunId
from kagzi.rules.versions import version_to_start

if TYPE_CHECKING:
    from kagzi.worker.worker import Worker

logger = logging.getLogger("kagzi.worker")

_BATCH = 100
_WAITS = 500
_INTERVAL_S = 1.0
_SWEEP_EVERY_S = 30.0
_FIRST_PAUSE_S = 0.02


class Distributing:
    """One loop that does what is to follow from events, wherever they were emitted, and whatever becomes of who did so.

    Runs of handlers have an id made of the event's, so there is one of each however often they are started. An event is
    done with once they are stored, and once every wait that fits has got it.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._wake = asyncio.Event()
        self._is_looking = False
        self._swept_at: float | None = None
        self._cursor: tuple[str, str] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether something is about to be done."""
        return self._is_looking or self._wake.is_set()

    def wake(self) -> None:
        """An event may have come: look."""
        self._wake.set()

    async def enroll(self) -> None:
        """Say in the store which events this worker's workflows handle."""
        handlers = self._worker.handlers
        highest: dict[str, int] = {}
        for workflow, version in self._worker.workflows:
            highest[workflow] = max(version, highest.get(workflow, 0))
        enrolment = Enrolment(handlers=handlers, workflows=tuple(highest.items()))
        await self._worker.store.enroll(self._worker.namespace, enrolment)

    async def run(self) -> None:
        """Look for ever."""
        pause_s = _FIRST_PAUSE_S
        while True:
            self._is_looking = True
            self._wake.clear()
            is_held_up = False
            try:
                is_held_up = await self._look()
                await self._sweep()
            except StoreUnavailable as error:
                logger.warning("The database can't be reached; events wait.", extra={"reason": str(error)})
            except Exception:  # P23
                logger.exception("Events could not be distributed; it is tried again.")
            self._is_looking = False
            # A run that somebody has locked is so for a commit, or for the whole of a caller's transaction.
            pause_s = min(2 * pause_s, _INTERVAL_S) if is_held_up else _FIRST_PAUSE_S
            wait_s = pause_s if is_held_up else _INTERVAL_S
            # Jittered, so that a fleet of workers does not look all at once.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s * random.uniform(0.8, 1.0)):
                    await self._wake.wait()

    async def _look(self) -> bool:
        """Do what there is; whether something is held up."""
        store = self._worker.store
        while True:
            pending = await store.pending_events(self._worker.namespace, limit=_BATCH)
            if not pending:
                return False
            ready = [event for event in pending if await self._start_handlers(event)]
            done = await store.distribute([event.event_id for event in ready], limit=_WAITS)
            if not done.given and (done.left or len(ready) < len(pending)):
                return True

    async def _start_handlers(self, event: PendingEvent) -> bool:
        """Start what handles an event; False where that failed for now."""
        try:
            runs = [run for handler in event.handlers if (run := await self._run_of(event, handler)) is not None]
            if runs:
                await self._worker.store.start(runs)
        except StoreUnavailable:
            raise
        except Exception:  # P23: it must not hold up the others
            logger.exception(
                "What handles an event could not be started; it is tried again.", extra={"event": event.name}
            )
            return False
        return True

    async def _run_of(self, event: PendingEvent, handler: EventHandler) -> NewRun | None:
        namespace = self._worker.namespace
        policy = await self._worker.version_policy(handler.workflow)
        known = () if policy.default is not None else (handler.version,)
        try:
            version = version_to_start(handler.workflow, asked=None, policy=policy, known=known)
        except KagziError as error:  # deprecated
            logger.warning(
                "An event's handler gets no new runs.",
                extra={"event": event.name, "workflow": handler.workflow, "reason": str(error)},
            )
            return None
        assert event.call is not None
        return NewRun(
            run_id=RunId(new_id()),
            namespace=namespace,
            workflow=handler.workflow,
            version=version,
            input=event.call,
            id=f"event:{event.event_id}:{handler.workflow}",
            queue=handler.queue,
        )

    async def _sweep(self) -> None:
        """Now and then, say again what is handled here, and forget what is over."""
        now = monotonic()
        if self._swept_at is not None and now - self._swept_at < _SWEEP_EVERY_S:
            return
        self._swept_at = now
        await self.enroll()
        store, namespace = self._worker.store, self._worker.namespace
        more = True
        while more:
            forgetting = Forgetting(older_than=self._worker.event_retention, cursor=self._cursor)
            forgotten = await store.forget_events(namespace, forgetting)
            self._cursor = forgotten.cursor
            more = forgotten.more
