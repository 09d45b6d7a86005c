"""One process's line to a store: it is watched, and it can be cut."""

# ruff: noqa: D102 - the protocol of stores says what each verb does.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import ParamSpec, TypeVar

import msgspec

from kagzi.model.cancelling import CancelAnswer, CancelOrder, Expired, Expiry
from kagzi.model.change import Applied, Change, Committed
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
from kagzi.store.borrowed.protocol import Borrowed
from kagzi.store.protocol import HintListener, SchemaStatus, Store
from kagzi.testing.witness import Died, Witness, describe

P = ParamSpec("P")
T = TypeVar("T")


class Line:
    """A `Store` that is another one, seen from one process. Somebody else opens and closes that.

    `queues` are those on which something was started, and from which is claimed.
    Once cut, it answers nothing: everything that was under way or comes later raises Died. `on_stir` is called after
    every answer.
    """

    def __init__(self, store: Store, *, witness: Witness | None, on_stir: Callable[[], None]) -> None:
        self._store = store
        self._witness = witness
        self._on_stir = on_stir
        self.queues: dict[str, None] = {}
        self.is_cut = False
        self.under_way = 0
        self.writes = 0
        self.claims_asked = 0
        self.claims_answered = 0
        self.claimed: Claimed | None = None

    def cut(self) -> None:
        """Answer nothing from now on."""
        self.is_cut = True
        self._on_stir()

    @property
    def shown(self) -> str:
        return self._store.shown

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def migrate(self) -> int:
        return await self._ask(self._store.migrate)

    async def schema_status(self) -> SchemaStatus:
        return await self._ask(self._store.schema_status)

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        self.writes += 1
        self.queues.update((run.queue, None) for run in runs)
        if self._witness is None:
            return await self._ask(self._store.start, runs)
        return await self._write("start of the run", lambda: self._ask(self._store.start, runs))

    async def commit(self, changes: Sequence[Change]) -> Committed:
        self.writes += 1
        self.queues.update((start.run.queue, None) for change in changes for start in change.starts)
        if self._witness is None:
            return await self._ask(self._store.commit, changes)
        # One by one, so that a process can die between any two of them, as it could had they left apart.
        return _together([await self._commit_one(change) for change in changes])

    async def transact(self, transaction: Transaction) -> Transacted:
        self.writes += 1
        if self._witness is None:
            return await self._ask(self._store.transact, transaction)
        return await self._write(
            "transaction", lambda: self._ask(self._store.transact, transaction), lambda: transaction.change
        )

    async def transacted(self, change: Change) -> Transacted | None:
        return await self._ask(self._store.transacted, change)

    async def start_within(self, borrowed: Borrowed, runs: Sequence[NewRun]) -> list[Started]:
        return await self._ask(self._store.start_within, borrowed, runs)

    async def post_within(self, borrowed: Borrowed, messages: Sequence[NewMessage]) -> list[Posted]:
        return await self._ask(self._store.post_within, borrowed, messages)

    async def emit_within(self, borrowed: Borrowed, new: Sequence[NewEvent]) -> list[KeyTaken]:
        return await self._ask(self._store.emit_within, borrowed, new)

    async def cancel_within(self, borrowed: Borrowed, order: CancelOrder) -> CancelAnswer:
        return await self._ask(self._store.cancel_within, borrowed, order)

    async def claim(self, request: ClaimRequest) -> Claimed:
        """Claim from every queue that something was started on; the answer leaves out when to look again."""
        self.claims_asked = number = self.claims_asked + 1
        queues = tuple({**dict.fromkeys(request.queues), **self.queues})
        claimed = await self._ask(self._store.claim, msgspec.structs.replace(request, queues=queues))
        self.claims_answered, self.claimed = number, claimed
        # Real time would pass until then; who moves the clock has the worker look.
        return msgspec.structs.replace(claimed, next_due=None)

    async def reconsider(self, request: ClaimRequest, *, within: timedelta) -> int:
        return await self._ask(self._store.reconsider, request, within=within)

    async def post(self, messages: Sequence[NewMessage]) -> list[Posted]:
        self.writes += 1
        return await self._ask(self._store.post, messages)

    async def mail(self, worker: WorkerKey, seen: Mapping[RunId, int]) -> Mail:
        return await self._ask(self._store.mail, worker, seen)

    async def undelivered(self, run_id: RunId) -> list[Message]:
        return await self._ask(self._store.undelivered, run_id)

    async def pause(self, orders: Sequence[PauseOrder]) -> list[PauseAnswer]:
        self.writes += 1
        return await self._ask(self._store.pause, orders)

    async def resume(self, orders: Sequence[ResumeOrder]) -> list[PauseAnswer]:
        self.writes += 1
        return await self._ask(self._store.resume, orders)

    async def cancel(self, orders: Sequence[CancelOrder]) -> list[CancelAnswer]:
        self.writes += 1
        return await self._ask(self._store.cancel, orders)

    async def reopen(self, orders: Sequence[ReopenOrder]) -> list[ReopenAnswer]:
        self.writes += 1
        return await self._ask(self._store.reopen, orders)

    async def fork(self, order: ForkOrder) -> Forked:
        self.writes += 1
        return await self._ask(self._store.fork, order)

    async def answers(self, updates: Sequence[tuple[RunId, int]]) -> list[Answered]:
        return await self._ask(self._store.answers, updates)

    async def value(self, run_id: RunId, key: str) -> str | None:
        return await self._ask(self._store.value, run_id, key)

    async def expire(self, namespace: str, expiry: Expiry) -> Expired:
        expired = await self._ask(self._store.expire, namespace, expiry)
        self.writes += bool(expired.failed or expired.asked)
        return expired

    async def forsaken(self, namespace: str, *, limit: int) -> LeftBehind:
        return await self._ask(self._store.forsaken, namespace, limit=limit)

    async def emit(self, new: Sequence[NewEvent]) -> list[KeyTaken]:
        self.writes += 1
        return await self._ask(self._store.emit, new)

    async def await_events(self, runs: Sequence[Awaiting]) -> int:
        self.writes += 1
        return await self._ask(self._store.await_events, runs)

    async def pending_events(self, namespace: str, *, limit: int) -> list[PendingEvent]:
        return await self._ask(self._store.pending_events, namespace, limit=limit)

    async def distribute(self, event_ids: Sequence[str], *, limit: int) -> Distributed:
        self.writes += 1
        return await self._ask(self._store.distribute, event_ids, limit=limit)

    async def enroll(self, namespace: str, enrolment: Enrolment) -> None:
        await self._ask(self._store.enroll, namespace, enrolment)

    async def forget_events(self, namespace: str, forgetting: Forgetting) -> Forgotten:
        return await self._ask(self._store.forget_events, namespace, forgetting)

    async def register(self, registration: Registration) -> BeatAnswer:
        return await self._ask(self._store.register, registration)

    async def beat(self, beat: Beat) -> BeatAnswer:
        return await self._ask(self._store.beat, beat)

    async def show(self, steps: Sequence[OpenStep]) -> None:
        await self._ask(self._store.show, steps)

    async def leave(self, worker: WorkerKey) -> None:
        """The dead don't sign off, and don't fail at it either."""
        if not self.is_cut:
            await self._ask(self._store.leave, worker)

    async def ask_drain(self, namespace: str, workers: Sequence[WorkerKey]) -> set[WorkerKey]:
        return await self._ask(self._store.ask_drain, namespace, workers)

    async def is_asked_to_drain(self, worker: WorkerKey) -> bool:
        return await self._ask(self._store.is_asked_to_drain, worker)

    async def owned(self, worker: WorkerKey) -> list[OwnedRun]:
        return await self._ask(self._store.owned, worker)

    async def recover(self, namespace: str, policy: RecoveryPolicy) -> Recovery:
        return await self._ask(self._store.recover, namespace, policy)

    async def workers(self, namespace: str) -> list[StoredWorker]:
        return await self._ask(self._store.workers, namespace)

    async def get(self, run_id: RunId) -> StoredRun | None:
        return await self._ask(self._store.get, run_id)

    async def find(self, wanted: RunFilter) -> list[StoredRun]:
        return await self._ask(self._store.find, wanted)

    async def recall(self, run_ids: Sequence[RunId]) -> list[Claim]:
        return await self._ask(self._store.recall, run_ids)

    async def steps(self, run_id: RunId) -> list[StoredStep]:
        return await self._ask(self._store.steps, run_id)

    async def open_steps(self, run_id: RunId) -> list[StoredStep]:
        return await self._ask(self._store.open_steps, run_id)

    async def attempts(self, run_id: RunId) -> list[StoredAttempt]:
        return await self._ask(self._store.attempts, run_id)

    async def outcomes(self, run_ids: Sequence[RunId]) -> list[RunOutcome]:
        return await self._ask(self._store.outcomes, run_ids)

    async def latest(self, run_id: RunId) -> RunId:
        return await self._ask(self._store.latest, run_id)

    async def existing(self, run_ids: Sequence[RunId]) -> set[RunId]:
        return await self._ask(self._store.existing, run_ids)

    async def count_open(self, namespace: str) -> dict[tuple[str, int], int]:
        return await self._ask(self._store.count_open, namespace)

    async def probe(self) -> StoreProbe:
        return await self._ask(self._store.probe)

    async def replication_lag(self) -> timedelta | None:
        return await self._ask(self._store.replication_lag)

    async def backlog(self, namespace: str, *, limit: int) -> Backlog:
        return await self._ask(self._store.backlog, namespace, limit=limit)

    async def set_default_version(self, namespace: str, workflow: str, version: int) -> bool:
        return await self._ask(self._store.set_default_version, namespace, workflow, version)

    async def deprecate_version(self, namespace: str, workflow: str, version: int) -> bool:
        return await self._ask(self._store.deprecate_version, namespace, workflow, version)

    async def undeprecate_version(self, namespace: str, workflow: str, version: int) -> None:
        await self._ask(self._store.undeprecate_version, namespace, workflow, version)

    async def version_policy(self, namespace: str, workflow: str) -> VersionPolicy:
        return await self._ask(self._store.version_policy, namespace, workflow)

    async def version_policies(self, namespace: str) -> dict[str, VersionPolicy]:
        return await self._ask(self._store.version_policies, namespace)

    def listen(self, listener: HintListener) -> Callable[[], None]:
        return self._store.listen(listener)

    # -- inside ------------------------------------------------------------------------------------------------

    async def _ask(self, verb: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        if self.is_cut:
            raise Died
        self.under_way += 1
        try:
            answer = await verb(*args, **kwargs)
        finally:
            self.under_way -= 1
            self._on_stir()
        if self.is_cut:
            raise Died
        return answer

    async def _commit_one(self, change: Change) -> Committed:
        return await self._write(describe(change), lambda: self._ask(self._store.commit, [change]), lambda: change)

    async def _write(
        self, what: str, write: Callable[[], Awaitable[T]], change: Callable[[], Change | None] = lambda: None
    ) -> T:
        assert self._witness is not None
        try:
            return await self._witness.write(what, write, change)
        except Died:
            self.cut()
            raise


def _together(answers: Sequence[Committed]) -> Committed:
    """The answer to a batch, put together of the answers to its changes: the clock stood still meanwhile."""
    outcomes: list[Applied] = []
    earlier: dict[int, datetime] = {}
    for place, answer in enumerate(answers):
        outcomes += answer.outcomes
        earlier.update((place, moment) for moment in answer.earlier.values())
    return Committed(outcomes=tuple(outcomes), now=answers[-1].now, earlier=earlier)
