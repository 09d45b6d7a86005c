"""The one thread of a process that writes to the file: everything that waits goes into one transaction.

While a commit is on its way to the disk, calls gather; the next transaction takes all of them. No timers, no tuning:
one fsync carries one call when there is little to do and hundreds when there is much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import apsw

from kagzi.clock import monotonic
from kagzi.store.protocol import Hint
from kagzi.store.sqlite.address import MEMORY
from kagzi.store.sqlite.connection import Patience, connect, value
from kagzi.store.sqlite.failures import closed, explain
from kagzi.store.sqlite.hints import Listeners, Watch
from kagzi.store.sqlite.jobs import Answer, Job, Jobs, deliver
from kagzi.store.sqlite.session import Doubtful, Session, Verb
from kagzi.store.sqlite.threads import LoopThread
from kagzi.store.sqlite.times import micros

# Changes with every commit of another connection, and with none of the connection that asks.
_VERSION = "PRAGMA data_version"

A = TypeVar("A")
R = TypeVar("R")


class Writer:
    """Owns the writing connection. Made by `open`, done with by `close`."""

    def __init__(self, path: str, *, timeout: timedelta, clock: Callable[[], datetime], listeners: Listeners) -> None:
        self._path = path
        self._clock = clock
        self._listeners = listeners
        self._patience = Patience(timeout.total_seconds())
        self._jobs = Jobs()
        self._watch = Watch()
        self._version = 0
        self._closing = False
        self._thread = LoopThread(self._work, name="kagzi-sqlite-writer")
        self._opened: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Start the thread and wait until it is connected."""
        loop = asyncio.get_running_loop()
        self._opened = loop.create_future()
        self._home = loop
        self._thread.start()
        await self._opened

    def submit(self, verb: Verb[A, R], argument: A) -> asyncio.Future[R]:
        """Have a call carried out in the next transaction. Raises StoreUnavailable once closing has begun."""
        if self._closing:
            raise closed(self._path)
        return self._jobs.submit(verb, argument)

    async def close(self) -> None:
        """Carry out what was submitted, then end. A wait for another process's lock is given up."""
        if self._closing:
            return
        self._closing = True
        self._patience.end()
        self._jobs.stop()
        await self._thread.join()

    def wake(self) -> None:
        """Have the thread see that somebody listens now."""
        self._jobs.wake()

    # -- on the thread -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._connection = connect(self._path, self._patience)
        except BaseException as error:
            self._tell_opened(explain(error, self._path))
            return
        try:
            self._shared = self._path != MEMORY
            self._tell_opened(None)
            self._loop()
        finally:
            self._closing = True
            self._connection.close()
            left, _ = self._jobs.take(0)
            self._answer([(job, None, closed(self._path)) for job in left], None)

    def _tell_opened(self, error: BaseException | None) -> None:
        assert self._opened is not None
        opened = self._opened
        self._home.call_soon_threadsafe(lambda: _settle(opened, error))

    def _loop(self) -> None:
        self._version = value(self._connection, _VERSION)
        going = True
        while going:
            listening = self._shared and bool(self._listeners)
            batch, going = self._jobs.take(self._watch.pause_s(monotonic()) if listening else None)
            if batch:
                alone = [job for job in batch if job.verb.alone]
                self._carry_out([job for job in batch if not job.verb.alone] if alone else batch)
                self._one_by_one(alone)
            if listening:
                self._look_for_others(stirred=bool(batch))

    def _carry_out(self, batch: list[Job]) -> None:
        if batch:
            self._patience.begin(since=batch[0].since)
        if all(job.verb.peek for job in batch):
            batch = self._peek(batch)
        if not batch:
            return
        try:
            answers, session = self._transact(batch, careful=False)
        except (apsw.BusyError, apsw.FullError, apsw.IOError) as error:
            # It would meet each of them alone as well.
            self._answer([(job, None, explain(error, self._path)) for job in batch], None)
        except Exception as error:
            if len(batch) == 1 and not isinstance(error, Doubtful):
                self._answer([(batch[0], None, explain(error, self._path))], None)
            else:
                self._one_by_one(batch)
        else:
            self._answer(answers, session)

    def _peek(self, batch: list[Job]) -> list[Job]:
        """Answer what a look can answer, and leave the write lock to those who need it."""
        rest: list[Job] = []
        answers: list[Answer] = []
        for job in batch:
            peek = job.verb.peek
            assert peek is not None
            try:
                result = peek(Session(self._connection, micros(self._clock())), job.argument)
            except Exception as error:
                answers.append((job, None, explain(error, self._path)))
                continue
            if result is None:
                rest.append(job)
            else:
                answers.append((job, result, None))
        if answers:
            self._answer(answers, None)
        return rest

    def _transact(self, batch: list[Job], *, careful: bool) -> tuple[list[Answer], Session]:
        groups: dict[Verb[Any, Any], list[Job]] = {}
        for job in batch:
            groups.setdefault(job.verb, []).append(job)
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            # Read under the write lock: times of commits then come in the order of the commits.
            session = Session(self._connection, micros(self._clock()), careful=careful)
            answers: list[Answer] = []
            for verb, jobs in groups.items():
                results = verb.run(session, [job.argument for job in jobs])
                answers += [(job, result, None) for job, result in zip(jobs, results, strict=True)]
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        return answers, session

    def _one_by_one(self, batch: list[Job]) -> None:
        """Each for itself: one of a batch failed, so nothing was written, and now only the guilty one fails."""
        for job in batch:
            self._patience.begin()
            try:
                answers, session = self._transact([job], careful=True)
            except Exception as error:
                self._answer([(job, None, explain(error, self._path))], None)
            else:
                self._answer(answers, session)

    def _answer(self, answers: list[Answer], session: Session | None) -> None:
        hints: tuple[Hint, ...] = ()
        if session is not None and self._listeners:
            if session.due:
                hints = (Hint.RUNS_DUE,)
            if session.mail:
                hints += (Hint.MAIL_CAME,)
            if session.replied:
                hints += (Hint.REPLY_CAME,)
            if session.ended:
                hints += (Hint.RUNS_ENDED,)
            if session.drain:
                hints += (Hint.DRAIN_ASKED,)
            if session.event:
                hints += (Hint.EVENT_CAME,)
        deliver(answers, self._listeners, hints)

    def _look_for_others(self, *, stirred: bool) -> None:
        """Hint where another connection has written."""
        now = monotonic()
        if stirred:
            self._watch.stir(now)
        if not self._watch.due(now):
            return
        try:
            version = value(self._connection, _VERSION)
        except apsw.Error:
            return  # whatever it is, the next job meets it and says so
        if version != self._version:
            self._version = version
            self._watch.stir(now)
            deliver((), self._listeners, tuple(Hint))


def _settle(opened: asyncio.Future[None], error: BaseException | None) -> None:
    if opened.done():
        return
    if error is None:
        opened.set_result(None)
    else:
        opened.set_exception(error)
