"""Killing a worker at every write of a workflow, and seeing whether anybody notices."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import product
from typing import Any

from kagzi.authoring.definitions import Definition
from kagzi.ids import new_id
from kagzi.model.run import NewRun, RunId, RunStatus, StoredRun
from kagzi.model.step import StoredStep
from kagzi.rules.failures import decode_error
from kagzi.testing.stage import Stage
from kagzi.testing.witness import Died, Fuse, Moment, Witness


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashReport:
    """What `crash_everywhere` did: the durable writes of the reference, in order, how many workers it killed, and the
    names of the steps that were interrupted by that, as they are executed at most once."""

    writes: tuple[str, ...]
    crashes: int
    interrupted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """How an execution ended. Equal ones are the same to everybody outside."""

    status: RunStatus
    output: str | None
    error: str | None

    def __str__(self) -> str:
        if self.status is RunStatus.COMPLETED:
            return f"COMPLETED with {_shorten(self.output or 'null')}"
        if self.status is RunStatus.SLEEPING:
            return f"set aside, as its code does not fit its record: {self.error}"
        return f"{self.status} with {self.error}"


class Rehearsal:
    """One workflow and one input, executed again and again on stages that `open_stage` makes."""

    def __init__(
        self,
        open_stage: Callable[[Witness], AbstractAsyncContextManager[Stage]],
        namespace: str,
        definition: Definition,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._open_stage = open_stage
        self._definition = definition
        # The same run each time, down to its run_id: chance and identities in the body are seeded by it.
        self._new_run = NewRun(
            run_id=RunId(new_id()),
            namespace=namespace,
            workflow=definition.name,
            version=definition.version,
            input=definition.arguments.encode(args, kwargs, where=f"the input of workflow {definition.name!r}"),
        )

    async def run(self) -> CrashReport:
        """Execute the reference and every crash. Raises AssertionError at the first difference."""
        reference = Witness()
        expected = await self._execute(reference)
        if expected.status is RunStatus.SLEEPING:
            raise AssertionError(f"workflow {self._definition.name!r}, without any crash, was {expected}")
        crashes, interrupted = 0, set[str]()
        for number, moment in product(range(1, len(reference.writes) + 1), Moment):
            witness = Witness(Fuse(number, moment))
            found = await self._execute(witness)
            crashes += witness.death is not None
            interrupted |= witness.interrupted
            faults = _compare(expected, found, witness) + _compare_steps(reference, witness)
            if faults:
                raise AssertionError(self._report(reference, witness, faults))
        return CrashReport(writes=tuple(reference.writes), crashes=crashes, interrupted=tuple(sorted(interrupted)))

    async def _execute(self, witness: Witness) -> _Outcome:
        """Execute the run to its end on a stage of its own; another worker takes over where one dies."""
        async with self._open_stage(witness) as stage:
            deadline = stage.deadline
            try:
                await stage.process.line.start([self._new_run])
            except Died:
                await stage.recover()
                await stage.process.line.start([self._new_run])  # as a client does that got no answer
            while True:
                await stage.settle(deadline=deadline)
                if stage.process.line.is_cut:
                    await stage.recover()
                    continue
                run = await stage.store.get(await stage.store.latest(self._new_run.run_id))
                assert run is not None, "it was started"
                if run.status.is_terminal or (run.status is RunStatus.SLEEPING and run.error is not None):
                    _check_once(await stage.store.steps(run.run_id), attempts=run.attempts)
                    return _outcome(run)
                moment = stage.next_moment
                if moment is None:
                    raise AssertionError(
                        f"workflow {self._definition.name!r} does not end by itself: its run is {run.status} and waits "
                        f"for {run.waits or 'nothing that will come'}."
                    )
                stage.clock.move_to(moment)

    def _report(self, reference: Witness, witness: Witness, faults: list[str]) -> str:
        where = f"a crash {witness.death}" if witness.death else "being executed again, even without a crash"
        lines = [f"workflow {self._definition.name!r} does not survive {where}:"]
        lines += [f"  {fault}" for fault in faults]
        lines += ["The writes of the execution without a crash:"]
        lines += [f"  {number}. {write}" for number, write in enumerate(reference.writes, 1)]
        lines += ["The writes of this one:"]
        lines += [f"  {number}. {write}" for number, write in enumerate(witness.writes, 1)]
        return "\n".join(lines)


def _compare(expected: _Outcome, found: _Outcome, witness: Witness) -> list[str]:
    if expected == found or (witness.interrupted and found.status.is_terminal):
        return []
    return [f"expected: {expected}", f"found:    {found}"]


def _compare_steps(reference: Witness, witness: Witness) -> list[str]:
    faults = [
        f"step {step_id!r} was executed again, though its result was stored already."
        for step_id in witness.called_again
    ]
    faults += [
        f"step {step_id!r} was executed a second time, though it is to be executed at most once."
        for step_id in witness.called_twice
    ]
    if not witness.interrupted:  # what a workflow does about that is for it to decide
        faults += [
            f"step {step_id!r} was executed, which the execution without a crash never did."
            for step_id in sorted(witness.steps_called - reference.steps_called)
        ]
    return faults


def _check_once(steps: list[StoredStep], *, attempts: int) -> None:
    """Every operation stands in the store once, and every place in the record is taken once.

    Where the run has had several attempts, places of earlier ones are free again.
    """
    finished = [step.seq for step in steps if step.seq is not None]
    assert len({step.step_id for step in steps}) == len(steps), f"an operation is stored twice: {steps}"
    assert len(set(finished)) == len(finished), f"a place in the record is taken twice: {steps}"
    assert attempts > 1 or sorted(finished) == list(range(1, len(finished) + 1)), f"the record has a gap: {steps}"


def _outcome(run: StoredRun) -> _Outcome:
    error = None if run.error is None else decode_error(run.error)
    return _Outcome(
        status=run.status,
        output=run.output,
        error=None if error is None else f"{error.type} ({error.kind}): {error.message}",
    )


def _shorten(text: str) -> str:
    return text if len(text) <= 500 else f"{text[:500]}..."
