"""Orders to end runs before their time, and what became of them."""

from __future__ import annotations

from datetime import datetime
from enum import Enum, auto

import msgspec

from kagzi.model.run import RunId, RunStatus


class CancelOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A run is to end with `error` (an encoded StepError): its body is asked for it, or it ends `at_once`.

    With `left_by`, its parent, only while that has ended: a parent that goes on by hand wants its children.
    """

    namespace: str
    run_id: RunId
    error: str
    at_once: bool = False
    left_by: RunId | None = None


class Expiry(msgspec.Struct, frozen=True, kw_only=True):
    """What runs end with whose time is over, encoded: those that have not ended by their deadline, and those that
    nobody had begun by theirs. `batch` of each at a time."""

    run_error: str
    start_error: str
    batch: int = 500


class Expired(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass ended: `failed` runs are FAILED, of those `asked` the mailbox has an order.

    `more` says that another pass is worth it, `next_due` when the next deadline passes, None where no run has one.
    """

    failed: tuple[RunId, ...] = ()
    asked: tuple[RunId, ...] = ()
    more: bool = False
    next_due: datetime | None = None


class CancelOutcome(Enum):
    """What became of an order."""

    ENDED = auto()
    """The run is CANCELLED now: nobody had begun it, or it was to end at once."""
    ASKED = auto()
    """The order is in the run's mailbox."""
    ALREADY = auto()
    """It was cancelled, or its body asked, before; nothing was written."""
    CLOSED = auto()
    """The run had ended otherwise, without having been asked; nothing was written."""
    NOT_FOUND = auto()


class CancelAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to one order; `status` is what the run had before it."""

    outcome: CancelOutcome
    status: RunStatus | None = None
