"""Replaying a run's record: what is delivered next, and whether the code still fits it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kagzi.errors import DivergenceError
from kagzi.model.step import StepKind, StepRecord


class History:
    """The finished operations of a run, in the order in which they were delivered."""

    __slots__ = ("_next", "_records")

    def __init__(self, records: Sequence[StepRecord]) -> None:
        self._records = records
        self._next = 0

    @property
    def last_seq(self) -> int:
        """The `seq` of the last record, 0 for none."""
        return self._records[-1].seq if self._records else 0

    def peek(self) -> StepRecord | None:
        """The record to be delivered next; None once the record is used up."""
        return self._records[self._next] if self._next < len(self._records) else None

    def advance(self) -> None:
        """Go on to the record after."""
        self._next += 1

    def divergence(self, found: Collection[tuple[str, StepKind]]) -> DivergenceError:
        """The next record is of an operation that the body, at rest, has not asked for; it asked for `found`."""
        return diverged(self._records[self._next :], found, place=self._next)


_SHOWN = 5


def diverged(rest: Sequence[StepRecord], found: Collection[tuple[str, StepKind]], *, place: int) -> DivergenceError:
    """Say what the record holds from `place` on and what the code asks for instead."""
    expected = tuple(f"{record.kind} {record.step_id}" for record in rest[:_SHOWN])
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
