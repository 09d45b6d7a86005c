"""Replaying a run's record: what is delivered next, and whether the code still fits it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

import msgspec

from kagzi.model.change import ParkedAt
from kagzi.model.claim import Claim
from kagzi.model.step import StepKind, StepRecord
from kagzi.rules.divergence import spelled


class History:
    """The finished operations of a run, in the order in which they were delivered, and what else its row tells."""

    __slots__ = ("_claim", "_next", "_parked", "_records", "_tried")

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._records = claim.history
        self._parked = None if claim.parked is None else _decode(claim)
        self._tried = _tried(claim) if claim.tries or claim.children else _NOTHING
        self._next = 0

    @property
    def last_seq(self) -> int:
        """The `seq` of the last record; where there is none, that of the last attempt, 0 for none."""
        return self._records[-1].seq if self._records else self._claim.reopened_seq

    def peek(self) -> StepRecord | None:
        """The record to be delivered next; None once the record is used up."""
        return self._records[self._next] if self._next < len(self._records) else None

    def advance(self) -> None:
        """Go on to the record after."""
        self._next += 1

    def of_kind(self, kind: StepKind) -> set[str]:
        """The operations of a kind that are recorded, by step_id, in earlier attempts of the run too."""
        every = (*self._records, *self._claim.earlier.values())
        return {record.step_id for record in every if record.kind is kind}

    @property
    def is_ending(self) -> bool:
        """Whether the record says that the body is over and its steps are being undone."""
        return any(record.kind is StepKind.ENDING for record in self._records)

    def order(self) -> str | None:
        """What this attempt of the run was ordered to end with, encoded, where that is recorded."""
        return next((record.error for record in self._records if record.kind is StepKind.CANCEL), None)

    def goes_beyond(self, *, replaying: bool, asked_before: Callable[[str], bool]) -> bool:
        """Whether the run was further than its body is now: the answer is the same each time a body comes here.

        It was where it has parked at this place of the record or a later one, or where an operation was recorded or
        tried that the body has not asked for yet. One that was asked for before may have been under way, and proves
        nothing.
        """
        if not replaying:  # what was tried may be over by now, so that the body no longer asks for it
            return False
        if self._parked is not None and self._place <= self._parked.seq:
            return True
        rest = self._records[self._next :]
        return any(not asked_before(record.step_id) for record in rest if record.kind not in _UNASKED) or any(
            not asked_before(step_id) for step_id in self._tried
        )

    @property
    def _place(self) -> int:
        """The `seq` of the record that was delivered last; before the first, that of the last attempt, 0 for none."""
        return self._records[self._next - 1].seq if self._next else self._claim.reopened_seq

    def missed(self, asked: Mapping[str, StepKind]) -> tuple[str, ...] | None:
        """What the run waits for, where it parked at the end of its record and its code does not wait there for that.

        Timers leave no record before they fire, and a step that was added before one leaves none either: this is what
        tells that they were there, or were not. None where the code fits.
        """
        parked = self._parked
        if parked is None or parked.seq != self.last_seq:
            return None
        before, now = set(parked.on), {spelled(*found) for found in asked.items()}
        missing = tuple(each for each in parked.on if each not in now)
        added = any(
            kind in (StepKind.STEP, StepKind.CHILD)
            and step_id not in self._tried
            and spelled(step_id, kind) not in before
            for step_id, kind in asked.items()
        )
        return missing or parked.on if missing or added else None

    def matched(self) -> tuple[str, ...]:
        """The last operations that were delivered."""
        return tuple(map(_spell, self._records[max(self._next - _SHOWN, 0) : self._next]))

    def rest(self) -> tuple[str, ...]:
        """The operations that are still to be delivered."""
        return tuple(map(_spell, self._records[self._next :]))


PARKED_ON = 50
"""How many of the operations that a parked run waits for are kept; beyond them only new steps are noticed."""

_SHOWN = 5

_UNASKED = frozenset({StepKind.MARKER, StepKind.CANCEL})
"""Kinds of records that no body asks for. That the body was cancelled proves nothing of where it was: the order may
have been on its way to the store since long before."""


def _spell(record: StepRecord) -> str:
    return spelled(record.step_id, record.kind)


_NOTHING: Set[str] = frozenset()


def _tried(claim: Claim) -> Set[str]:
    """What was begun by this attempt of the run: what earlier ones tried says nothing of where this one has been."""
    tried = {step_id for step_id, tries in claim.tries.items() if tries.used > tries.earlier or tries.in_doubt}
    return tried if claim.reopened_seq else tried | claim.children.keys()


def _decode(claim: Claim) -> ParkedAt | None:
    try:
        parked = msgspec.json.decode(claim.parked or "", type=ParkedAt)
    except msgspec.MsgspecError:  # a damaged row (P23)
        return None
    return parked if parked.seq >= claim.reopened_seq else None  # an earlier attempt parked there
