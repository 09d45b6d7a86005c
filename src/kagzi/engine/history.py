"""Replaying a run's record: what is delivered next, and whether the code still fits it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from kagzi.errors import DivergenceError
from kagzi.model.change import ParkedAt
from kagzi.model.claim import Claim
from kagzi.model.step import StepKind, StepRecord


class History:
    """The finished operations of a run, in the order in which they were delivered, and what else its row tells."""

    __slots__ = ("_claim", "_next", "_parked", "_records", "_tried")

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._records = claim.history
        self._parked = _decode(claim)
        # By this attempt of the run: what earlier ones tried says nothing of where this one has been.
        self._tried = {step_id for step_id, tries in claim.tries.items() if tries.used > tries.earlier}
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

    def goes_beyond(self, *, replaying: bool, asked_before: Callable[[str], bool]) -> bool:
        """Whether the run was further than its body is now: the answer is the same each time a body comes here.

        It was where it has parked at this place of the record or a later one, or where an operation was recorded or
        tried that the body has not asked for yet. One that was asked for before may have been under way, and proves
        nothing.
        """
        if replaying and self._parked is not None and self._place <= self._parked.seq:
            return True
        rest = self._records[self._next :]
        return any(not asked_before(record.step_id) for record in rest if record.kind is not StepKind.MARKER) or any(
            not asked_before(step_id) for step_id in self._tried
        )

    @property
    def _place(self) -> int:
        """The `seq` of the record that was delivered last; before the first, that of the last attempt, 0 for none."""
        return self._records[self._next - 1].seq if self._next else self._claim.reopened_seq

    def check_waits(self, asked: Mapping[str, StepKind]) -> None:
        """Where the run parked at the end of its record, its code must wait there for what it waited for then.

        Timers leave no record before they fire, and a step that was added before one leaves none either: this is what
        tells that they were there, or were not. Raises DivergenceError.
        """
        parked = self._parked
        if parked is None or parked.seq != self.last_seq:
            return
        before, now = set(parked.on), {spelled(*found) for found in asked.items()}
        missing = [each for each in parked.on if each not in now]
        added = any(
            kind is StepKind.STEP and step_id not in self._tried and spelled(step_id, kind) not in before
            for step_id, kind in asked.items()
        )
        if missing or added:
            raise diverged(missing or parked.on, asked.items(), place=self._next)

    def divergence(self, found: Iterable[tuple[str, StepKind]]) -> DivergenceError:
        """The next record is of an operation that the body, at rest, has not asked for; it asked for `found`."""
        rest = [spelled(record.step_id, record.kind) for record in self._records[self._next :][:_SHOWN]]
        return diverged(rest, found, place=self._next)


PARKED_ON = 50
"""How many of the operations that a parked run waits for are kept; beyond them only new steps are noticed."""

_SHOWN = 5


def spelled(step_id: str, kind: StepKind) -> str:
    """An operation as divergences show it."""
    return f"{kind} {step_id}"


def _decode(claim: Claim) -> ParkedAt | None:
    if claim.parked is None:
        return None
    try:
        parked = msgspec.json.decode(claim.parked, type=ParkedAt)
    except msgspec.MsgspecError:  # a damaged row (P23)
        return None
    return parked if parked.seq >= claim.reopened_seq else None  # an earlier attempt parked there


def diverged(rest: Sequence[str], found: Iterable[tuple[str, StepKind]], *, place: int) -> DivergenceError:
    """Say what the record holds from `place` on and what the code asks for instead."""
    expected = tuple(rest[:_SHOWN])
    asked = tuple(f"{kind} {step_id}" for step_id, kind in list(found)[:_SHOWN])
    return DivergenceError(
        f"the code does not fit the run's record. After {place} recorded operations the record goes on with "
        f"{_listing(expected)}, but the code waits for {_listing(asked)}. Nothing was executed. "
        "Deploy code that fits, for instance the version that the run was started with.",
        expected=expected,
        found=asked,
    )


def _listing(operations: tuple[str, ...]) -> str:
    return ", ".join(operations) if operations else "nothing"
