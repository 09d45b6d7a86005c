"""The thread that reads the file, so that a long listing keeps no commit waiting (and no commit a reader)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from kagzi.store.sqlite.connection import Patience, connect
from kagzi.store.sqlite.failures import closed, explain
from kagzi.store.sqlite.hints import Listeners
from kagzi.store.sqlite.jobs import Answer, Job, Jobs, deliver
from kagzi.store.sqlite.session import Session, Verb
from kagzi.store.sqlite.threads import LoopThread
from kagzi.store.sqlite.times import micros

A = TypeVar("A")
R = TypeVar("R")


class Reader:
    """Owns the reading connection, opened with the first read."""

    def __init__(self, path: str, *, timeout: timedelta, clock: Callable[[], datetime]) -> None:
        self._path = path
        self._clock = clock
        self._patience = Patience(timeout.total_seconds())
        self._jobs = Jobs()
        self._closing = False
        self._nobody = Listeners()
        self._thread = LoopThread(self._work, name="kagzi-sqlite-reader")

    def open(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, verb: Verb[A, R], argument: A) -> asyncio.Future[R]:
        """Have a call carried out. Raises StoreUnavailable once closing has begun."""
        if self._closing:
            raise closed(self._path)
        return self._jobs.submit(verb, argument)

    async def close(self) -> None:
        """Answer what was asked, then end."""
        if self._closing:
            return
        self._closing = True
        self._patience.end()
        self._jobs.stop()
        await self._thread.join()

    # -- on the thread -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        connection = None
        going = True
        while going:
            batch, going = self._jobs.take(None)
            try:
                if batch and connection is None:
                    connection = connect(self._path, self._patience)
            except Exception as error:
                deliver([(job, None, explain(error, self._path)) for job in batch], self._nobody, ())
                continue
            if connection is not None:
                for job in batch:
                    self._patience.begin(since=job.since)
                    session = Session(connection, micros(self._clock()))
                    deliver([self._answer(job, session)], self._nobody, ())
        if connection is not None:
            connection.close()

    def _answer(self, job: Job, session: Session) -> Answer:
        """Answer from one snapshot, so that what a verb reads in several statements fits together."""
        try:
            session.connection.execute("BEGIN")
            try:
                return job, job.verb.run(session, [job.argument])[0], None
            finally:
                session.connection.execute("ROLLBACK")
        except Exception as error:
            return job, None, explain(error, self._path)
