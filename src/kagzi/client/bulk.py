"""Doing something with every run that filters find: a page at a time, each in a transaction of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kagzi.client.cancelling import checked_reason
from kagzi.client.insisting import insist
from kagzi.client.link import Link
from kagzi.client.listing import wanted
from kagzi.client.pausing import checked_pause_reason
from kagzi.model.bulk import BulkOutcome, RunsWanted
from kagzi.model.cancelling import CancelAnswer, CancelOrder, CancelOutcome
from kagzi.model.pausing import PauseAnswer, PauseOrder, PauseOutcome, ResumeOrder
from kagzi.model.reopening import ReopenAnswer, ReopenOrder, ReopenOutcome
from kagzi.model.run import RunFilter, RunStatus, StoredRun
from kagzi.rules.failures import cancelled_error, encode_error
from kagzi.store.protocol import Store

BATCH = 500
"""Runs to a transaction: their locks are held for some tens of milliseconds, and 100,000 runs are 200 of them."""

_ENDED = (RunStatus.FAILED, RunStatus.CANCELLED)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a run was left as it is; `has_ended`: another may have taken its place."""

    why: str
    has_ended: bool = False


Verdict = Refusal | bool
"""Whether something was changed, or why it could not be."""


@dataclass(frozen=True, kw_only=True)
class BulkVerb:
    """What is done with the runs of a page, and what would be, as far as can be told by looking."""

    name: str
    does: Callable[[Store, Sequence[StoredRun]], Awaitable[list[Verdict]]]
    foresees: Callable[[StoredRun], Verdict] = field(default=lambda run: True)
    to_ended: bool = False
    """Whether it is for runs that have ended, in place of those that have not."""
    to_paused: bool = False


def cancelling(namespace: str, *, name: str, reason: str | None, at_once: bool) -> BulkVerb:
    """Have runs end, by asking their bodies or `at_once`. Raises TypeError for a reason that is no text."""
    error = encode_error(cancelled_error(checked_reason(reason, of="a cancellation")))

    async def does(store: Store, runs: Sequence[StoredRun]) -> list[Verdict]:
        orders = [CancelOrder(namespace=namespace, run_id=run.run_id, error=error, at_once=at_once) for run in runs]
        return [_cancelled(answer) for answer in await store.cancel(orders)]

    def foresees(run: StoredRun) -> Verdict:
        return at_once or run.started_at is None or run.cancel_asked_at is None

    return BulkVerb(name=name, does=does, foresees=foresees)


def _cancelled(answer: CancelAnswer) -> Verdict:
    match answer.outcome:
        case CancelOutcome.ENDED | CancelOutcome.ASKED:
            return True
        case CancelOutcome.ALREADY:
            return False
        case CancelOutcome.CLOSED:
            return _closed(answer.status)
        case CancelOutcome.NOT_FOUND:
            return _GONE


def pausing(namespace: str, *, reason: str | None) -> BulkVerb:
    """Have runs rest. Raises TypeError for a reason that is no text."""
    text = checked_pause_reason(reason)

    async def does(store: Store, runs: Sequence[StoredRun]) -> list[Verdict]:
        orders = [PauseOrder(namespace=namespace, run_id=run.run_id, reason=text) for run in runs]
        return [_held(answer) for answer in await store.pause(orders)]

    def foresees(run: StoredRun) -> Verdict:
        return run.paused_at is None if run.cancel_asked_at is None else _ENDING

    return BulkVerb(name="pause_runs", does=does, foresees=foresees)


def resuming(namespace: str) -> BulkVerb:
    """Let runs go on that rest."""

    async def does(store: Store, runs: Sequence[StoredRun]) -> list[Verdict]:
        orders = [ResumeOrder(namespace=namespace, run_id=run.run_id) for run in runs]
        return [_held(answer) for answer in await store.resume(orders)]

    return BulkVerb(name="resume_runs", does=does, to_paused=True)


def _held(answer: PauseAnswer) -> Verdict:
    match answer.outcome:
        case PauseOutcome.DONE:
            return True
        case PauseOutcome.ALREADY:
            return False
        case PauseOutcome.ENDING:
            return _ENDING
        case PauseOutcome.CLOSED:
            return _closed(answer.status)
        case PauseOutcome.NOT_FOUND:
            return _GONE


def retrying(namespace: str) -> BulkVerb:
    """Have runs that failed, or were cancelled, go on in a new attempt."""

    async def does(store: Store, runs: Sequence[StoredRun]) -> list[Verdict]:
        orders = [ReopenOrder(namespace=namespace, run_id=run.run_id, attempt=run.attempts) for run in runs]
        return [_reopened(answer) for answer in await store.reopen(orders)]

    return BulkVerb(name="retry_runs", does=does, to_ended=True)


def _reopened(answer: ReopenAnswer) -> Verdict:
    match answer.outcome:
        case ReopenOutcome.REOPENED:
            return True
        case ReopenOutcome.ALREADY | ReopenOutcome.OPEN:
            return False
        case ReopenOutcome.COMPLETED:
            return _closed(answer.status)
        case ReopenOutcome.NOT_FOUND:
            return _GONE


_GONE = Refusal("it is not there any more")
_ENDING = Refusal("it was asked to end before")


def _closed(status: RunStatus | None) -> Refusal:
    return Refusal(f"it had ended before ({status})", has_ended=True)


# -- every run ---------------------------------------------------------------------------------------------------


def wanted_by(verb: BulkVerb, namespace: str, which: RunsWanted, *, every: bool) -> RunFilter:
    """Check which runs a caller means. Raises ValueError or TypeError, also where that is every run by oversight."""
    filters: dict[str, Any] = {name: value for name, value in which.items() if value is not None}
    filters.setdefault("tags", ())
    is_narrow = any(value != () and value != [] for value in filters.values())
    if is_narrow and every:
        raise ValueError(f"{verb.name} got all=True and filters. Give filters for some runs, or all=True alone.")
    if not is_narrow and not every:
        raise ValueError(f"{verb.name} got no filter. Say which runs, as for find_runs, or all=True for every one.")
    names = ("status", "workflow", "queue", "id", "parent", "created_after", "paused")
    unknown = set(which) - {*names, "tags"}
    if unknown:
        raise TypeError(f"{verb.name} has no filter {sorted(unknown)[0]!r}; there are those of find_runs.")
    given = wanted(
        namespace,
        **{name: filters.get(name) for name in names},  # checked there, whatever they are
        tags=filters["tags"],
        cursor=None,
        limit=BATCH,
    )
    if given.status is not None and (given.status in _ENDED) is not verb.to_ended:
        raise ValueError(_misfit(verb, given.status))
    if verb.to_ended:
        return given if given.status is not None else msgspec.structs.replace(given, status=RunStatus.FAILED)
    if given.status is RunStatus.COMPLETED:
        raise ValueError(_misfit(verb, given.status))
    if verb.to_paused:
        if given.paused is False:
            raise ValueError(f"{verb.name} does nothing with runs that are not paused; leave out paused=False.")
        given = msgspec.structs.replace(given, paused=True)
    return msgspec.structs.replace(given, is_open=True)


def _misfit(verb: BulkVerb, status: RunStatus) -> str:
    fitting = _ENDED if verb.to_ended else (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.SLEEPING)
    return f"{verb.name} does nothing with runs that are {status}; give one of {', '.join(fitting)}, or no status."


async def carry_out(link: Link, verb: BulkVerb, asked: RunFilter, *, dry_run: bool) -> BulkOutcome:
    """Do it with every run that is found, newest first.

    A run that is there all the while, and fits, is met once: pages go by run_id. Called again after it was broken off,
    it goes on with what is left. Raises OutcomeUnknown or StoreUnavailable.
    """
    done: list[str] = []
    unchanged: list[str] = []
    refused: dict[str, str] = {}
    async for page in _pages(link.store, asked):
        verdicts = [verb.foresees(run) for run in page] if dry_run else await _do(link, verb, page, done=len(done))
        for run, verdict in zip(page, verdicts, strict=True):
            if isinstance(verdict, Refusal):
                refused[run.run_id] = verdict.why
            else:
                (done if verdict else unchanged).append(run.run_id)
    return BulkOutcome(done=tuple(done), unchanged=tuple(unchanged), refused=refused, dry_run=dry_run)


async def _do(link: Link, verb: BulkVerb, page: Sequence[StoredRun], *, done: int) -> list[Verdict]:
    unknown = (
        f"{verb.name} broke off after {done} runs, and of the next {len(page)} it is unknown. Call it again: it goes "
        "on with what is left."
    )
    tries = 0

    async def write() -> list[Verdict]:
        nonlocal tries
        tries += 1
        return await verb.does(link.store, page)

    verdicts = await insist(link, write, unknown=unknown)
    if tries > 1:  # what was so before is what a try had done whose answer was lost (P4)
        verdicts = [True if verdict is False else verdict for verdict in verdicts]
    return [await _followed(link, verb, run, verdict, done=done) for run, verdict in zip(page, verdicts, strict=True)]


async def _followed(link: Link, verb: BulkVerb, run: StoredRun, verdict: Verdict, *, done: int) -> Verdict:
    """The same for the run that has taken this one's place since the look: it is newer than the page, so it is in no
    later one."""
    while isinstance(verdict, Refusal) and verdict.has_ended:
        latest = await link.store.latest(run.run_id)
        successor = None if latest == run.run_id else await link.store.get(latest)
        if successor is None:
            break
        run = successor
        (verdict,) = await _do(link, verb, [run], done=done)
    return verdict


async def _pages(store: Store, asked: RunFilter) -> AsyncIterator[list[StoredRun]]:
    while page := await store.find(asked):
        yield page
        if len(page) < asked.limit:
            return
        asked = msgspec.structs.replace(asked, cursor=page[-1].run_id)
