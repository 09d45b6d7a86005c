"""Sending messages to runs."""

from __future__ import annotations

from typing import Any

from kagzi.authoring.names import ID_LIMIT, check_name
from kagzi.authoring.signals import Signal
from kagzi.client.link import Link
from kagzi.errors import RunClosed, RunNotFound
from kagzi.model.message import MessageKind, NewMessage, PostOutcome
from kagzi.model.run import RunId


async def signal(link: Link, run_id: RunId, sent: Signal[Any], value: Any, *, dedup_key: str | None) -> None:
    """Send a signal; returns once it is in the run's mailbox for good (P19).

    Raises RunClosed, RunNotFound, PayloadError or StoreUnavailable.
    """
    if not isinstance(sent, Signal):
        raise TypeError(f"give a Signal, such as Signal({'opened'!r}, bool), not {sent!r}.")
    where = f"signal {sent.name!r}"
    message = NewMessage(
        namespace=link.settings.namespace,
        kind=MessageKind.SIGNAL,
        name=sent.name,
        run_id=run_id,
        payload=link.payloads.shape(sent.type).encode(value, where=where),
        dedup_key=None
        if dedup_key is None
        else check_name(dedup_key, what=f"the dedup_key of {where}", limit=ID_LIMIT),
    )
    (posted,) = await link.store.post([message])
    if posted.outcome is PostOutcome.NOT_FOUND:
        raise RunNotFound(run_id)
    if posted.outcome is PostOutcome.CLOSED:
        raise RunClosed(run_id, str(posted.status))
