"""The PostgreSQL store's face: every verb of the protocol, each handed to the file that knows how."""

# ruff: noqa: D102 - the protocol says what each verb does.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

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
from kagzi.store.postgres.address import Names, parse_address
from kagzi.store.postgres.cancelling import Canceller
from kagzi.store.postgres.children import Orphanage
from kagzi.store.postgres.claim import Claimer
from kagzi.store.postgres.commit import Committer
from kagzi.store.postgres.connections import Connections
from kagzi.store.postgres.events import Events
from kagzi.store.postgres.forking import Forker
from kagzi.store.postgres.health import HealthReader
from kagzi.store.postgres.hints import Ear
from kagzi.store.postgres.mail import Post
from kagzi.store.postgres.migrate import Migrator
from kagzi.store.postgres.pausing import Pauser
from kagzi.store.postgres.reading import Reader
from kagzi.store.postgres.reopening import Reopener
from kagzi.store.postgres.start import Starter
from kagzi.store.postgres.transact import Transactor
from kagzi.store.postgres.versions import Versions
from kagzi.store.postgres.within import Within
from kagzi.store.postgres.workers import Register
from kagzi.store.protocol import HintListener, SchemaStatus


class PostgresStore:
    """`kagzi.store.protocol.Store` on PostgreSQL 14 or later; the promises stand there.

    Holds at most `settings.pool_size` connections, and one more while somebody listens for hints. Half of them are
    kept for looking, so that no long listing keeps a checkpoint or a heartbeat waiting. Transactions of users have
    others, as many as are for writing, which are opened when they are first needed.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        address = parse_address(url)
        self._shown = address.shown
        names = Names(settings.schema)
        lookers = settings.pool_size // 2
        self._writing = Connections(address, settings, size=settings.pool_size - lookers)
        self._looking = Connections(address, settings, size=lookers) if lookers else self._writing
        writers = settings.pool_size - lookers
        self._lent = Connections(address, settings, size=writers, lent_for=settings.lease)
        timeout_s = settings.store_timeout.total_seconds()
        self._transactor = Transactor(self._lent, self._writing, address, names, timeout_s=timeout_s)
        self._migrator = Migrator(self._looking, address, names)
        self._starter = Starter(self._writing, names)
        self._committer = Committer(self._writing, names)
        self._within = Within(names)
        self._post = Post(self._writing, names)
        self._events = Events(self._writing, names)
        self._canceller = Canceller(self._writing, names)
        self._reopener = Reopener(self._writing, names)
        self._pauser = Pauser(self._writing, names)

        self._forker = Forker(self._writing, names)
        self._orphanage = Orphanage(self._writing, names)
        self._claimer = Claimer(self._writing, names, self._post)
        self._register = Register(self._writing, names)
        self._reader = Reader(self._looking, names)
        self._versions = Versions(self._looking, names)
        self._health = HealthReader(self._looking, names)
        self._ear = Ear(address, names, settings)

    @property
    def shown(self) -> str:
        return self._shown

    # -- opening -----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        await self._writing.open()
        await self._looking.open()
        self._lent.unlock()

    async def close(self) -> None:
        await self._ear.close()
        await self._lent.close()
        await self._writing.close()
        await self._looking.close()

    async def migrate(self) -> int:
        return await self._migrator.migrate()

    async def schema_status(self) -> SchemaStatus:
        return await self._migrator.status()

    # -- the hot path ------------------------------------------------------------------------------------------

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        return await self._starter.start(runs)

    async def commit(self, changes: Sequence[Change]) -> Committed:
        return await self._committer.commit(changes)

    async def claim(self, request: ClaimRequest) -> Claimed:
        return await self._claimer.claim(request)

    # -- transactions of users ---------------------------------------------------------------------------------

    async def transact(self, transaction: Transaction) -> Transacted:
        return await self._transactor.transact(transaction)

    async def transacted(self, change: Change) -> Transacted | None:
        return await self._transactor.transacted(change)

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
        return await self._post.post(messages)

    async def mail(self, worker: WorkerKey, seen: Mapping[RunId, int]) -> Mail:
        return await self._post.mail(worker, seen)

    async def undelivered(self, run_id: RunId) -> list[Message]:
        return (await self._post.unreceived({run_id: 0})).get(run_id, []) if is_id(run_id) else []

    async def forsaken(self, namespace: str, *, limit: int) -> LeftBehind:
        return await self._orphanage.forsaken(namespace, limit=limit)

    async def cancel(self, orders: Sequence[CancelOrder]) -> list[CancelAnswer]:
        return await self._canceller.cancel(orders)

    async def reopen(self, orders: Sequence[ReopenOrder]) -> list[ReopenAnswer]:
        return await self._reopener.reopen(orders)

    async def pause(self, orders: Sequence[PauseOrder]) -> list[PauseAnswer]:
        return await self._pauser.pause(orders)

    async def resume(self, orders: Sequence[ResumeOrder]) -> list[PauseAnswer]:
        return await self._pauser.resume(orders)

    async def fork(self, order: ForkOrder) -> Forked:
        return await self._forker.fork(order)

    async def answers(self, updates: Sequence[tuple[RunId, int]]) -> list[Answered]:
        return await self._post.answers(updates)

    async def value(self, run_id: RunId, key: str) -> str | None:
        return await self._post.value(run_id, key)

    async def expire(self, namespace: str, expiry: Expiry) -> Expired:
        return await self._canceller.expire(namespace, expiry)

    # -- events ------------------------------------------------------------------------------------------------

    async def emit(self, new: Sequence[NewEvent]) -> list[KeyTaken]:
        return await self._events.emit(new)

    async def await_events(self, runs: Sequence[Awaiting]) -> int:
        return await self._events.await_events(runs)

    async def pending_events(self, namespace: str, *, limit: int) -> list[PendingEvent]:
        return await self._events.pending_events(namespace, limit=limit)

    async def distribute(self, event_ids: Sequence[str], *, limit: int) -> Distributed:
        return await self._events.distribute(event_ids, limit=limit)

    async def enroll(self, namespace: str, enrolment: Enrolment) -> None:
        await self._events.enroll(namespace, enrolment)

    async def forget_events(self, namespace: str, forgetting: Forgetting) -> Forgotten:
        return await self._events.forget_events(namespace, forgetting)

    # -- workers -----------------------------------------------------------------------------------------------

    async def reconsider(self, request: ClaimRequest, *, within: timedelta) -> int:
        return await self._claimer.reconsider(request, within=within)

    async def register(self, registration: Registration) -> BeatAnswer:
        return await self._register.register(registration)

    async def beat(self, beat: Beat) -> BeatAnswer:
        return await self._register.beat(beat)

    async def show(self, steps: Sequence[OpenStep]) -> None:
        await self._register.show(steps)

    async def leave(self, worker: WorkerKey) -> None:
        await self._register.leave(worker)

    async def ask_drain(self, namespace: str, workers: Sequence[WorkerKey]) -> set[WorkerKey]:
        return await self._register.ask_drain(namespace, workers)

    async def is_asked_to_drain(self, worker: WorkerKey) -> bool:
        return await self._register.is_asked_to_drain(worker)

    async def owned(self, worker: WorkerKey) -> list[OwnedRun]:
        return await self._register.owned(worker)

    async def recover(self, namespace: str, policy: RecoveryPolicy) -> Recovery:
        return await self._register.recover(namespace, policy)

    async def workers(self, namespace: str) -> list[StoredWorker]:
        return await self._register.workers(namespace)

    # -- reading -----------------------------------------------------------------------------------------------

    async def get(self, run_id: RunId) -> StoredRun | None:
        return await self._reader.get(run_id)

    async def find(self, wanted: RunFilter) -> list[StoredRun]:
        return await self._reader.find(wanted)

    async def recall(self, run_ids: Sequence[RunId]) -> list[Claim]:
        return await self._claimer.recall(run_ids)

    async def steps(self, run_id: RunId) -> list[StoredStep]:
        return await self._reader.steps(run_id)

    async def open_steps(self, run_id: RunId) -> list[StoredStep]:
        return await self._reader.open_steps(run_id)

    async def attempts(self, run_id: RunId) -> list[StoredAttempt]:
        return await self._reader.attempts(run_id)

    async def outcomes(self, run_ids: Sequence[RunId]) -> list[RunOutcome]:
        return await self._reader.outcomes(run_ids)

    async def latest(self, run_id: RunId) -> RunId:
        return await self._reader.latest(run_id)

    async def existing(self, run_ids: Sequence[RunId]) -> set[RunId]:
        return await self._reader.existing(run_ids)

    async def count_open(self, namespace: str) -> dict[tuple[str, int], int]:
        return await self._reader.count_open(namespace)

    # -- health ------------------------------------------------------------------------------------------------

    async def probe(self) -> StoreProbe:
        return await self._health.probe()

    async def replication_lag(self) -> timedelta | None:
        return await self._health.replication_lag()

    async def backlog(self, namespace: str, *, limit: int) -> Backlog:
        return await self._health.backlog(namespace, limit=limit)

    # -- versions ----------------------------------------------------------------------------------------------

    async def set_default_version(self, namespace: str, workflow: str, version: int) -> bool:
        return await self._versions.set_default_version(namespace, workflow, version)

    async def deprecate_version(self, namespace: str, workflow: str, version: int) -> bool:
        return await self._versions.deprecate_version(namespace, workflow, version)

    async def undeprecate_version(self, namespace: str, workflow: str, version: int) -> None:
        await self._versions.undeprecate_version(namespace, workflow, version)

    async def version_policy(self, namespace: str, workflow: str) -> VersionPolicy:
        return await self._versions.version_policy(namespace, workflow)

    async def version_policies(self, namespace: str) -> dict[str, VersionPolicy]:
        return await self._versions.version_policies(namespace)

    # -- hints -------------------------------------------------------------------------------------------------

    def listen(self, listener: HintListener) -> Callable[[], None]:
        return self._ear.listen(listener)
