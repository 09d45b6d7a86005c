"""Waiting for results: one question for all handles of a process, asked when there is reason to (never one each)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Container

from kagzi.clock import monotonic
from kagzi.errors import RunNotFound, StoreUnavailable
from kagzi.model.run import RunId, RunOutcome
from kagzi.store.protocol import Hint, Store

logger = logging.getLogger("kagzi.client")

_POLL_S = 0.5
_ASKED_AT_ONCE = 2000
_FEW = 20
_AT_ONCE_S = 0.02
_HABIT = 64


class Expected:
    """A run that is started here: whether its end is to be `announced`, as somebody will most likely wait for it."""

    __slots__ = ("announced", "at_s", "hints", "is_awaited")

    def __init__(self, *, announced: bool, hints: int) -> None:
        self.announced = announced
        self.hints = hints
        self.at_s = monotonic()
        self.is_awaited = False


class Waiting:
    """Everybody in this process who waits for a run to end.

    A run that ends in this process is told at once. For others the store is asked: when somebody new waits, when it
    hints that awaited runs have ended, and every half second in case the hint was lost. A question that is under way
    gathers those who come meanwhile for the next.

    Where most runs that are started here are awaited, new ones are stored so that their ends are announced: whoever
    waits for one at once need not ask first, which would meet the worker that is just about to claim it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiters: dict[RunId, list[asyncio.Future[RunOutcome]]] = {}
        self._new: dict[RunId, None] = {}
        self._certain: set[RunId] = set()
        self._wake = asyncio.Event()
        self._ended_hinted = False
        self._hints = 0
        self._starts = 0
        self._awaited = 0
        self._asked_all_at = monotonic()
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def expect(self) -> Expected:
        """A run is about to be started here."""
        if self._starts >= _HABIT:  # what was long ago counts less
            self._starts //= 2
            self._awaited //= 2
        announced = self._awaited * 2 > self._starts
        self._starts += 1
        return Expected(announced=announced, hints=self._hints)

    async def outcome(
        self, run_id: RunId, *, certain: bool = False, here: bool = False, expected: Expected | None = None
    ) -> RunOutcome:
        """Wait for a run's end. Raises RunNotFound where there is no such run.

        `certain` says that there is one, so the store need not be asked about that; `here` that a worker of this
        process executes it, so that the store is asked only should it be long. `expected` is what `expect` gave before
        it was started here. Raises StoreUnavailable once closed.
        """
        if self._closed:
            raise StoreUnavailable("Kagzi was closed. Open it again, and take a new handle: `kagzi.handle(run_id)`.")
        answer: asyncio.Future[RunOutcome] = asyncio.get_running_loop().create_future()
        if expected is not None and not expected.is_awaited:
            expected.is_awaited = True
            self._awaited += 1
        waiters = self._waiters.setdefault(run_id, [])
        waiters.append(answer)
        if len(waiters) == 1:
            self._new[run_id] = None
            if certain:
                self._certain.add(run_id)
            self._ensure_asking()
            if self._will_be_heard(expected):
                asyncio.get_running_loop().call_later(_AT_ONCE_S, self._look_at, run_id)
            elif not here:
                self._wake.set()
        try:
            return await answer
        finally:
            self._forget(run_id, answer)

    def _will_be_heard(self, expected: Expected | None) -> bool:
        """Whether it is too early to ask for a run, as its end has certainly not been announced yet."""
        if expected is None or not expected.announced or expected.hints != self._hints:
            return False
        return monotonic() - expected.at_s < _AT_ONCE_S

    def _look_at(self, run_id: RunId) -> None:
        """Ask for a run that nobody has asked for so far: maybe no hint is heard here at all."""
        if run_id in self._waiters and run_id in self._new:
            self._wake.set()

    def tell(self, outcome: RunOutcome) -> None:
        """A run has ended in this process."""
        for answer in self._waiters.pop(outcome.run_id, ()):
            if not answer.done():
                answer.set_result(outcome)

    def continued(self, run_id: RunId) -> None:
        """A run has continued as new in this process: who waits for it waits for its successor."""
        if run_id in self._waiters:
            self._ended_hinted = True
            self._wake.set()

    def hinted(self, hint: Hint) -> None:
        """The store hints that awaited runs have ended."""
        if hint is Hint.RUNS_ENDED:
            self._hints += 1
            if self._waiters:
                self._ended_hinted = True
                self._wake.set()

    async def close(self) -> None:
        """Leave everybody who still waits, or comes to wait, with StoreUnavailable."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for answers in list(self._waiters.values()):
            for answer in answers:
                if not answer.done():
                    answer.set_exception(StoreUnavailable("Kagzi was closed while a result was awaited."))

    def _forget(self, run_id: RunId, answer: asyncio.Future[RunOutcome]) -> None:
        waiters = self._waiters.get(run_id)
        if waiters is not None and answer in waiters:
            waiters.remove(answer)
            if not waiters:
                del self._waiters[run_id]
        if run_id not in self._waiters:
            self._certain.discard(run_id)

    def _ensure_asking(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._ask_on(), name="kagzi-waiting")

    async def _ask_on(self) -> None:
        if not self._wake.is_set():
            await self._pause()  # everything new is executed here, and will most likely be told at once
        while self._waiters:
            new, self._new = self._new, {}
            began = monotonic()
            # Where hints are lost and new waiters come all the time, the others must be asked about all the same.
            everybody = self._ended_hinted or not new or began - self._asked_all_at >= _POLL_S
            if everybody:
                self._asked_all_at = began
            self._ended_hinted = False
            self._wake.clear()
            # A process may start a run and await it before its own worker has it: those told meanwhile drop out.
            asked = [run_id for run_id in (self._waiters if everybody else new) if run_id in self._waiters]
            try:
                await self._ask(asked, new=new)
            except StoreUnavailable as error:
                logger.warning("The database can't be reached; results are awaited.", extra={"reason": str(error)})
                self._new = {run_id: None for run_id in new if run_id in self._waiters} | self._new
                await asyncio.sleep(_POLL_S)
                continue
            except Exception as error:
                logger.exception("Results can't be asked for.")
                self._fail(asked, error)  # nobody may wait for ever
            if len(asked) > _FEW:
                # Hints come with every commit that ends an awaited run: ask for at most a fifth of the time.
                await asyncio.sleep(4 * (monotonic() - began))
            await self._pause()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL_S):
                await self._wake.wait()

    def _fail(self, run_ids: list[RunId], error: Exception) -> None:
        for run_id in run_ids:
            for answer in self._waiters.pop(run_id, ()):
                if not answer.done():
                    answer.set_exception(error)

    async def _ask(self, run_ids: list[RunId], *, new: Container[RunId]) -> None:
        for start in range(0, len(run_ids), _ASKED_AT_ONCE):
            some = run_ids[start : start + _ASKED_AT_ONCE]
            told = await self._store.outcomes(some)
            for outcome in told:
                self.tell(outcome)
            unsure = [run_id for run_id in some if run_id in new and self._is_unsure(run_id)]
            if unsure:
                await self._tell_unknown(unsure)

    def _is_unsure(self, run_id: RunId) -> bool:
        return run_id in self._waiters and run_id not in self._certain

    async def _tell_unknown(self, run_ids: list[RunId]) -> None:
        there = await self._store.existing(run_ids)
        for run_id in run_ids:
            if run_id not in there:
                for answer in self._waiters.pop(run_id, ()):
                    if not answer.done():
                        answer.set_exception(RunNotFound(run_id))
