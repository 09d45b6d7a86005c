"""Where a fork begins, and what of a run's history goes with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from kagzi.model.change import ParkedAt, Published
from kagzi.model.child import ChildOutcome
from kagzi.model.claim import Claim
from kagzi.model.error import ErrorKind, StepError
from kagzi.model.forking import LAST, Cut
from kagzi.model.run import FirstMessage, MessageKind, RunId, RunOutcome, RunStatus
from kagzi.model.step import StepKind, StepRecord, StoredStep, step_name
from kagzi.rules.failures import encode_error

_SHOWN = 10


def find_step(steps: Sequence[StoredStep], which: str, *, run_id: str) -> StoredStep:
    """The operation that is meant by its name, by `name#occurrence`, or by its whole step_id.

    Raises ValueError where there is none, or more than one.
    """
    exact = [step for step in steps if step.step_id == which]
    found = exact or [step for step in steps if which in _called(step.step_id)]
    if len(found) == 1:
        return found[0]
    listing = ", ".join(step.step_id for step in (found or steps)[:_SHOWN]) or "none"
    more = f" and {len(found or steps) - _SHOWN} more" if len(found or steps) > _SHOWN else ""
    if found:
        what = f"{len(found)} operations that {which!r} may mean"
        raise ValueError(f"run {run_id} has {what}: {listing}{more}. Name one of them in full.")
    raise ValueError(
        f"run {run_id} has no step {which!r} in its history. There are: {listing}{more}. One that is "
        "being executed is there once a heartbeat has shown it."
    )


def _called(step_id: str) -> tuple[str, ...]:
    try:
        name = step_name(step_id)
    except ValueError:  # a damaged row (P23)
        return ()
    return name, f"{name}#{step_id.rpartition('#')[2]}"


def cut_before(step: StoredStep, claim: Claim) -> Cut:
    """What was recorded before a step, by the present attempt of the run or, where that has not come to the step yet,
    by those before it, too."""
    reopened = claim.reopened_seq
    if step.seq is None:
        is_left_over = step.run_attempt < claim.attempts
        return Cut(after_seq=reopened, before_seq=LAST, earlier_before=reopened + 1 if is_left_over else 0)
    if step.seq <= reopened:
        return Cut(after_seq=reopened, before_seq=LAST, earlier_before=step.seq)
    return Cut(after_seq=reopened, before_seq=step.seq)


def kept_records(claim: Claim, cut: Cut) -> list[StepRecord]:
    """The records that go with a fork, in order of `seq`."""
    records = (*claim.earlier.values(), *claim.history)
    return sorted((each for each in records if cut.keeps(each.seq)), key=lambda record: record.seq)


def kept_park(claim: Claim, records: Sequence[StepRecord]) -> str | None:
    """Where the source last parked, if that was before the last record that goes along: what it waited for at the step
    itself, the fork need not wait for."""
    if claim.parked is None or not records:
        return None
    try:
        parked = msgspec.json.decode(claim.parked, type=ParkedAt)
    except msgspec.MsgspecError:  # a damaged row (P23)
        return None
    return claim.parked if parked.seq < records[-1].seq else None


def shown_values(records: Iterable[StepRecord]) -> tuple[Published, ...]:
    """What the run showed at the end of these records."""
    values = {step_name(each.step_id): each.output or "null" for each in records if each.kind is StepKind.VALUE}
    return tuple(Published(key=key, value=value) for key, value in values.items())


def unheard_children(records: Iterable[StepRecord]) -> list[RunId]:
    """The children that were started and whose end is not among these records."""
    started: dict[RunId, None] = {}
    heard: set[RunId] = set()
    for record in records:
        if record.child_run_id is not None:
            started[record.child_run_id] = None
            if record.message is not None:
                heard.add(record.child_run_id)
    return [run_id for run_id in started if run_id not in heard]


def ends_of(
    children: Sequence[RunId], outcomes: Mapping[RunId, RunOutcome], *, source: str
) -> tuple[FirstMessage, ...]:
    """What the fork hears of children that belong to its source: how they have ended, or that it will not hear that."""
    return tuple(
        FirstMessage(kind=MessageKind.CHILD, name=run_id, payload=_outcome(outcomes.get(run_id), source=source))
        for run_id in children
    )


def _outcome(ended: RunOutcome | None, *, source: str) -> str:
    if ended is not None:
        outcome = ChildOutcome(status=ended.status, output=ended.output, error=ended.error)
    else:
        error = StepError(
            kind=ErrorKind.UNKNOWN,
            type="ChildOfAnother",
            message=f"the child belongs to run {source}, from which this run was forked before the child had ended. "
            "Fork once it has, or at a step before the child was started.",
        )
        outcome = ChildOutcome(status=RunStatus.FAILED, error=encode_error(error))
    return msgspec.json.encode(outcome).decode()
