"""Ending runs before their time."""

from __future__ import annotations

from kagzi.client.link import Link
from kagzi.errors import RunClosed, RunNotFound
from kagzi.model.cancelling import CancelOrder, CancelOutcome
from kagzi.model.run import RunId, RunStatus
from kagzi.rules.excerpts import shortened
from kagzi.rules.failures import cancelled_error, encode_error

_REASON_LIMIT = 10_000


async def cancel(link: Link, run_id: RunId, *, reason: str | None, at_once: bool = False) -> None:
    """Have a run end, by asking its body or `at_once`; returns once that is durable. Idempotent.

    Raises RunClosed where it had ended otherwise before, RunNotFound, TypeError or StoreUnavailable.
    """
    if reason is not None and not isinstance(reason, str):
        raise TypeError(f"the reason of a cancellation is text, not {type(reason).__name__}.")
    if reason is not None:
        reason = shortened(reason, limit=_REASON_LIMIT)
    error = encode_error(cancelled_error(reason))
    order = CancelOrder(namespace=link.settings.namespace, run_id=run_id, error=error, at_once=at_once)
    (answer,) = await link.store.cancel([order])
    if answer.outcome is CancelOutcome.NOT_FOUND:
        raise RunNotFound(run_id)
    if answer.outcome is CancelOutcome.CLOSED:
        raise RunClosed(run_id, str(answer.status or RunStatus.COMPLETED))
