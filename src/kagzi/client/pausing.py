"""Holding runs for a while."""

from __future__ import annotations

from kagzi.client.cancelling import checked_reason
from kagzi.client.insisting import insist
from kagzi.client.link import Link
from kagzi.errors import RunClosed, RunNotFound
from kagzi.model.pausing import PauseAnswer, PauseOrder, PauseOutcome, ResumeOrder
from kagzi.model.run import RunId, RunStatus
from kagzi.store.chains import at_the_end


async def pause(link: Link, run_id: RunId, *, namespace: str, reason: str | None) -> None:
    """Have a run rest; returns once that is durable. Idempotent.

    Raises RunClosed, RunNotFound, TypeError, OutcomeUnknown or StoreUnavailable.
    """
    told = checked_pause_reason(reason)

    async def ask(which: RunId) -> PauseAnswer:
        order = PauseOrder(namespace=namespace, run_id=which, reason=told)
        (answer,) = await insist(
            link,
            lambda: link.store.pause([order]),
            unknown=f"run {which} may or may not be paused. Pause it again: that does no harm.",
        )
        return answer

    _check(run_id, await at_the_end(link.store, run_id, ask, has_ended=_is_closed))


async def resume(link: Link, run_id: RunId, *, namespace: str) -> None:
    """Let a run go on; returns once that is durable. Idempotent.

    Raises RunClosed, RunNotFound, OutcomeUnknown or StoreUnavailable.
    """

    async def ask(which: RunId) -> PauseAnswer:
        order = ResumeOrder(namespace=namespace, run_id=which)
        (answer,) = await insist(
            link,
            lambda: link.store.resume([order]),
            unknown=f"run {which} may or may not go on. Resume it again: that does no harm.",
        )
        return answer

    _check(run_id, await at_the_end(link.store, run_id, ask, has_ended=_is_closed))


def _is_closed(answer: PauseAnswer) -> bool:
    return answer.outcome is PauseOutcome.CLOSED


def checked_pause_reason(reason: str | None) -> str | None:
    """The reason of a pause as a database can hold it. Raises TypeError where it is no text."""
    checked = checked_reason(reason, of="a pause")
    return None if checked is None else checked.replace("\0", "\ufffd")


def _check(run_id: RunId, answer: PauseAnswer) -> None:
    match answer.outcome:
        case PauseOutcome.NOT_FOUND:
            raise RunNotFound(run_id)
        case PauseOutcome.CLOSED:
            raise RunClosed(run_id, str(answer.status))
        case PauseOutcome.ENDING:
            raise RunClosed(run_id, str(answer.status or RunStatus.RUNNING), is_ending=True)
        case PauseOutcome.DONE | PauseOutcome.ALREADY:
            pass
