"""`Kagzi`: the one object that an application holds."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from kagzi.app.connection import Connection
from kagzi.app.operations import Operations
from kagzi.app.registration import Registration
from kagzi.authoring.durations import Duration
from kagzi.authoring.events import Event
from kagzi.authoring.names import check_name
from kagzi.authoring.signals import Signal
from kagzi.client import events, explaining, listing, messages, replaying, starting
from kagzi.client import workers as registered
from kagzi.client.handles import WorkflowHandle, handle_of
from kagzi.client.options import OptionView, StartOptions, with_options
from kagzi.client.replaying import Replayed
from kagzi.client.workflow import Workflow
from kagzi.engine.time import EngineClock
from kagzi.errors import ConfigError
from kagzi.model.run import Run, RunStatus
from kagzi.model.worker import RegisteredWorker
from kagzi.payloads import PayloadCodec
from kagzi.settings import Settings
from kagzi.store.borrowed.recognizing import borrow
from kagzi.store.protocol import Store
from kagzi.store.urls import open_store
from kagzi.worker.builder import WorkerBuilder
from kagzi.worker.config import WorkerOptions, configure
from kagzi.worker.worker import Worker

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Kagzi(Registration, Operations):
    """An application: its workflows and its database.

    `url` names the database: `postgresql://...`, `sqlite:///file`, `sqlite://` (memory); without it KAGZI_DATABASE_URL,
    else `sqlite:///kagzi.db`. `settings` replaces all of the environment's; `codec` transforms payload text on its way
    into and out of the database. Nothing is connected before `async with kagzi`, `connect` or `open`.
    """

    def __init__(
        self, url: str | None = None, *, settings: Settings | None = None, codec: PayloadCodec | None = None
    ) -> None:
        if settings is None:
            settings = Settings.from_environment(database_url=url)
        elif url is not None:
            raise ConfigError("both a url and settings were given; put the url into the settings.")
        check_name(settings.namespace, what="namespace (KAGZI_NAMESPACE)")
        super().__init__(payload_limit=settings.payload_limit, codec=codec)
        self.settings = settings
        self._connection: Connection | None = None
        self._elder: Kagzi | None = None

    # -- connecting --------------------------------------------------------------------------------------------

    @classmethod
    async def connect(
        cls, url: str | None = None, *, settings: Settings | None = None, codec: PayloadCodec | None = None
    ) -> Self:
        """Make an application and connect it. Raises StoreUnavailable, MigrationError or ConfigError."""
        kagzi = cls(url, settings=settings, codec=codec)
        await kagzi.open()
        return kagzi

    async def open(self) -> None:
        """Connect and migrate; again without effect. Raises StoreUnavailable, MigrationError or ConfigError."""
        await self._link().open()

    async def close(self) -> None:
        """Stop the workers of this process, commit what waits, and disconnect."""
        connection = self._connection
        if connection is not None and not connection.was_closed:
            connection.check_caller()
            self._connection = None
            await connection.close()

    async def __aenter__(self) -> Self:
        """Connect and migrate."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self.close()

    # -- runs --------------------------------------------------------------------------------------------------

    @overload
    async def start_workflow(
        self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @overload
    async def start_workflow(self, workflow: str, /, *args: Any, **kwargs: Any) -> WorkflowHandle[Any]: ...

    async def start_workflow(self, workflow: Any, /, *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """Start a run of a workflow, or of the workflow of that name; returns once it is stored for good."""
        return await self.start_with(workflow, None, args, kwargs, StartOptions())

    async def start_workflow_version(
        self, name: str, version: int, /, *args: Any, **kwargs: Any
    ) -> WorkflowHandle[Any]:
        """Start a run of one version of a workflow."""
        return await self.start_with(name, version, args, kwargs, StartOptions())

    async def start_many(
        self, workflow: Workflow[Any, R] | str, inputs: Sequence[Any], **options: Any
    ) -> list[WorkflowHandle[R]]:
        """Start a run for each input, in one trip, and return their handles in order.

        An input is the workflow's only argument, or a tuple of all of them. All start or none, as far as one commit
        reaches (1,000 runs). Takes the options of `options`, but no id.
        """
        return await starting.start_many(self._open_link(), workflow, inputs, with_options(StartOptions(), options))

    def options(self, **options: Any) -> OptionView:
        """A view with `start_workflow` and `start_workflow_version` whose starts have these options.

        `id` makes starts idempotent: all starts with it get one run. `queue` says which workers may take it. Runs of
        higher `priority` (-100 to 100, default 0) go first. `delay` (seconds or timedelta) or `at` (aware datetime)
        let it fall due later. `version`, `tags` (texts), `attributes` (JSON values by name), `namespace`.
        `connection`, one of yours to the same database: the run is there once your open transaction on it has
        committed, and never otherwise.
        """
        return OptionView(self, with_options(StartOptions(), options))

    async def launch(
        self, workflow: str, version: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> WorkflowHandle[Any]:
        """What `Workflow.start` does."""
        return await self.start_with(workflow, version, args, kwargs, StartOptions())

    async def start_with(
        self,
        workflow: Any,
        version: int | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: StartOptions,
    ) -> WorkflowHandle[Any]:
        """What every start comes down to."""
        return await starting.start_one(self._open_link(), workflow, version, args, kwargs, options)

    async def signal_with_start_with(
        self,
        workflow: Any,
        signal: Signal[Any],
        value: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: StartOptions,
    ) -> WorkflowHandle[Any]:
        """What `signal_with_start` comes down to."""
        return await starting.signal_with_start(self._open_link(), workflow, signal, value, args, kwargs, options)

    async def signal(
        self,
        id: str,  # noqa: A002 - the public name
        signal: Signal[T],
        value: T,
        *,
        dedup_key: str | None = None,
        connection: Any = None,
    ) -> None:
        """Send a signal to the run that was started with this id, or has it as its run_id; see `WorkflowHandle.signal`.

        To start the run where there is none: `workflow.options(id=...).signal_with_start(...)`.
        """
        borrowed = None if connection is None else borrow(connection)
        await messages.signal_by_id(self._open_link(), id, signal, value, dedup_key=dedup_key, connection=borrowed)

    async def emit(
        self,
        event: Event[T] | str,
        value: T,
        *,
        key: str | None = None,
        dedup_key: str | None = None,
        connection: Any = None,
    ) -> None:
        """Tell an event to every run that waits for it, and start what handles it; returns once it is kept for good.

        Who waits with a `key` gets only events with this key. `dedup_key` makes it safe to emit the same again: there
        is one for each key, for as long as events are kept (KAGZI_EVENT_RETENTION). With a `connection`, it is emitted
        by your open transaction on it, if that commits, as with `options(connection=...)`. Workers do the rest, so
        whatever happens to this process, every run that waited gets it.

        Raises PayloadError for a value that does not fit the event's type, ConflictError where an event of another name
        or key has the `dedup_key`, OutcomeUnknown where the database could not be reached in time.
        """
        borrowed = None if connection is None else borrow(connection)
        await events.emit(self._open_link(), event, value, key=key, dedup_key=dedup_key, connection=borrowed)

    def handle(self, run_id: str) -> WorkflowHandle[Any]:
        """A handle on a run by its run_id."""
        return handle_of(self._open_link(), run_id)

    async def find_runs(
        self,
        *,
        status: RunStatus | str | None = None,
        workflow: str | None = None,
        queue: str | None = None,
        tags: Sequence[str] = (),
        id: str | None = None,  # noqa: A002 - the public name
        parent: str | None = None,
        created_after: datetime | None = None,
        paused: bool | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> list[Run]:
        """List runs without payloads, newest first, at most `limit` (1 to 1,000).

        For the next page pass the last run's `run_id` as `cursor`; pages stay stable while runs come and go. `tags`
        must all be there. `parent` is the run_id of the run whose children are wanted.
        """
        wanted = listing.wanted(
            self.settings.namespace,
            status=status,
            workflow=workflow,
            queue=queue,
            tags=tags,
            id=id,
            parent=parent,
            created_after=created_after,
            paused=paused,
            cursor=cursor,
            limit=limit,
        )
        return await listing.find(self._open_link(), wanted)

    # -- workers -----------------------------------------------------------------------------------------------

    def create_worker(
        self,
        *,
        worker_id: str | None = None,
        queues: Sequence[str] | None = None,
        max_concurrent_workflows: int | None = None,
        max_concurrent_steps: int | None = None,
        heartbeat_interval: Duration | None = None,
        lease: Duration | None = None,
        poll_interval: Duration | None = None,
        graceful_shutdown_timeout: Duration | None = None,
    ) -> Worker:
        """Make a worker for the workflows registered here: `await worker.start()`, or `async with worker:`.

        Durations are seconds or timedeltas. What is not given is taken from the settings; `worker_id` is made up,
        `queues` is `["default"]`. A worker that is started while the application is not connected connects it, and
        disconnects it in the end.
        """
        options = WorkerOptions(
            worker_id=worker_id,
            queues=queues,
            max_concurrent_workflows=max_concurrent_workflows,
            max_concurrent_steps=max_concurrent_steps,
            heartbeat_interval=heartbeat_interval,
            lease=lease,
            poll_interval=poll_interval,
            graceful_shutdown_timeout=graceful_shutdown_timeout,
        )
        return self.build_worker(options)

    def create_worker_builder(self) -> WorkerBuilder:
        """Make a worker by chaining: `kagzi.create_worker_builder().worker_id("w1").build()`."""
        return WorkerBuilder(self.build_worker)

    async def find_workers(self, *, ended: bool = False) -> list[RegisteredWorker]:
        """List the workers of every process on this database, latest first; with `ended`, also those that ended
        within a day.

        One that died without a word is listed with its last heartbeat until a living worker has noticed.
        """
        return await registered.find(self._open_link(), ended=ended)

    async def drain_worker(self, worker_id: str) -> RegisteredWorker:
        """Ask a worker, in whichever process, to drain and stop for good, and return it as it is now.

        `worker_id` is its name or the key of its registration, or the beginning of either if that fits no other. It
        begins at once, at the latest with its next heartbeat; `find_workers` shows how far it is. Raises
        WorkerNotFound.
        """
        return await registered.drain(self._open_link(), worker_id)

    def build_worker(self, options: WorkerOptions) -> Worker:
        """Make a worker from options."""
        return Worker(self._link(), configure(options, self.settings))

    def store_in_use(self) -> Store:
        """The store that this application is connected to, for checks of health. Raises ConfigError where it is not."""
        return self._open_link().store

    # -- for kagzi.testing and the command line ------------------------------------------------------------------

    def connection_to(self, store: Store, *, clock: EngineClock) -> Connection:
        """Make a connection of this application to another store, kept by another clock."""
        return Connection(
            settings=dataclasses.replace(self.settings, auto_migrate=True),
            store=store,
            payloads=self._payloads,
            definitions=self._definitions,
            classifiers=self._classifiers,
            clock=clock,
        )

    def rebind(self, connection: Connection | None) -> Connection | None:
        """Use this connection from now on, and return the one before, as it is."""
        former, self._connection = self._connection, connection
        return former

    def replays(self, run_ids: Sequence[str] | None = None, *, workflow: str | None = None) -> AsyncIterator[Replayed]:
        """Replay runs against the code registered here: those named, else every open one, or of `workflow` alone."""
        link = self._open_link()
        if run_ids is None:
            return replaying.replay_open(link, workflow=workflow)
        return replaying.replay_runs(link, run_ids)

    async def explain(self, run_id: str) -> tuple[Run, list[str]]:
        """A run and everything that it waits for, in texts for people: what `kagzi why` shows."""
        return await explaining.explain(self._open_link(), run_id)

    # -- for kagzi.blocking ------------------------------------------------------------------------------------

    def companion(self) -> Self:
        """The same application, with the same workflows, for another event loop.

        It uses the connection of this one where that is open on a loop that runs, and else opens one of its own.
        """
        companion = copy.copy(self)
        companion._connection = None
        companion._elder = self
        return companion

    @property
    def open_on(self) -> asyncio.AbstractEventLoop | None:
        """The event loop on which it is open, where calls for it must be handed to; None where it is not open."""
        own = None if self._connection is None else self._connection.loop
        if own is None and self._elder is not None:
            elders = self._elder.open_on
            return elders if elders is not None and elders.is_running() else None
        return own

    # -- inside ------------------------------------------------------------------------------------------------

    def _link(self) -> Connection:
        if self._connection is None or self._connection.was_closed:
            if self._elder is not None:
                self.settings = self._elder.settings  # the command line may have changed them
            self._connection = Connection(
                settings=self.settings,
                store=open_store(self.settings.database_url, self.settings),
                payloads=self._payloads,
                definitions=self._definitions,
                classifiers=self._classifiers,
            )
        return self._connection

    def _open_link(self) -> Connection:
        connection = self._connection
        if connection is None or not connection.is_open:
            if self._elder is not None:
                return self._elder._open_link()
            raise ConfigError("Kagzi is not connected. Use `async with kagzi:`, or `await kagzi.open()` first.")
        connection.check_caller()
        return connection

    def __repr__(self) -> str:
        """Name the workflows; never the URL, which may hold a password."""
        return f"<Kagzi {', '.join(sorted({definition.name for definition in self._definitions})) or 'no workflows'}>"
