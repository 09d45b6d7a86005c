"""Child runs: how they are started, and what is done with those that outlive their parent."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from kagzi.model.run import NewRun, RunId, RunStatus


class ParentClose(StrEnum):
    """What becomes of an open child when its parent ends, or gives it up."""

    TERMINATE = "TERMINATE"
    """It is CANCELLED at once."""
    CANCEL = "CANCEL"
    """It is asked to end, as by `handle.cancel`."""
    ABANDON = "ABANDON"
    """It goes on."""


class ChildStart(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A child to be started by the operation `step_id` of its parent's attempt number `run_attempt`.

    The operation stays open, shown with the child's run_id, until a record of it is written.
    """

    step_id: str
    run: NewRun
    parent_close: ParentClose = ParentClose.CANCEL
    run_attempt: int = 1


class ChildOutcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The payload of a message of kind CHILD: how the child ended, its texts as they are stored."""

    status: RunStatus
    output: str | None = None
    error: str | None = None


class Forsaken(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An open child that its parent has left behind: it is to end `at_once`, or to be asked to end."""

    run_id: RunId
    parent_run_id: RunId
    at_once: bool


class LeftBehind(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Children that are to be told; `more` says that there may be others."""

    children: tuple[Forsaken, ...]
    more: bool
