"""The SQLite store's face: every verb of the protocol, each handed to the file that knows how."""

# ruff: noqa: D102 - the protocol says what each verb does.

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from kagzi.clock import utc_now
from kagzi.ids import is_id
from kagzi.model.cancelling import CancelAnswer, CancelOrder, Expired, Expiry
from kagzi.model.change import Change, Committed
from kagzi.model.child import LeftBehind
from kagzi.model.claim import Claim, Claimed, ClaimRequest
from kagzi.model.event import Awaiting, Distributed, Enrolment, Forgetting, Forgotten, KeyTaken, NewEvent, PendingEvent
from kagzi.model.forking import Forked, ForkOrder
from kagzi.model.message import Answered, Mail, Message, NewMessage, Posted
from kagzi.model.pausing import PauseAnswer, PauseOrder, ResumeOrder
from kagzi.model.probe import Backlog, StoreProbe
from kagzi.model.reopening import ReopenAnswer, ReopenOrder
from kagzi.model.run import NewRun, RunFilter, RunId, RunOutcome, Started, StoredRun, WorkerKey
from kagzi.model.step import OpenStep, StoredAttempt, StoredStep
from kagzi.model.transaction import Transacted, Transaction
from kagzi.model.version import VersionPolicy
from kagzi.model.worker import Beat, BeatAnswer, OwnedRun, Recovery, RecoveryPolicy, Registration, StoredWorker
from kagzi.settings import Settings
from kagzi.store.borrowed.protocol import Borrowed
from kagzi.store.protocol import HintListener, SchemaStatus
from kagzi.store.sqlite import children, events, forks, health, mail, migrate, pausing, reading, register, versions
from kagzi.store.sqlite.address import MEMORY, check_file, parse_path
from kagzi.store.sqlite.cancelling import CANCEL, EXPIRE, Expiring
from kagzi.store.sqlite.claim import CLAIM, RECALL, RECONSIDER, Reconsidering
from kagzi.store.sqlite.commit import COMMIT
from kagzi.store.sqlite.failures import closed
from kagzi.store.sqlite.forking import FORK
from kagzi.store.sqlite.hints import Listeners
from kagzi.store.sqlite.reader import Reader
from kagzi.store.sqlite.recovery import RECOVER, RecoveryPass
from kagzi.store.sqlite.reopening import REOPEN
from kagzi.store.sqlite.session import Verb
from kagzi.store.sqlite.start import START
from kagzi.store.sqlite.transact import TRANSACT, TRANSACTED, NotWritten, Raised
from kagzi.store.sqlite.within import Within
from kagzi.store.sqlite.writer import Writer

A = TypeVar("A")
R = TypeVar("R")


class SqliteStore:
    """`kagzi.store.protocol.Store` on SQLite; the promises stand there.

    `url_or_path` is `sqlite:///file`, `sqlite://` (memory, gone with the store) or a path. `clock` is the store's time,
    asked on the writing and the reading thread. Several processes may share a file.
    """

    def __init__(self, url_or_path: str, settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._path = parse_path(url_or_path)
        self._settings = settings
        self._clock = clock
        self._within = Within(self._path, clock)
        self._listeners = Listeners()
        self._opening = asyncio.Lock()
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._file: forks.File | None = None

    @property
    def shown(self) -> str:
        return "sqlite://" if self._path == MEMORY else f"sqlite:///{self._path}"

    # -- opening -----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        async with self._opening:
            if self._writer is not None:
                return
            if not self._settings.auto_migrate:  # it stays as it is: who brings no schema makes no file
                check_file(self._path)
            timeout = self._settings.store_timeout
            writer = Writer(self._path, timeout=timeout, clock=self._clock, listeners=self._listeners)
            forks.check(self._path)
            try:
                await writer.open()
            except BaseException:
                await writer.close()  # cancelled, it would leave its thread behind
                raise
            self._writer = writer
            if self._path != MEMORY:
                self._file = forks.opened(self._path)
                self._reader = Reader(self._path, timeout=timeout, clock=self._clock)
                self._reader.open()

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        if reader is not None:
            await reader.close()
        if writer is not None:
            await writer.close()
        file, self._file = self._file, None
        if file is not None:
            forks.closed(file)

    async def migrate(self) -> int:
        return await self._write(migrate.MIGRATE, migrate.known_migrations())

    async def schema_status(self) -> SchemaStatus:
        return await self._read(migrate.STATUS, migrate.known_migrations())

    # -- the hot path ------------------------------------------------------------------------------------------

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        return await self._write(START, runs) if runs else []

    async def commit(self, changes: Sequence[Change]) -> Committed:
        return await self._write(COMMIT, changes)

    async def claim(self, request: ClaimRequest) -> Claimed:
        return await self._write(CLAIM, request)

    # -- transactions of users ---------------------------------------------------------------------------------

    async def transact(self, transaction: Transaction) -> Transacted:
        await transaction.turn()  # first: the user's code and the record are one visit to the thread
        try:
            return await self._write(TRANSACT, transaction)
        except Raised as raised:
            raise raised.error from raised.error.__cause__
        except NotWritten as missed:
            return missed.answer

    async def transacted(self, change: Change) -> Transacted | None:
        return await self._write(TRANSACTED, change)

    # -- inside a caller's own transaction ---------------------------------------------------------------------

    async def start_within(self, borrowed: Borrowed, runs: Sequence[NewRun]) -> list[Started]:
        return await self._within.start(borrowed, runs)

    async def post_within(self, borrowed: Borrowed, messages: Sequence[NewMessage]) -> list[Posted]:
        return await self._within.post(borrowed, messages)

    async def emit_within(self, borrowed: Borrowed, new: Sequence[NewEvent]) -> list[KeyTaken]:
        return await self._within.emit(borrowed, new)

    async def cancel_within(self, borrowed: Borrowed, order: CancelOrder) -> CancelAnswer:
        return await self._within.cancel(borrowed, order)

    # -- mailboxes ---------------------------------------------------------------------------------------------

    async def post(self, messages: Sequence[NewMessage]) -> list[Posted]:
        return await self._write(mail.POST, messages) if messages else []

    async def mail(self, worker: WorkerKey, seen: Mapping[RunId, int]) -> Mail:
        return await self._read(mail.MAIL, mail.Looked(worker, seen))

    async def undelivered(self, run_id: RunId) -> list[Message]:
        return (await self._read(mail.UNRECEIVED, {run_id: 0})).get(run_id, []) if is_id(run_id) else []

    async def forsaken(self, namespace: str, *, limit: int) -> LeftBehind:
        return await self._write(children.FORSAKEN, children.Looked(namespace, limit))

    async def cancel(self, orders: Sequence[CancelOrder]) -> list[CancelAnswer]:
        return await self._write(CANCEL, orders) if orders else []

    async def reopen(self, orders: Sequence[ReopenOrder]) -> list[ReopenAnswer]:
        return await self._write(REOPEN, orders) if orders else []

    async def pause(self, orders: Sequence[PauseOrder]) -> list[PauseAnswer]:
        return await self._write(pausing.PAUSE, orders) if orders else []

    async def resume(self, orders: Sequence[ResumeOrder]) -> list[PauseAnswer]:
        return await self._write(pausing.RESUME, orders) if orders else []

    async def fork(self, order: ForkOrder) -> Forked:
        return await self._write(FORK, order)

    async def answers(self, updates: Sequence[tuple[RunId, int]]) -> list[Answered]:
        return await self._read(mail.ANSWERS, updates)

    async def value(self, run_id: RunId, key: str) -> str | None:
        return await self._read(mail.VALUE, mail.Wanted(run_id, key))

    async def expire(self, namespace: str, expiry: Expiry) -> Expired:
        return await self._write(EXPIRE, Expiring(namespace, expiry))

    # -- events ------------------------------------------------------------------------------------------------

    async def emit(self, new: Sequence[NewEvent]) -> list[KeyTaken]:
        return await self._write(events.EMIT, new) if new else []

    async def await_events(self, runs: Sequence[Awaiting]) -> int:
        return await self._write(events.AWAIT, runs) if runs else 0

    async def pending_events(self, namespace: str, *, limit: int) -> list[PendingEvent]:
        return await self._read(events.PENDING, events.Looked(namespace, limit))

    async def distribute(self, event_ids: Sequence[str], *, limit: int) -> Distributed:
        return await self._write(events.DISTRIBUTE, events.Distribution(event_ids, limit))

    async def enroll(self, namespace: str, enrolment: Enrolment) -> None:
        await self._write(events.ENROLL, events.Enrolling(namespace, enrolment))

    async def forget_events(self, namespace: str, forgetting: Forgetting) -> Forgotten:
        return await self._write(events.FORGET, events.Sweep(namespace, forgetting))

    # -- workers -----------------------------------------------------------------------------------------------

    async def reconsider(self, request: ClaimRequest, *, within: timedelta) -> int:
        return await self._write(RECONSIDER, Reconsidering(request, within))

    async def register(self, registration: Registration) -> BeatAnswer:
        return await self._write(register.REGISTER, registration)

    async def beat(self, beat: Beat) -> BeatAnswer:
        return await self._write(register.BEAT, beat)

    async def show(self, steps: Sequence[OpenStep]) -> None:
        await self._write(register.SHOW, steps)

    async def leave(self, worker: WorkerKey) -> None:
        await self._write(register.LEAVE, worker)

    async def ask_drain(self, namespace: str, workers: Sequence[WorkerKey]) -> set[WorkerKey]:
        return await self._write(register.ASK_DRAIN, register.DrainOrder(namespace, workers))

    async def is_asked_to_drain(self, worker: WorkerKey) -> bool:
        return await self._read(register.IS_ASKED_TO_DRAIN, worker)

    async def owned(self, worker: WorkerKey) -> list[OwnedRun]:
        return await self._read(register.OWNED, worker)

    async def recover(self, namespace: str, policy: RecoveryPolicy) -> Recovery:
        return await self._write(RECOVER, RecoveryPass(namespace, policy))

    async def workers(self, namespace: str) -> list[StoredWorker]:
        return await self._read(register.WORKERS, namespace)

    # -- reading -----------------------------------------------------------------------------------------------

    async def get(self, run_id: RunId) -> StoredRun | None:
        return await self._read(reading.GET, run_id)

    async def find(self, wanted: RunFilter) -> list[StoredRun]:
        return await self._read(reading.FIND, wanted)

    async def recall(self, run_ids: Sequence[RunId]) -> list[Claim]:
        return await self._read(RECALL, run_ids)

    async def steps(self, run_id: RunId) -> list[StoredStep]:
        return await self._read(reading.STEPS, run_id)

    async def open_steps(self, run_id: RunId) -> list[StoredStep]:
        return await self._read(reading.OPEN_STEPS, run_id)

    async def attempts(self, run_id: RunId) -> list[StoredAttempt]:
        return await self._read(reading.ATTEMPTS, run_id)

    async def outcomes(self, run_ids: Sequence[RunId]) -> list[RunOutcome]:
        return await self._read(reading.OUTCOMES, run_ids)

    async def latest(self, run_id: RunId) -> RunId:
        return await self._read(reading.LATEST, run_id)

    async def existing(self, run_ids: Sequence[RunId]) -> set[RunId]:
        return await self._read(reading.EXISTING, run_ids)

    async def count_open(self, namespace: str) -> dict[tuple[str, int], int]:
        return await self._read(reading.COUNT_OPEN, namespace)

    # -- health ------------------------------------------------------------------------------------------------

    async def probe(self) -> StoreProbe:
        return await self._read(health.PROBE, None)

    async def replication_lag(self) -> timedelta | None:
        """None: SQLite keeps no copies."""
        return None

    async def backlog(self, namespace: str, *, limit: int) -> Backlog:
        return await self._read(health.BACKLOG, health.BacklogRequest(namespace, limit))

    # -- versions ----------------------------------------------------------------------------------------------

    async def set_default_version(self, namespace: str, workflow: str, version: int) -> bool:
        return await self._write(versions.SET_DEFAULT, versions.Version(namespace, workflow, version))

    async def deprecate_version(self, namespace: str, workflow: str, version: int) -> bool:
        return await self._write(versions.DEPRECATE, versions.Version(namespace, workflow, version))

    async def undeprecate_version(self, namespace: str, workflow: str, version: int) -> None:
        await self._write(versions.UNDEPRECATE, versions.Version(namespace, workflow, version))

    async def version_policy(self, namespace: str, workflow: str) -> VersionPolicy:
        return await self._read(versions.POLICY, versions.WorkflowName(namespace, workflow))

    async def version_policies(self, namespace: str) -> dict[str, VersionPolicy]:
        return await self._read(versions.POLICIES, namespace)

    # -- hints -------------------------------------------------------------------------------------------------

    def listen(self, listener: HintListener) -> Callable[[], None]:
        end = self._listeners.add(listener)
        if self._writer is not None:
            self._writer.wake()
        return end

    # -- inside ------------------------------------------------------------------------------------------------

    def _write(self, verb: Verb[A, R], argument: A) -> asyncio.Future[R]:
        if self._writer is None:
            raise closed(self._path)
        return self._writer.submit(verb, argument)

    def _read(self, verb: Verb[A, R], argument: A) -> asyncio.Future[R]:
        """A database in memory has one connection, so its writer reads too."""
        return self._write(verb, argument) if self._reader is None else self._reader.submit(verb, argument)
