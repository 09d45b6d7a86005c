"""Ending runs before their time."""

from __future__ import annotations

from kagzi.client.insisting import insist
from kagzi.client.link import Link
from kagzi.errors import RunClosed, RunNotFound
from kagzi.model.cancelling import CancelAnswer, CancelOrder, CancelOutcome
from kagzi.model.run import RunId, RunStatus
from kagzi.rules.excerpts import shortened
from kagzi.rules.failures import cancelled_error, encode_error
from kagzi.store.borrowed.protocol import Borrowed
from kagzi.store.chains import at_the_end

_REASON_LIMIT = 10_000


async def cancel(
    link: Link,
    run_id: RunId,
    *,
    namespace: str,
    reason: str | None,
    at_once: bool = False,
    connection: Borrowed | None = None,
) -> None:
    """Have a run end, by asking its body or `at_once`; returns once that is durable, or in the caller's transaction.
    Idempotent.

    Raises RunClosed where it had ended otherwise before, RunNotFound, TypeError, OutcomeUnknown or StoreUnavailable.
    """
    error = encode_error(cancelled_error(checked_reason(reason, of="a cancellation")))

    verb, done = ("Terminate", "terminated") if at_once else ("Cancel", "cancelled")

    async def ask(which: RunId) -> CancelAnswer:
        order = CancelOrder(namespace=namespace, run_id=which, error=error, at_once=at_once)
        if connection is not None:
            return await link.store.cancel_within(connection, order)
        (answer,) = await insist(
            link,
            lambda: link.store.cancel([order]),
            unknown=f"run {which} may or may not be {done}. {verb} it again: that does no harm.",
        )
        return answer

    answer = await at_the_end(link.store, run_id, ask, has_ended=_has_ended)
    if answer.outcome is CancelOutcome.NOT_FOUND:
        raise RunNotFound(run_id)
    if answer.outcome is CancelOutcome.CLOSED:
        raise RunClosed(run_id, str(answer.status or RunStatus.COMPLETED))


def _has_ended(answer: CancelAnswer) -> bool:
    """Whether the run was completed before, maybe because it has continued as new."""
    return answer.status is RunStatus.COMPLETED


def checked_reason(reason: str | None, *, of: str) -> str | None:
    """The reason for something, cut where it is long. Raises TypeError where it is no text."""
    if reason is None:
        return None
    if not isinstance(reason, str):
        raise TypeError(f"the reason of {of} is text, not {type(reason).__name__}.")
    return shortened(reason, limit=_REASON_LIMIT)
