"""What an execution wants written. Decided by `rules`, committed by the journal, applied by a store."""

from __future__ import annotations

from datetime import datetime
from enum import Enum, auto

import msgspec

from kagzi.model.child import ChildStart
from kagzi.model.message import Reply
from kagzi.model.run import RunId, RunStatus
from kagzi.model.step import FailedAttempt, StartMark, StepRecord


class ParkedAt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a run parked: after the record `seq`, waiting for the operations `on` (the first of them, as `kind id`).

    A replay that comes to this place must wait for them, too, and begin nothing that had not begun.
    """

    seq: int
    on: tuple[str, ...] = ()


class Successor(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The run that takes the place of one that continues as new: it has all of it but these, and no history."""

    run_id: RunId
    version: int
    input: str


class Transition(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """How an execution lets go of its run. Every transition releases the owner; fields not used by it stay None.

    COMPLETED carries `output`, FAILED and CANCELLED `error`. SLEEPING carries `wake_at` (None: only outside events
    wake it), `waits` (JSON list of texts for people to see), `inbox` (how many messages the execution has seen: where
    the run has more, it is due at once), and either `error` or `parked` (an encoded ParkedAt; the run keeps its last).
    PENDING gives the run back, due at once or at `wake_at`.

    `reopened_seq` begins a new attempt of the run: whatever is recorded up to this `seq` counts as finished before,
    and `attempts` goes up by one. Without it no attempt is used. `undoes` says that steps with undos were completed by
    then: the run is not ended without its body from there on.

    `continues` lets another run take this one's place, with its id and what it was sent and has not received; the
    status is COMPLETED then, without an output.

    `parent` is the run's parent where the run ends: it is told in the same transaction.
    """

    status: RunStatus
    output: str | None = None
    error: str | None = None
    wake_at: datetime | None = None
    waits: str | None = None
    inbox: int = 0
    parked: str | None = None
    reopened_seq: int | None = None
    undoes: bool = False
    parent: RunId | None = None
    continues: Successor | None = None


class Published(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A value that a run shows under a key, as encoded text."""

    key: str
    value: str


class Change(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One atomic write of an execution, valid only while the run is RUNNING under this `fence`.

    `records` are inserted (an operation already finished stays as it is), `failed` executions noted, then `transition`
    is applied; all or none. `replaces` lets the records take the place of what an earlier attempt of the run recorded
    for the same operations. `received` are the positions of the messages that the records received; `returned` of those
    that were received and that nobody waited for any more: they are unreceived again. `starts` are children that
    are born with it. `replies` answer updates, each once, and `published` values take the place of those
    before under their keys. `marks` are executions that are about to begin, once this is known to be durable.
    """

    run_id: RunId
    fence: int
    records: tuple[StepRecord, ...] = ()
    failed: tuple[FailedAttempt, ...] = ()
    replaces: bool = False
    received: tuple[int, ...] = ()
    returned: tuple[int, ...] = ()
    starts: tuple[ChildStart, ...] = ()
    replies: tuple[Reply, ...] = ()
    published: tuple[Published, ...] = ()
    marks: tuple[StartMark, ...] = ()
    transition: Transition | None = None


class PlainChange(Change, frozen=True, kw_only=True, gc=False):
    """A change of which its maker knows that it has `records` that replace nothing, as nearly all have: stores need not
    look for the rest. Nothing may be added to one."""


def has_rarities(change: Change) -> bool:
    """Whether a change holds what few do, which stores write by statements of their own."""
    if change.__class__ is PlainChange:
        return False
    received = change.received or change.returned
    return bool(change.failed or received or change.starts or change.replies or change.published or change.marks)


def is_receipt(change: Change) -> bool:
    """Whether a change is one record that received one message, and nothing else."""
    more = change.failed or change.returned or change.starts or change.replies or change.published or change.marks
    return len(change.records) == len(change.received) == 1 and not more and change.transition is None


class Applied(Enum):
    """What became of a change."""

    APPLIED = auto()
    """Written now."""
    ALREADY = auto()
    """Written by our own earlier try, whose answer was lost with the connection."""
    LOST = auto()
    """Refused: the run has another owner, or has ended. Nothing was recorded."""
    TAKEN = auto()
    """A child was not started, as another run has its id. The rest of the change was written."""


class Committed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to a batch: one `Applied` per change, in order, and the store's time of the commit, which is the
    `finished_at` of every record in it. A change whose records an earlier try had stored keeps their time: `earlier`
    gives it by the change's place in the batch (nearly always empty)."""

    outcomes: tuple[Applied, ...]
    now: datetime
    earlier: dict[int, datetime] = {}
