"""Changes taken apart, as the arrays that the statements of commit_sql.py take."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import msgspec

from kagzi.model.change import Change, Published, Transition, has_rarities
from kagzi.model.child import ChildStart
from kagzi.model.message import Reply
from kagzi.model.run import RunId
from kagzi.model.step import FailedAttempt, StartMark, StepRecord

LOCKED = -1
"""The fence of a run that is only to be locked: the parent of one that ends, in its place among the others."""


class Batch:
    """Changes taken apart. Runs are sorted, so that two batches never wait for each other's locks; the parents of runs
    that end are among them."""

    __slots__ = (
        "_last",
        "failed",
        "failed_places",
        "fences",
        "is_rare",
        "mark_places",
        "marks",
        "places",
        "published",
        "published_places",
        "received",
        "received_places",
        "record_places",
        "records",
        "replies",
        "reply_places",
        "runs",
        "start_places",
        "starts",
        "transition_places",
        "transitions",
    )

    def __init__(self, changes: Sequence[Change]) -> None:
        self.runs: list[RunId] = []
        self.fences: list[int] = []
        self.places: dict[tuple[RunId, int], int] = {}
        self.records: list[StepRecord] = []
        self.record_places: list[int] = []
        self.transitions: list[Transition] = []
        self.transition_places: list[int] = []
        self.failed: list[FailedAttempt] = []
        self.failed_places: list[int] = []
        self.received: list[_Receipt] = []
        self.received_places: list[int] = []
        self.starts: list[_Start] = []
        self.start_places: list[int] = []
        self.replies: list[Reply] = []
        self.reply_places: list[int] = []
        self.published: list[Published] = []
        self.published_places: list[int] = []
        self.marks: list[StartMark] = []
        self.mark_places: list[int] = []
        self._last: dict[tuple[int, str, int | str], int] = {}
        self.is_rare = False
        seen: set[tuple[int, str]] = set()
        parents = {
            change.transition.parent for change in changes if change.transition is not None and change.transition.parent
        }
        if parents:
            self.is_rare = True
            changes = [*changes, *(Change(run_id=parent, fence=LOCKED) for parent in parents)]
        for change in sorted(changes, key=_run_id):
            key = (change.run_id, change.fence)
            place = self.places.get(key)
            if place is None:
                self.runs.append(change.run_id)
                self.fences.append(change.fence)
                place = self.places[key] = len(self.runs)  # counted from 1, as SQL counts
            for record in change.records:
                # One statement can't write one row twice; of two fences of a run, it writes for one at the most.
                if (place, record.step_id) not in seen:
                    seen.add((place, record.step_id))
                    self.records.append(record)
                    self.record_places.append(place)
            if change.transition is not None:
                self.transitions.append(change.transition)
                self.transition_places.append(place)
                self.is_rare |= change.transition.reopened_seq is not None or change.transition.continues is not None
            if change.replaces:
                self.is_rare = True
            if has_rarities(change):
                self._note_rarities(change, place)

    def _note_rarities(self, change: Change, place: int) -> None:
        self.is_rare = True
        self.starts += map(_start_row, change.starts)
        self.start_places += [place] * len(change.starts)
        self.failed += change.failed
        self.failed_places += [place] * len(change.failed)
        self.marks += change.marks
        self.mark_places += [place] * len(change.marks)
        receipts = [_Receipt(position, change.records[0].seq) for position in change.received]
        # One statement can't write one row twice: what comes last counts, and of replies the first.
        for receipt in (*receipts, *(_Receipt(position, None) for position in change.returned)):
            known = self._last.setdefault((place, "receipt", receipt.position), len(self.received))
            self.received[known : known + 1] = [receipt]
            self.received_places[known : known + 1] = [place]
        for answer in change.replies:
            if self._last.setdefault((place, "reply", answer.position), len(self.replies)) == len(self.replies):
                self.replies.append(answer)
                self.reply_places.append(place)
        for value in change.published:
            known = self._last.setdefault((place, "value", value.key), len(self.published))
            self.published[known : known + 1] = [value]
            self.published_places[known : known + 1] = [place]


class _Receipt(msgspec.Struct, frozen=True, gc=False):
    """A message and the record that received it; None takes that back."""

    position: int
    seq: int | None


class _Start(msgspec.Struct, frozen=True, gc=False):
    """A child's row, and what waits for it."""

    step_id: str
    run_attempt: int
    parent_close: str
    run_id: RunId
    namespace: str
    id: str | None
    workflow: str
    version: int
    queue: str
    priority: int
    input: str
    timeout_s: float | None


def _start_row(start: ChildStart) -> _Start:
    run = start.run
    return _Start(
        start.step_id,
        start.run_attempt,
        start.parent_close,
        run.run_id,
        run.namespace,
        run.id,
        run.workflow,
        run.version,
        run.queue,
        run.priority,
        run.input,
        run.timeout_s,
    )


_run_id = attrgetter("run_id")
