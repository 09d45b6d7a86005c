"""Messages: what is told to a run from outside, kept in its mailbox until its body receives it."""

from __future__ import annotations

from datetime import datetime
from enum import Enum, auto

import msgspec

from kagzi.model.run import MessageKind, RunId, RunStatus

CANCEL = "cancel"
"""The name of a message of kind CANCEL."""


class NewMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message about to be posted, to the run with this `run_id`, or with this `id` in its namespace.

    `payload` is encoded text. A run keeps one message for each `dedup_key`.
    """

    namespace: str
    kind: MessageKind
    name: str
    run_id: RunId | None = None
    id: str | None = None
    payload: str | None = None
    dedup_key: str | None = None


class PostOutcome(Enum):
    """What became of a message."""

    POSTED = auto()
    DUPLICATE = auto()
    """The run has the message of this key; nothing was written."""
    TAKEN = auto()
    """The run has a message with this key of another kind or name; nothing was written."""
    CLOSED = auto()
    """The run has ended; nothing was written."""
    NOT_FOUND = auto()


class Posted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to one message: its `position` in the run's mailbox, from 1, in the order of the commits."""

    outcome: PostOutcome
    run_id: RunId | None = None
    position: int | None = None
    status: RunStatus | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message that no record has received."""

    position: int
    kind: MessageKind
    name: str
    payload: str | None
    created_at: datetime


class Reply(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a run answers to the update at `position` of its mailbox, as encoded text."""

    position: int
    reply: str


class Answered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How an update stands: its `reply`, None while there is none, and the status of its run at that time."""

    run_id: RunId
    position: int
    reply: str | None
    status: RunStatus


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """What has come for runs that a worker has in memory: each run's `inbox` counter, and its unreceived messages.

    `gone` are those that the worker no longer owns: they were ended, or taken, or it let go of them itself; `paused`
    those of all its runs that somebody has paused.
    """

    inbox: dict[RunId, int]
    messages: dict[RunId, list[Message]]
    gone: tuple[RunId, ...] = ()
    paused: frozenset[RunId] = frozenset()
