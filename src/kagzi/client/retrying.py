"""Having runs that failed go on, by hand."""

from __future__ import annotations

from kagzi.client.insisting import insist
from kagzi.client.link import Link
from kagzi.errors import ConflictError, RunNotFound
from kagzi.model.reopening import ReopenOrder, ReopenOutcome
from kagzi.model.run import TERMINAL, RunId, RunStatus


async def retry(link: Link, run_id: RunId, *, namespace: str) -> None:
    """Have a run that has failed, or was cancelled, go on in a new attempt; returns once that is durable.

    Several who saw it fail, and do this, have done it once. Raises ConflictError where the run has not ended
    or was completed, RunNotFound, StoreUnavailable, or OutcomeUnknown.
    """
    run = await link.store.get(run_id)
    if run is not None and run.continued_to is not None:
        run_id = await link.store.latest(run_id)
        run = await link.store.get(run_id)
    if run is None:
        raise RunNotFound(run_id)
    own_id = run.id or run_id
    if run.status not in TERMINAL:
        raise _conflict(ReopenOutcome.OPEN, run.status, own_id, run_id)
    order = ReopenOrder(namespace=namespace, run_id=run_id, attempt=run.attempts)
    (answer,) = await insist(
        link,
        lambda: link.store.reopen([order]),
        unknown=f"run {run_id} may or may not go on. Where its status says that it has not ended, it does; otherwise "
        "retry it again.",
    )
    if answer.outcome is ReopenOutcome.NOT_FOUND:
        raise RunNotFound(run_id)
    if answer.outcome in (ReopenOutcome.OPEN, ReopenOutcome.COMPLETED):
        raise _conflict(answer.outcome, answer.status or run.status, own_id, run_id)


def _conflict(outcome: ReopenOutcome, status: RunStatus, own_id: str, run_id: RunId) -> ConflictError:
    if outcome is ReopenOutcome.COMPLETED or status is RunStatus.COMPLETED:
        what = "was completed, so there is nothing to retry. Only runs that are FAILED or CANCELLED can go on."
    else:
        what = f"has not ended ({status}), so there is nothing to retry. Wait for its end, or cancel it first."
    return ConflictError(f"run {run_id} {what}", id=own_id, run_id=run_id)
