"""Orders to have ended runs go on, and what became of them."""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from kagzi.model.run import RunId, RunStatus


class ReopenOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A run that has failed, or was cancelled, in its attempt number `attempt`, is to go on in another.

    The attempt makes it safe to give the same order twice, and by two people at once.
    """

    namespace: str
    run_id: RunId
    attempt: int


class ReopenOutcome(Enum):
    """What became of an order."""

    REOPENED = auto()
    """The run is due, in a new attempt."""
    ALREADY = auto()
    """The run is in a later attempt than the order names; nothing was written."""
    OPEN = auto()
    """The run has not ended; nothing was written."""
    COMPLETED = auto()
    """There is nothing to go on with; nothing was written."""
    NOT_FOUND = auto()


class ReopenAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to one order; `status` is what the run had before it."""

    outcome: ReopenOutcome
    status: RunStatus | None = None
