"""Forks: new runs that begin with the history of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kagzi.authoring.definitions import Definition
from kagzi.authoring.names import ID_LIMIT, check_name, check_version
from kagzi.client.insisting import insist
from kagzi.client.link import Link
from kagzi.errors import ConflictError, OutcomeUnknown, RunNotFound
from kagzi.ids import is_id, new_id
from kagzi.model.claim import Claim
from kagzi.model.forking import Cut, Forked, ForkOrder, ForkOutcome, Replaced
from kagzi.model.run import RunId, StoredRun
from kagzi.model.step import StepKind, StoredStep
from kagzi.rules import forking
from kagzi.rules.versions import version_to_start

_TRIES = 5
_ENDINGS = (StepKind.CANCEL, StepKind.ENDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkRequest:
    """What the caller wants of a fork; None leaves it as it is in the source, or without an id."""

    at_step: str
    input: Any = None
    results: Mapping[str, Any] | None = None
    id: str | None = None
    version: int | None = None

    def check(self) -> None:
        """Raise TypeError or ValueError for what can't be."""
        if not isinstance(self.at_step, str):
            raise TypeError(f"at_step is the name of a step, not {type(self.at_step).__name__}.")
        if self.results is not None and not isinstance(self.results, Mapping):
            raise TypeError(f"set is a dict of results by step, not {type(self.results).__name__}.")
        if self.id is not None:
            check_name(self.id, what="the id of a run", limit=ID_LIMIT)
        if self.version is not None:
            check_version(self.version, what="version")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    run: StoredRun
    claim: Claim
    steps: list[StoredStep]


async def fork(link: Link, run_id: RunId, request: ForkRequest, *, namespace: str) -> tuple[RunId, Definition | None]:
    """Start a run with the history of another up to a step; returns once that is durable.

    Raises RunNotFound, ValueError for a step that is not there, ConflictError where the id is taken, PayloadError,
    what asking for a version raises, StoreUnavailable, or OutcomeUnknown.
    """
    request.check()
    fresh = RunId(new_id())
    for _ in range(_TRIES):
        source = await _read(link, run_id, namespace=namespace)
        definition, version = await _version(link, source.run, request)
        order = await _order(link, source, request, fresh, definition=definition, version=version)
        answer = await _insist(link, order)
        if answer.outcome is ForkOutcome.TAKEN:
            raise ConflictError(
                f"a run with the id {request.id!r} exists already (run {answer.run_id}), so run {run_id} was not "
                "forked. Use another id.",
                id=request.id or "",
                run_id=answer.run_id or "",
            )
        if answer.outcome is ForkOutcome.FORKED:
            return fresh, definition
    raise OutcomeUnknown(f"run {run_id} began another attempt each time that it was to be forked. Fork it again.")


async def _read(link: Link, run_id: RunId, *, namespace: str) -> _Source:
    claims = await link.store.recall([run_id]) if is_id(run_id) else []
    run = await link.store.get(run_id)
    if run is None or not claims or run.namespace != namespace:
        raise RunNotFound(run_id)
    return _Source(run=run, claim=claims[0], steps=await link.store.steps(run_id))


async def _version(link: Link, run: StoredRun, request: ForkRequest) -> tuple[Definition | None, int]:
    """The version that was asked for, else that of the source, whose history fits it."""
    known = link.definitions.versions(run.workflow) if link.definitions.knows(run.workflow) else {}
    policy = await link.version_policy(run.namespace, run.workflow)
    asked = run.version if request.version is None else request.version
    version = version_to_start(run.workflow, asked=asked, policy=policy, known=known)
    return known.get(version), version


async def _order(
    link: Link, source: _Source, request: ForkRequest, fresh: RunId, *, definition: Definition | None, version: int
) -> ForkOrder:
    run_id, claim = source.run.run_id, source.claim
    cut = forking.cut_before(forking.find_step(source.steps, request.at_step, run_id=run_id), claim)
    records = forking.kept_records(claim, cut)
    if any(record.kind in _ENDINGS for record in records):
        raise ValueError(
            f"run {run_id} was cancelled, or its body was over, before it came to step {request.at_step!r}, and that "
            "holds for a fork as well. Name a step from before."
        )
    children = forking.unheard_children(records)
    outcomes = {each.run_id: each for each in await link.store.outcomes(children)} if children else {}
    return ForkOrder(
        namespace=source.run.namespace,
        source=run_id,
        attempt=claim.attempts,
        cut=cut,
        run_id=fresh,
        version=version,
        id=request.id,
        input=_input(link, source.run.workflow, definition, request.input),
        parked=forking.kept_park(claim, records),
        replaced=_replaced(link, source, request.results or {}, cut),
        messages=forking.ends_of(children, outcomes, source=run_id),
        published=forking.shown_values(records),
    )


def _input(link: Link, workflow: str, definition: Definition | None, given: Any) -> str | None:
    if given is None:
        return None
    args = given if isinstance(given, tuple) else (given,)
    shape = link.payloads.untyped_call() if definition is None else definition.arguments
    return shape.encode(args, {}, where=f"the input of workflow {workflow!r}")


def _replaced(link: Link, source: _Source, results: Mapping[str, Any], cut: Cut) -> tuple[Replaced, ...]:
    run_id = source.run.run_id
    replaced: dict[str, str] = {}
    for which, value in results.items():
        if not isinstance(which, str):
            raise TypeError(f"set names steps by text, not by {type(which).__name__}.")
        step = forking.find_step(source.steps, which, run_id=run_id)
        if step.kind is not StepKind.STEP:
            raise ValueError(f"{step.step_id} of run {run_id} is a {step.kind}; only results of steps can be set.")
        if step.seq is None or not cut.keeps(step.seq):
            raise ValueError(
                f"step {step.step_id} of run {run_id} is executed anew in the fork, so its result can't be set. Set "
                "results of steps that were finished before the step at which it is forked."
            )
        if step.step_id in replaced:
            raise ValueError(f"the result of step {step.step_id} is set twice.")
        where = f"the result set for step {step.step_id!r}"
        replaced[step.step_id] = link.payloads.shape(Any).encode(value, where=where)
    return tuple(Replaced(step_id=step_id, output=output) for step_id, output in replaced.items())


async def _insist(link: Link, order: ForkOrder) -> Forked:
    return await insist(
        link,
        lambda: link.store.fork(order),
        unknown=f"run {order.source} may or may not have been forked: a fork would be run {order.run_id}. Look whether "
        "it is there.",
    )
