"""Forks: new runs that begin with the history of another."""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from kagzi.model.change import Published
from kagzi.model.run import FirstMessage, RunId

LAST = 2**31 - 1
"""Beyond every `seq`."""


class Cut(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which records are taken along: those after `after_seq` and before `before_seq`, and those before
    `earlier_before`, which attempts before the present one have made."""

    after_seq: int = 0
    before_seq: int = LAST
    earlier_before: int = 0

    def keeps(self, seq: int) -> bool:
        """Whether the record at this place is taken along."""
        return self.after_seq < seq < self.before_seq or seq < self.earlier_before


class Replaced(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The result of a step in the fork, as encoded text."""

    step_id: str
    output: str


class ForkOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be born with the history of `source`, as `cut` says; `source` is in its attempt number `attempt`.

    Without an `input`, it has that of the source. `parked` is the encoded ParkedAt that goes with the history.
    `messages` are in its mailbox from the start, and `published` what it shows.
    """

    namespace: str
    source: RunId
    attempt: int
    cut: Cut
    run_id: RunId
    version: int
    id: str | None = None
    input: str | None = None
    parked: str | None = None
    replaced: tuple[Replaced, ...] = ()
    messages: tuple[FirstMessage, ...] = ()
    published: tuple[Published, ...] = ()


class ForkOutcome(Enum):
    """What became of an order."""

    FORKED = auto()
    TAKEN = auto()
    """Another run has the id; nothing was written."""
    CHANGED = auto()
    """The source is in another attempt, or not there; nothing was written."""


class Forked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer: `run_id` is the fork, or the run that has its id."""

    outcome: ForkOutcome
    run_id: RunId | None = None
