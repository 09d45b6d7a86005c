"""Where in their lanes the next claims may begin.

Every run that was claimed leaves a dead entry at the head of its lane in the claim index, until a vacuum. A claim walks
over them: 0.01 µs each where nobody can see them any more, but 0.2 µs and a visit to the table for as long as some old
transaction can (a backup, a forgotten session), when no vacuum helps. 200,000 of them made a claim take 90 ms.

So where claims have become slow, three in a row, they begin where an earlier one ended, and the whole lane is looked at
only for a small share of the time, for runs that came in behind: by a transaction that was open for long, or due in the
past. Where claims are fast, every claim looks at everything, and nothing here has any effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import product

import msgspec

from kagzi.model.claim import ClaimRequest

SLOW = timedelta(milliseconds=10)
SLOW_LOOKS = 3  # in a row: one alone may be a busy machine, and floors hide for a while what is due long since
_SHARE = 20  # a whole look that took 90 ms is followed by 1.8 s of short ones
_MARGIN = timedelta(seconds=1)  # a run is due at the beginning of the transaction that stores it, and seen at its end
_DEFAULT_PRIORITY = 0

LaneKey = tuple[str, str, int, int]


class Lane(msgspec.Struct, kw_only=True):
    """A queue, a workflow's version and a priority; nothing is left in it below `floor`."""

    queue: str
    workflow: str
    version: int
    priority: int
    floor: datetime | None = None


class _Known(msgspec.Struct):
    lanes: dict[LaneKey, Lane]
    until_s: float


class Floors:
    """The lanes of slow claims, by what was asked for. Times are the store's; `at_s` is monotonic."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], _Known] = {}
        self._slow_looks: dict[tuple[object, ...], int] = {}

    def lanes(self, request: ClaimRequest, *, at_s: float) -> list[Lane] | None:
        """The lanes to claim from, or None: look at everything."""
        known = self._known.get(_key(request))
        return list(known.lanes.values()) if known is not None and at_s < known.until_s else None

    def looked(self, request: ClaimRequest, *, lanes: Iterable[Lane] | None, took_s: float, at_s: float) -> None:
        """Learn from a look at everything: its lanes where it was slow, None where it was not."""
        key = _key(request)
        if lanes is None:
            self._known.pop(key, None)
            self._slow_looks.pop(key, None)
            return
        self._slow_looks[key] = self._slow_looks.get(key, 0) + 1
        if self._slow_looks[key] < SLOW_LOOKS:
            return
        # A lane that is empty at the moment is not among those found: keep what was there, and what will likely be.
        likely = {
            (queue, workflow, version, _DEFAULT_PRIORITY): Lane(
                queue=queue, workflow=workflow, version=version, priority=_DEFAULT_PRIORITY
            )
            for queue, (workflow, version) in product(request.queues, request.workflows)
        }
        before = self._known.get(key)
        found = {(lane.queue, lane.workflow, lane.version, lane.priority): lane for lane in lanes}
        self._known[key] = _Known(
            lanes=likely | (before.lanes if before else {}) | found, until_s=at_s + _SHARE * took_s
        )

    def took(self, request: ClaimRequest, *, last: dict[LaneKey, datetime], full: bool, now: datetime) -> None:
        """Raise the floors after a claim: to the `last` due time taken from each lane where it filled the slots,
        almost to `now` where it did not, for then nothing due was left."""
        known = self._known.get(_key(request))
        if known is None:
            return
        for key, lane in known.lanes.items():
            lane.floor = last.get(key, lane.floor) if full else now - _MARGIN


def _key(request: ClaimRequest) -> tuple[object, ...]:
    return request.namespace, request.queues, request.workflows
