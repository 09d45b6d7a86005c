"""Telling events to all who wait for them, or handle them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kagzi.authoring.events import Event, as_event, as_key
from kagzi.authoring.names import ID_LIMIT, check_name
from kagzi.client.insisting import insist
from kagzi.client.link import Link
from kagzi.errors import ConflictError
from kagzi.ids import new_id
from kagzi.model.event import Enrolment, KeyTaken, NewEvent
from kagzi.store.borrowed.protocol import Borrowed


async def emit(
    link: Link,
    event: Event[Any] | str,
    value: Any,
    *,
    key: str | None,
    dedup_key: str | None,
    connection: Borrowed | None,
) -> None:
    """Store an event; returns once it is there for good, or is part of the caller's transaction.

    All that follows from it is for workers.

    Raises PayloadError, ConflictError, OutcomeUnknown, or what `emit_within` raises.
    """
    new = _new(link, as_event(event), value, key=key, dedup_key=dedup_key)
    if connection is not None:
        _check(new, await link.store.emit_within(connection, [new]))
        return

    async def write() -> list[KeyTaken]:
        await _enroll(link)
        return await link.store.emit([new])

    taken = await insist(
        link,
        write,
        unknown=f"event {new.name!r} may or may not have been emitted. Where it must not be so twice, emit it with "
        "a dedup_key, and again with the same.",
    )
    _check(new, taken)


def _check(new: NewEvent, taken: Sequence[KeyTaken]) -> None:
    for other in taken:
        raise ConflictError(
            f"event {new.name!r} was not emitted: event {other.name!r}"
            + (f" with key {other.key!r}" if other.key else "")
            + f" has the dedup_key {new.dedup_key!r}. Give each its own, such as {f'{new.name}:{new.dedup_key}'!r}.",
            id=new.dedup_key or "",
            run_id="",
        )


def _new(link: Link, event: Event[Any], value: Any, *, key: str | None, dedup_key: str | None) -> NewEvent:
    where = f"event {event.name!r}"
    payload = link.payloads.shape(event.type).encode(value, where=where)
    if dedup_key is not None:
        check_name(dedup_key, what=f"the dedup_key of {where}", limit=ID_LIMIT)
    return NewEvent(
        event_id=new_id(),
        namespace=link.settings.namespace,
        name=event.name,
        key=as_key(key, event),
        payload=payload,
        # So that it can be handled where the event's type, or the codec, is not known.
        call=link.payloads.untyped_call().encode((link.payloads.show(payload),), {}, where=where),
        dedup_key=dedup_key,
    )


async def _enroll(link: Link) -> None:
    """What this application handles is known before it emits anything, even where its first worker is to come."""
    handlers = link.definitions.handlers
    if handlers != link.enrolled:
        await link.store.enroll(link.settings.namespace, Enrolment(handlers=handlers))
        link.enrolled = handlers
