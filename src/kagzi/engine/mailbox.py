"""The mailbox of a run in memory: messages that came and that no record has received."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from kagzi.model.message import Message
from kagzi.model.run import MessageKind
from kagzi.model.step import StepKind, StepRecord, step_name
from kagzi.rules.children import encode_outcome

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Mailbox:
    """Messages in the order of their positions, by kind and name.

    `inbox` counts all that the run was ever sent, as far as is known here: a run that parks says so, and is due at once
    where more has come.
    """

    __slots__ = ("_known", "_waiting", "inbox")

    def __init__(self, messages: Sequence[Message], inbox: int) -> None:
        self._waiting: dict[tuple[MessageKind, str], list[Message]] = {}
        self._known: set[int] = set()
        self.inbox = 0
        if messages:
            self.put(messages, inbox)
        else:
            self.inbox = inbox

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __len__(self) -> int:
        """How many messages are here."""
        return len(self._known)

    def put(self, messages: Iterable[Message], inbox: int) -> None:
        """Take in what has come since; `messages` are such that no durable record had received.

        Those from before are passed over: they are here, or on their way to the body, of which the store may not have
        known yet.
        """
        before = self.inbox
        self.inbox = max(before, inbox)
        for message in messages:
            if message.position > before:
                self._insert(message)
                self.inbox = max(self.inbox, message.position)  # one may have come after the counter was read

    def put_back(self, message: Message) -> None:
        """A message was received by somebody who no longer waited: it is the next again."""
        if message.position not in self._known:
            self._insert(message)

    def _insert(self, message: Message) -> None:
        self._known.add(message.position)
        waiting = self._waiting.setdefault((message.kind, message.name), [])
        bisect.insort(waiting, message, key=lambda each: each.position)

    def has(self, position: int) -> bool:
        """Whether this message is here."""
        return position in self._known

    def beyond(self, known: Iterable[Message]) -> list[Message]:
        """What is here and not among `known`."""
        before = {message.position for message in known}
        return [each for waiting in self._waiting.values() for each in waiting if each.position not in before]

    def has_any(self, kind: MessageKind, name: str) -> bool:
        """Whether there is a message of this kind and name."""
        return (kind, name) in self._waiting

    def take(self, kind: MessageKind, name: str) -> Message | None:
        """The first message of this kind and name."""
        key = kind, name
        waiting = self._waiting.get(key)
        if not waiting:
            return None
        message = waiting.pop(0)
        self._known.discard(message.position)
        if not waiting:
            del self._waiting[key]
        return message

    def peek(self, kind: MessageKind, name: str) -> Message | None:
        """The first message of this kind and name, which stays."""
        waiting = self._waiting.get((kind, name))
        return waiting[0] if waiting else None

    def names(self, kind: MessageKind) -> list[str]:
        """The names under which messages of this kind are here."""
        return [name for of_kind, name in self._waiting if of_kind is kind]

    def received(self, position: int) -> None:
        """A record says that this message was received."""
        if position not in self._known:
            return
        self._known.discard(position)
        for key, waiting in list(self._waiting.items()):
            waiting[:] = [message for message in waiting if message.position != position]
            if not waiting:
                del self._waiting[key]


def message_of(record: StepRecord) -> Message:
    """The message that a record received."""
    assert record.message is not None
    if record.kind is StepKind.CHILD:
        return Message(
            position=record.message,
            kind=MessageKind.CHILD,
            name=record.child_run_id or "",
            payload=encode_outcome(record),
            created_at=record.finished_at or _LONG_AGO,
        )
    return Message(
        position=record.message,
        kind=MessageKind(record.kind),
        name=record.step_id if record.kind is StepKind.EVENT else step_name(record.step_id),
        payload=record.output,
        created_at=record.finished_at or _LONG_AGO,
    )
