"""Orders to hold runs for a while, and what became of them."""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from kagzi.model.run import RunId, RunStatus


class PauseOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A run is to rest from now on; `reason` is for people."""

    namespace: str
    run_id: RunId
    reason: str | None = None


class ResumeOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A run is to go on."""

    namespace: str
    run_id: RunId


class PauseOutcome(Enum):
    """What became of an order."""

    DONE = auto()
    ALREADY = auto()
    """It was so before; nothing was written."""
    ENDING = auto()
    """The run was asked to end, so it is not paused; nothing was written."""
    CLOSED = auto()
    """The run had ended; nothing was written."""
    NOT_FOUND = auto()


class PauseAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to one order; `status` is what the run has."""

    outcome: PauseOutcome
    status: RunStatus | None = None
