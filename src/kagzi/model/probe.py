"""What a store tells of itself, for those who look after it."""

from __future__ import annotations

from datetime import datetime

import msgspec


class StoreProbe(msgspec.Struct, frozen=True, kw_only=True):
    """The least that a store can be asked. `has_own_clock` is False where `now` is this machine's own wall clock;
    `writable` is False for a standby, or a file that can only be read."""

    now: datetime
    has_own_clock: bool
    writable: bool


class LaneBacklog(msgspec.Struct, frozen=True, kw_only=True):
    """The due runs of one workflow's version on one queue, and since when the oldest of them is due.

    `more` says that there are at least `due`: counting has a limit.
    """

    queue: str
    workflow: str
    version: int
    due: int
    more: bool = False
    oldest_due_at: datetime


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """Every lane in which runs are due, by queue, workflow and version; `complete` is False where there may be more
    lanes than were looked into."""

    now: datetime
    lanes: tuple[LaneBacklog, ...]
    complete: bool = True
