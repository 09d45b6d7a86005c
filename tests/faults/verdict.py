"""Comparing the ledger with the database: what may never be, whatever happened in between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from tests.faults.database import status_counts, stored_results
from tests.faults.fleet import Fleet
from tests.faults.ledger import Execution
from tests.faults.workflows import STEPS, step_id


class Begun:
    """An execution and its place in the ledger."""

    def __init__(self, place: int, execution: Execution) -> None:
        self.place = place
        self.execution = execution


def check_chains(fleet: Fleet, results: Mapping[str, list[str]]) -> int:
    """Hold all runs of `chain` against the ledger; `results` is what callers got, by run_id.

    Returns how many executions there were beyond one for each step.
    """
    counts = status_counts(fleet.url)
    assert set(counts) == {"COMPLETED"}, counts
    stored = {step: output for step, output in stored_results(fleet.url).items() if step[0] in results}
    begun = _by_run_and_step(execution for execution in fleet.ledger.read() if execution.run_id in results)
    assert set(begun) == set(stored), "a step has a result and was never begun, or was begun and has none"
    for run_id, tokens in results.items():
        _check_one(run_id, tokens, stored, begun)
    _check_repeats(begun.values(), excused=fleet.killed | fleet.declared_dead())
    return sum(len(executions) - 1 for executions in begun.values())


def _by_run_and_step(ledger: Iterable[Execution]) -> dict[tuple[str, str], list[Begun]]:
    begun: dict[tuple[str, str], list[Begun]] = defaultdict(list)
    for place, execution in enumerate(ledger):
        begun[execution.run_id, execution.step_id].append(Begun(place, execution))
    return begun


def _check_one(
    run_id: str,
    tokens: list[str],
    stored: Mapping[tuple[str, str], str],
    begun: Mapping[tuple[str, str], list[Begun]],
) -> None:
    kept = [msgspec.json.decode(stored[run_id, step_id(place)], type=str) for place in range(1, STEPS + 1)]
    assert tokens == kept, f"run {run_id} gave other results than are stored"
    for place in range(1, STEPS + 1):
        executions = begun[run_id, step_id(place)]
        # P10: what is stored is what the last execution returned, for none begins after the checkpoint.
        assert executions[-1].execution.token == kept[place - 1], (
            f"{run_id} step {place}: executed after its checkpoint"
        )
        if place > 1:
            # P11: nobody ever saw a result of the step before that is not the stored one.
            assert {each.execution.before for each in executions} == {kept[place - 2]}, f"{run_id} step {place}"
            # The first execution of a step proves that the step before was durable by then.
            earlier = begun[run_id, step_id(place - 1)]
            assert earlier[-1].place < executions[0].place, f"{run_id} step {place - 1}: executed after its checkpoint"


def _check_repeats(steps: Iterable[list[Begun]], *, excused: set[int]) -> None:
    """P5: a step is executed again only where the process that executed it before was killed or lost its lease."""
    for executions in steps:
        for each in executions[:-1]:
            assert each.execution.pid in excused, f"executed again, though its worker lived: {each.execution}"
