"""The contract of a store. Every verb takes many, is atomic, knows no policy, and is safe to call again.

All verbs are coroutines of the caller's own event loop, raise `StoreUnavailable` when the database can't be reached
or does not answer in time, and may be called concurrently. "Now" is always the store's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import Enum, auto
from typing import Protocol

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
from kagzi.store.borrowed.protocol import Borrowed


class Hint(Enum):
    """Something may have happened. Hints may be lost, late or wrong; polling finds the same."""

    RUNS_DUE = auto()
    RUNS_ENDED = auto()
    DRAIN_ASKED = auto()
    MAIL_CAME = auto()
    REPLY_CAME = auto()
    EVENT_CAME = auto()


HintListener = Callable[[Hint], None]
"""Called on the event loop's thread; must not block and must not raise."""


class SchemaStatus(Protocol):
    """How far the database's schema is migrated."""

    @property
    def current(self) -> int:
        """The number of the last migration applied, 0 for none."""

    @property
    def latest(self) -> int:
        """The number of the last migration that this release knows."""


class Store(Protocol):
    """Durable memory of runs."""

    @property
    def shown(self) -> str:
        """Where it is, for people and logs: never a password."""

    # -- opening -----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect. Idempotent; does not migrate."""

    async def close(self) -> None:
        """Let go of every connection and thread. Idempotent; verbs under way end in StoreUnavailable."""

    async def migrate(self) -> int:
        """Bring the schema to the latest migration and return how many were applied.

        Safe when many processes do it at once. Raises MigrationError naming the migration that failed.
        """

    async def schema_status(self) -> SchemaStatus:
        """Say which migration the database is at and which is the latest."""

    # -- the hot path ------------------------------------------------------------------------------------------

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        """Store new runs, in one commit, and answer each in order.

        A run whose (namespace, id) or run_id is there already is not stored: the answer names the one that is. Many
        with one id, in one call or in many at once: one of them is stored. Durable when it returns.
        """

    async def commit(self, changes: Sequence[Change]) -> Committed:
        """Apply changes in one transaction, each if its (run_id, fence) is RUNNING, checked under the run's row lock.

        May be called again with the very same changes after StoreUnavailable: what the earlier try had written is
        answered ALREADY. A run may stand in a batch more than once, but nothing of it after its transition.
        """

    async def claim(self, request: ClaimRequest) -> Claimed:
        """Take up to `slots` due runs, highest priority first, then longest due, each with its history.

        Atomic against other workers; increments each run's fence, sets `started_at` once. At most two trips. Takes
        nothing where the worker's registration is not alive.
        """

    async def reconsider(self, request: ClaimRequest, *, within: timedelta) -> int:
        """Make runs due of which the code did not fit, and say how many: at most `slots`, of what the worker can take.

        They are SLEEPING with an error, and would be due `within` that time anyway. Nobody is told of it: the worker
        that asks is to claim next. The cost grows with the runs that fall due within that time.
        """

    # -- transactions of users ---------------------------------------------------------------------------------

    async def transact(self, transaction: Transaction) -> Transacted:
        """Execute a user's code in a transaction that also applies the change it settles in, fenced as by `commit`.

        LOST, and nothing is written, where the run is not ours. Raises what the code raises, or StoreUnavailable where
        the connection was lost under it; nothing is written then. Whatever is raised after the change was settled may
        hide that it was written: `transacted` knows.
        """

    async def transacted(self, change: Change) -> Transacted | None:
        """Say what became of a transaction with this change whose answer was lost; None where it had no effect.

        Waits for one that is still committing, so that the answer is true for good.
        """

    # -- inside a caller's own transaction ---------------------------------------------------------------------

    async def start_within(self, borrowed: Borrowed, runs: Sequence[NewRun]) -> list[Started]:
        """Store new runs as `start` does, on a caller's connection: they are there once the caller commits (P3).

        Never claimed. Raises ConfigError where the connection is not to this database, and what its driver raises.
        """

    async def post_within(self, borrowed: Borrowed, messages: Sequence[NewMessage]) -> list[Posted]:
        """Post messages as `post` does, on a caller's connection. The runs are locked until the caller's end.

        Raises as `start_within` does.
        """

    async def emit_within(self, borrowed: Borrowed, new: Sequence[NewEvent]) -> list[KeyTaken]:
        """Store events as `emit` does, on a caller's connection: they come once the caller commits (P3).

        Raises as `start_within` does.
        """

    async def cancel_within(self, borrowed: Borrowed, order: CancelOrder) -> CancelAnswer:
        """Carry out an order as `cancel` does, on a caller's connection. The run, and the one whose child it is, are
        locked until the caller's end.

        Raises as `start_within` does.
        """

    # -- mailboxes ---------------------------------------------------------------------------------------------

    async def post(self, messages: Sequence[NewMessage]) -> list[Posted]:
        """Put messages into the mailboxes of runs, in one commit, and answer each in order.

        Positions follow the order of commits. A run that sleeps is due at once. Nothing is written for a run that has
        ended, or that has a message of the same dedup_key: doing it again is safe where a key is given.
        """

    async def mail(self, worker: WorkerKey, seen: Mapping[RunId, int]) -> Mail:
        """Give the unreceived messages of a worker's runs that came after what it has `seen`, a counter for each, and
        say which of the runs seen it no longer owns, and which of its runs are to be paused."""

    async def undelivered(self, run_id: RunId) -> list[Message]:
        """List the messages that no record of the run has received, in order."""

    async def cancel(self, orders: Sequence[CancelOrder]) -> list[CancelAnswer]:
        """Carry out orders to end runs, in one commit, and answer each in order. Idempotent.

        A run of which no worker has begun the attempt that it is in is CANCELLED now, as is one that is to end at once:
        its fence rises, so whoever has it can write no more. Of any other the mailbox gets a message of kind CANCEL,
        one at the most, and it is due at once.
        """

    async def reopen(self, orders: Sequence[ReopenOrder]) -> list[ReopenAnswer]:
        """Have runs that failed or were cancelled go on in a new attempt, in one commit, and answer each in order.

        Such a run is due at once, under a new fence, with what it has recorded and been sent; its timeout and its
        crashes count anew. Idempotent, as an order names the attempt that ended. A parent that has not ended looks
        after the run again; one that has leaves it alone.
        """

    async def pause(self, orders: Sequence[PauseOrder]) -> list[PauseAnswer]:
        """Have runs rest, in one commit, and answer each in order. Idempotent: the first reason stays.

        A paused run is due for nobody, whatever comes for it or becomes of its worker, until it is resumed or asked to
        end, and keeps when it would have been due. The worker that has it is hinted, and told by `mail`.
        """

    async def resume(self, orders: Sequence[ResumeOrder]) -> list[PauseAnswer]:
        """Let runs go on, in one commit, and answer each in order. Idempotent.

        Each is due when it would have been without the pause, but not before now.
        """

    async def fork(self, order: ForkOrder) -> Forked:
        """Store a new run with a part of another's history, in one commit; it is due at once.

        What it has of the source, beside the records, is what an execution of them sees: when it was begun, and in
        which attempt. Its timeout counts anew. The same order again is answered as the first, once the run is there.
        """

    async def answers(self, updates: Sequence[tuple[RunId, int]]) -> list[Answered]:
        """Say how updates stand, each given by its run and its position; those that there are not are left out."""

    async def value(self, run_id: RunId, key: str) -> str | None:
        """Give what a run has published last under a key, None where it has not."""

    async def expire(self, namespace: str, expiry: Expiry) -> Expired:
        """End a batch of the runs whose deadlines have passed, as `cancel` would, but FAILED where it is at once.

        The cost grows with the runs whose deadlines have passed, and with no others. Concurrent callers don't wait for
        each other.
        """

    async def forsaken(self, namespace: str, *, limit: int) -> LeftBehind:
        """Find open children of runs that have ended, at most `limit`, that are to end or to be asked to, and have not.

        Those with `parent_close` ABANDON are not among them. A run for which there is none is not looked at again.
        """

    # -- events ------------------------------------------------------------------------------------------------

    async def emit(self, new: Sequence[NewEvent]) -> list[KeyTaken]:
        """Store events, in one commit; those whose event_id or dedup_key is there already are not stored again.

        Answers which of them are others than the ones that have their dedup_key.
        """

    async def await_events(self, runs: Sequence[Awaiting]) -> int:
        """Note what events runs wait for, fenced as by `commit`, and give those that fit to the waits.

        Answers how many of the waits are known not to be open any more: where it is 0, nothing has come.

        A wait that is there keeps its beginning; those that a run no longer has are forgotten. Of an event and a wait
        that are committed side by side, either this or `distribute` sees both. A wait gets one event, the earliest that
        came after it began, or at most its lookback before, and that no other wait of the run has received before this
        one began; it comes by the run's mailbox.
        """

    async def pending_events(self, namespace: str, *, limit: int) -> list[PendingEvent]:
        """List events that `distribute` has not done with, in order of their ids, with those who handle them."""

    async def distribute(self, event_ids: Sequence[str], *, limit: int) -> Distributed:
        """Give events to up to `limit` waits each, and be done with those that all fitting waits have got.

        A wait is given one event, once. Concurrent callers don't wait for each other, nor for runs that are locked.
        """

    async def enroll(self, namespace: str, enrolment: Enrolment) -> None:
        """Note which workflows handle events, from now on; of several versions of one the highest counts."""

    async def forget_events(self, namespace: str, forgetting: Forgetting) -> Forgotten:
        """Delete a batch of old events, and of waits of runs that have ended."""

    # -- workers -----------------------------------------------------------------------------------------------

    async def register(self, registration: Registration) -> BeatAnswer:
        """Enter a worker in the register, its lease beginning now. The same key again only renews it."""

    async def beat(self, beat: Beat) -> BeatAnswer:
        """Renew a worker's lease and show what it is doing. Never revives a DEAD or STOPPED registration."""

    async def show(self, steps: Sequence[OpenStep]) -> None:
        """Make steps visible that are executing, with what they have told, each if its (run_id, fence) is RUNNING.

        Nothing is written of an execution whose outcome is stored. May be called again with the same or with less.
        """

    async def leave(self, worker: WorkerKey) -> None:
        """Mark a registration STOPPED. Runs it still owns are recovered like those of a dead worker."""

    async def ask_drain(self, namespace: str, workers: Sequence[WorkerKey]) -> set[WorkerKey]:
        """Note for these registrations that they are to drain, and answer those that are alive to learn of it.

        They are told by their next heartbeat, and hinted.
        """

    async def is_asked_to_drain(self, worker: WorkerKey) -> bool:
        """Say whether somebody asked this registration to drain; False where it is unknown."""

    async def owned(self, worker: WorkerKey) -> list[OwnedRun]:
        """List the runs that are RUNNING under this registration: what the worker should have in memory."""

    async def recover(self, namespace: str, policy: RecoveryPolicy) -> Recovery:
        """Declare workers DEAD whose lease ran out, and bring back a batch of the runs of DEAD and STOPPED ones.

        Each run's fence is incremented, so its former owner can write no more. A run of a STOPPED worker counts no
        crash. Concurrent callers don't wait for each other.
        """

    async def workers(self, namespace: str) -> list[StoredWorker]:
        """List registrations, latest first, without those that ended more than a day ago."""

    # -- reading -----------------------------------------------------------------------------------------------

    async def get(self, run_id: RunId) -> StoredRun | None:
        """Read one run with its payloads."""

    async def find(self, wanted: RunFilter) -> list[StoredRun]:
        """List runs without payloads, newest (greatest run_id) first, at most `wanted.limit`, below `wanted.cursor`."""

    async def recall(self, run_ids: Sequence[RunId]) -> list[Claim]:
        """Read runs as a claim would give them, without taking them: the fence is the one that they have.

        Unknown ids are left out. For looking at: what is read of a run that is being executed may be of two moments.
        """

    async def steps(self, run_id: RunId) -> list[StoredStep]:
        """List a run's operations: finished ones in order of `seq`, then the open ones."""

    async def open_steps(self, run_id: RunId) -> list[StoredStep]:
        """List a run's operations that are not finished and are shown: executing for long, or waiting to be retried."""

    async def attempts(self, run_id: RunId) -> list[StoredAttempt]:
        """List a run's failed executions of steps, by step and number."""

    async def outcomes(self, run_ids: Sequence[RunId]) -> list[RunOutcome]:
        """Give the outcomes of those runs that have ended, and mark the others as awaited, so that their end is hinted.

        Of a run that continued as new, it is that of the last of its chain. Unknown ids are left out.
        """

    async def latest(self, run_id: RunId) -> RunId:
        """Name the last of the chain of runs that continued as new, to which this one belongs: nearly always itself."""

    async def existing(self, run_ids: Sequence[RunId]) -> set[RunId]:
        """Say which of these runs are there."""

    async def count_open(self, namespace: str) -> dict[tuple[str, int], int]:
        """Count runs that have not ended, by (workflow, version)."""

    # -- health ------------------------------------------------------------------------------------------------

    async def probe(self) -> StoreProbe:
        """Ask for next to nothing, in one trip: how long this takes is how long the way there and back takes."""

    async def replication_lag(self) -> timedelta | None:
        """How far the slowest copy of the database is behind; None where there is none, or where we may not know."""

    async def backlog(self, namespace: str, *, limit: int) -> Backlog:
        """Count the due runs of each queue, workflow and version: each lane's up to `limit`, all up to ten times that.

        Its cost grows with the lanes in use (it looks into 1,000 at most) and with what it counts, and neither with
        finished nor with sleeping runs.
        """

    # -- versions ----------------------------------------------------------------------------------------------

    async def set_default_version(self, namespace: str, workflow: str, version: int) -> bool:
        """Set the version that a start without one gets; False, and nothing is set, where it is deprecated."""

    async def deprecate_version(self, namespace: str, workflow: str, version: int) -> bool:
        """Note that a version gets no new runs; False, and nothing is noted, where it is the default. Idempotent."""

    async def undeprecate_version(self, namespace: str, workflow: str, version: int) -> None:
        """Let a version get new runs again."""

    async def version_policy(self, namespace: str, workflow: str) -> VersionPolicy:
        """Read a workflow's default version and its deprecated ones."""

    async def version_policies(self, namespace: str) -> dict[str, VersionPolicy]:
        """Read them of every workflow that has any, by its name."""

    # -- hints -------------------------------------------------------------------------------------------------

    def listen(self, listener: HintListener) -> Callable[[], None]:
        """Have `listener` called on every hint, beginning some time after now; the returned function ends it."""
