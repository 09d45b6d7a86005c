"""Sending messages to runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from kagzi.authoring.names import ID_LIMIT, check_name
from kagzi.authoring.signals import Signal, Update
from kagzi.client.insisting import insist
from kagzi.client.link import Link
from kagzi.errors import ConflictError, RunClosed, RunNotFound
from kagzi.ids import is_id, new_id
from kagzi.model.message import NewMessage, Posted, PostOutcome
from kagzi.model.run import FirstMessage, MessageKind, RunId
from kagzi.store.borrowed.protocol import Borrowed
from kagzi.store.chains import post_to_the_end


async def signal(
    link: Link,
    run_id: RunId,
    sent: Signal[Any],
    value: Any,
    *,
    namespace: str,
    dedup_key: str | None = None,
    connection: Borrowed | None = None,
) -> None:
    """Send a signal to a run; returns once it is in the run's mailbox for good (P19), or in the caller's transaction.

    Raises RunClosed, RunNotFound, PayloadError or OutcomeUnknown.
    """
    message = _new(first_message(link, sent, value), namespace=namespace, run_id=run_id, dedup_key=dedup_key)
    posted = await post(link, message, connection=connection)
    _check(posted, message, which=run_id)


async def signal_by_id(
    link: Link,
    which: str,
    sent: Signal[Any],
    value: Any,
    *,
    dedup_key: str | None = None,
    connection: Borrowed | None = None,
) -> None:
    """Send a signal to the run that was started with an id, else to the one that has it as its run_id.

    Raises as `signal` does.
    """
    check_name(which, what="the id of a run", limit=ID_LIMIT)
    first, namespace = first_message(link, sent, value), link.settings.namespace
    message = _new(first, namespace=namespace, own_id=which, dedup_key=dedup_key)
    posted = await post(link, message, connection=connection)
    if posted.outcome is PostOutcome.NOT_FOUND and is_id(which):
        message = _new(first, namespace=namespace, run_id=RunId(which), dedup_key=dedup_key)
        posted = await post(link, message, connection=connection)
    _check(posted, message, which=which)


async def update(
    link: Link,
    run_id: RunId,
    sent: Update[Any, Any],
    value: Any,
    *,
    namespace: str,
    timeout: timedelta | None,
    dedup_key: str | None,
) -> Any:
    """Send an update to a run and wait for its reply.

    Raises RunClosed where the run has ended, or ends without a reply; TimeoutError where none came in time.
    """
    if not isinstance(sent, Update):
        raise TypeError(f"give an Update, such as Update({'approve'!r}, bool, str), not {sent!r}.")
    where = f"update {sent.name!r}"
    payload = link.payloads.shape(sent.type).encode(value, where=where)
    reply_shape = link.payloads.shape(sent.reply_type)
    first = FirstMessage(kind=MessageKind.UPDATE, name=sent.name, payload=payload)
    message = _new(first, namespace=namespace, run_id=run_id, dedup_key=dedup_key)
    limit_s = None if timeout is None else timeout.total_seconds()
    try:
        async with asyncio.timeout(limit_s):
            posted = await post(link, message)
            _check(posted, message, which=run_id)
            text = await link.replies.reply(posted.run_id or run_id, posted.position or 0)
    except TimeoutError:
        raise TimeoutError(
            f"run {run_id} did not reply to {where} within {limit_s:g} s. It may still do so: with a dedup_key, the "
            "same update can be sent again and its reply awaited."
        ) from None
    return reply_shape.decode(text, where=f"the reply to {where}")


def first_message(link: Link, sent: Signal[Any], value: Any) -> FirstMessage:
    """A signal on its way. Raises TypeError for what isn't one, PayloadError for a value that doesn't fit its type."""
    if not isinstance(sent, Signal):
        raise TypeError(f"give a Signal, such as Signal({'opened'!r}, bool), not {sent!r}.")
    payload = link.payloads.shape(sent.type).encode(value, where=f"signal {sent.name!r}")
    return FirstMessage(kind=MessageKind.SIGNAL, name=sent.name, payload=payload)


def _new(
    message: FirstMessage,
    *,
    namespace: str,
    dedup_key: str | None,
    run_id: RunId | None = None,
    own_id: str | None = None,
) -> NewMessage:
    # With a key of ours where none was given: a post whose answer was lost is made again under the same (P4).
    key = f"kagzi:{new_id()}" if dedup_key is None else dedup_key
    return NewMessage(
        namespace=namespace,
        kind=message.kind,
        name=message.name,
        run_id=run_id,
        id=own_id,
        payload=message.payload,
        dedup_key=check_name(key, what=f"the dedup_key of {message.kind.lower()} {message.name!r}", limit=ID_LIMIT),
    )


async def post(link: Link, message: NewMessage, *, connection: Borrowed | None = None) -> Posted:
    """Post a message, which has a key, to a run or, where that has continued as new, to the last of its chain.

    Raises OutcomeUnknown where there was no answer within the store's timeout.
    """

    async def send(sent: NewMessage) -> Posted:
        if connection is None:
            return await _post(link, sent)
        return (await link.store.post_within(connection, [sent]))[0]

    return await post_to_the_end(link.store, message, send)


async def _post(link: Link, message: NewMessage) -> Posted:
    answers = await insist(
        link,
        lambda: link.store.post([message]),
        unknown=f"{message.kind.lower()} {message.name!r} may or may not have been sent. Where it must not be sent "
        "twice, send it with a dedup_key, and again with the same.",
    )
    return answers[0]


def _check(posted: Posted, message: NewMessage, *, which: str) -> None:
    if posted.outcome is PostOutcome.TAKEN:
        run_id, kind, key = posted.run_id or which, message.kind.lower(), message.dedup_key
        raise ConflictError(
            f"{kind} {message.name!r} was not sent: run {run_id} has another message with the dedup_key {key!r}. Give "
            f"each its own, such as {f'{message.name}:{key}'!r}.",
            id=message.id or "",
            run_id=run_id,
        )
    if posted.outcome is PostOutcome.NOT_FOUND:
        raise RunNotFound(which)
    if posted.outcome is PostOutcome.CLOSED:
        raise RunClosed(posted.run_id or which, str(posted.status))
