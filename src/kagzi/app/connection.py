"""What an application has while it is connected: a store, a journal, a clock, its waiters and its workers."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Sequence
from weakref import WeakSet

from kagzi.app.version_policies import VersionPolicies
from kagzi.authoring.definitions import Definitions
from kagzi.client.replies import Replies
from kagzi.client.waiting import Waiting
from kagzi.engine.journal import Journal
from kagzi.engine.loop import WorkflowLoop
from kagzi.engine.processes.functions import refuse_in_an_import_of_main
from kagzi.engine.time import EngineClock, StoreClock
from kagzi.errors import ConfigError, MigrationError, WorkflowIOError
from kagzi.model.change import Transition
from kagzi.model.event import EventHandler
from kagzi.model.run import RunId, RunOutcome
from kagzi.model.version import VersionPolicy
from kagzi.payloads import Payloads
from kagzi.rules.classification import Classifier
from kagzi.settings import Settings
from kagzi.store.protocol import Hint, Store
from kagzi.worker.worker import Worker

_open: WeakSet[Connection] = WeakSet()
"""The connections of this process that are open."""

_left_behind: list[Connection] = []
"""Those of the process that this one was forked from. Kept for good: whoever let go of one would close its socket or
its file, which are the other process's, too."""

_LAST_WRITES_S = 5.0


class Connection:
    """An application's hold on its store. Made unopened; belongs to the event loop in which it is opened."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        payloads: Payloads,
        definitions: Definitions,
        classifiers: Sequence[Classifier] = (),
        clock: EngineClock | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.payloads = payloads
        self.definitions = definitions
        self.classifiers = classifiers
        self.clock: EngineClock = clock or StoreClock()
        self.journal = Journal(store, capacity=settings.journal_capacity, timeout=settings.store_timeout)
        self.waiting = Waiting(store)
        self.replies = Replies(store)
        self.enrolled: tuple[EventHandler, ...] = ()
        self.is_open = False
        self.was_closed = False
        self._is_left_behind = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._is_kept = False
        self._borrowers = 0
        self._workers: tuple[Worker, ...] = ()
        self._unlisten: Callable[[], None] | None = None
        self._version_policies = VersionPolicies(store, timeout=settings.store_timeout)

    async def open(self) -> None:
        """Connect and, unless the settings say otherwise, migrate; again without effect.

        Raises StoreUnavailable or MigrationError.
        """
        await self._ensure_open()
        self._is_kept = True

    async def borrow(self) -> None:
        """Connect for a worker, unless that was done before. Raises StoreUnavailable or MigrationError."""
        self._borrowers += 1
        try:
            await self._ensure_open()
        except BaseException:
            self._borrowers -= 1
            raise

    async def give_back(self) -> None:
        """Disconnect, where workers alone had connected and this is the last of them."""
        self._borrowers -= 1
        await self._end(unless_used=True)

    def check_caller(self) -> None:
        """Refuse to be used in a workflow's body, or on another event loop than the one that this was opened on.

        What would happen else: a body starts a run in each of its replays, and an answer for a loop that can't take it
        ends the thread that brings it.

        Raises WorkflowIOError or ConfigError.
        """
        if self._is_left_behind:
            raise ConfigError(
                "this was made before the process was forked, and belongs to the process that it was forked from. Make "
                "it anew in this one; for a handle that is kagzi.handle(run_id)."
            )
        loop = asyncio._get_running_loop()  # none where only a handle is made
        if isinstance(loop, WorkflowLoop):
            raise WorkflowIOError(
                "using the application (starting a run, awaiting a handle, listing)",
                "Do it in a step: `await ctx.step(name, function, ...)`. Give what it starts an id, as a step may be "
                "executed twice.",
            )
        if self._loop is not None and loop is not None and loop is not self._loop:
            raise ConfigError(
                "Kagzi was opened on another event loop and can only be used on that one. In a thread, hand the call "
                "over with asyncio.run_coroutine_threadsafe, or open a Kagzi of the thread's own; between two calls "
                "of asyncio.run, close it on the loop that opened it."
            )

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop on which it is open; None where it isn't."""
        return self._loop if self.is_open else None

    def leave_behind(self) -> None:
        """In a process that was forked while this was open: never use it again, and neither close it nor let it go."""
        self.is_open = self._is_kept = False
        self.was_closed = self._is_left_behind = True
        _left_behind.append(self)

    async def _ensure_open(self) -> None:
        self.check_caller()
        refuse_in_an_import_of_main()
        had_been_closed = self.was_closed
        async with self._opening:
            if self.was_closed and not had_been_closed:
                raise ConfigError("Kagzi was closed while it was being opened; open it again.")
            if not self.is_open:
                await self._open()

    async def _open(self) -> None:
        await self.store.open()
        self.waiting = Waiting(self.store)
        self.replies = Replies(self.store)
        self.journal.open()
        self._version_policies = VersionPolicies(self.store, timeout=self.settings.store_timeout)
        try:
            if self.settings.auto_migrate:
                await self.store.migrate()
            else:
                await self._check_schema()
        except BaseException:
            await self.store.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._unlisten = self.store.listen(self._hinted)
        self.is_open = True
        _open.add(self)

    async def close(self) -> None:
        """Stop the workers, commit what waits, disconnect; where it is being opened, once it is open."""
        await self._end(unless_used=False)

    async def _end(self, *, unless_used: bool) -> None:
        async with self._opening:
            if not self.is_open or (unless_used and (self._borrowers or self._is_kept)):
                return
            self.is_open = self._is_kept = False
            self.was_closed = True
            _open.discard(self)
        for worker in self._workers:
            await worker.shutdown()
        if self._unlisten is not None:
            self._unlisten()
        self._version_policies.close()
        # Where workers alone had connected, what is left are writes of runs that they have given up already: without a
        # database, nobody who stops a worker is to wait for those as long as for a start.
        await self.journal.close(limit_s=_LAST_WRITES_S if unless_used else math.inf)
        await self.waiting.close()
        await self.replies.close()
        await self.store.close()

    def _hinted(self, hint: Hint) -> None:
        self.waiting.hinted(hint)
        self.replies.hinted(hint)

    async def version_policy(self, namespace: str, workflow: str) -> VersionPolicy:
        """The default and the deprecated versions of a workflow, as they were within about a second."""
        return await self._version_policies.get(namespace, workflow)

    def version_policy_changed(self, namespace: str, workflow: str) -> None:
        """They were changed here: the next start is to know."""
        self._version_policies.forget(namespace, workflow)

    # -- for workers -------------------------------------------------------------------------------------------

    @property
    def local_workers(self) -> tuple[Worker, ...]:
        """The workers of this process that take runs."""
        return self._workers

    def executes(self, run_id: RunId) -> bool:
        """Whether a worker of this process has the run in memory."""
        return any(worker.knows(run_id) for worker in self._workers)

    def joined(self, worker: Worker) -> None:
        """A worker has begun to take runs."""
        self._workers = (*self._workers, worker)

    def left(self, worker: Worker) -> None:
        """A worker takes no more runs."""
        self._workers = tuple(other for other in self._workers if other is not worker)

    def run_ended(self, run_id: RunId, transition: Transition) -> None:
        """A run of this process has ended; whoever waits for it here need not ask the store."""
        if transition.continues is not None:
            self.waiting.continued(run_id)
            return
        outcome = RunOutcome(run_id=run_id, status=transition.status, output=transition.output, error=transition.error)
        self.waiting.tell(outcome)

    async def _check_schema(self) -> None:
        status = await self.store.schema_status()
        if status.current < status.latest:
            raise MigrationError(
                f"the database's schema is at migration {status.current}, and this release needs {status.latest}. "
                "Run `kagzi db migrate`, or set KAGZI_AUTO_MIGRATE=true."
            )


def _leave_behind_after_fork() -> None:
    for connection in list(_open):
        connection.leave_behind()
    _open.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_leave_behind_after_fork)
