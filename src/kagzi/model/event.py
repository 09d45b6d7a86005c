"""Events: what is told to all who wait for it, rather than to one run."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from kagzi.model.run import RunId

NO_KEY = ""
"""The key of an event, or of a wait, that has none. One that somebody gives is never empty."""


class NewEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event about to be stored. A namespace keeps one for each `dedup_key`.

    `payload` is encoded text; `call` the same as the only argument of a workflow.
    """

    event_id: str
    namespace: str
    name: str
    key: str = NO_KEY
    payload: str
    call: str
    dedup_key: str | None = None


class KeyTaken(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event that was not stored, as one of another name or key, which are given here, has its dedup_key."""

    event_id: str
    name: str
    key: str


class EventWait(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A wait of a run, by the identity that it has in the body, for events of a `name`.

    With a `key` for those with this key, without for all; that came at most `lookback_s` seconds before it began.
    """

    step_id: str
    name: str
    key: str = NO_KEY
    lookback_s: float = 0.0


class Awaiting(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """All waits for events that a run has now; it has given up any others that it had."""

    run_id: RunId
    fence: int
    waits: tuple[EventWait, ...] = ()


class EventHandler(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A workflow of which each event of a name starts a run."""

    event: str
    workflow: str
    version: int
    queue: str = "default"


class Enrolment(msgspec.Struct, frozen=True, kw_only=True):
    """What one application handles. `workflows` are those that it knows, each with its highest version.

    What those do not handle is forgotten once nobody has said for `stale_after` that they do.
    """

    handlers: tuple[EventHandler, ...] = ()
    workflows: tuple[tuple[str, int], ...] = ()
    stale_after: timedelta = timedelta(minutes=2)


class PendingEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was not given to everybody yet, and who handles it. `call` is None where nobody does."""

    event_id: str
    name: str
    key: str
    call: str | None
    handlers: tuple[EventHandler, ...] = ()


class Distributed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of events that were to be given to those who wait: how many waits got one, and how many are still to
    be looked at: there were too many waits for one go, or a run was locked by somebody."""

    given: int = 0
    left: int = 0


class Forgetting(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are to be forgotten: those that came `older_than` that time ago.

    `cursor` is how far waits were looked through for those of runs that have ended; empty at the beginning.
    """

    older_than: timedelta
    cursor: tuple[str, str] | None = None
    batch: int = 500


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """`cursor` is where to go on next time, None for the beginning; `more` says that there are more old events."""

    cursor: tuple[str, str] | None = None
    more: bool = False
