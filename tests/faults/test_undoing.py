"""Runs that fail or are cancelled, whose workers are killed while they do, sleep and undo."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence

import pytest

from kagzi import Kagzi, RunStatus, Step, WorkflowHandle
from tests.faults import ROUNDS
from tests.faults.fleet import Fleet
from tests.faults.ledger import Execution
from tests.faults.workflows import Pace, register_saga

RUNS = 100
DEADLINE_S = 90 * ROUNDS


@pytest.mark.slow
@pytest.mark.timeout(60 + 120 * ROUNDS)
async def test_what_was_done_is_undone_once_and_in_reverse_however_often_workers_are_killed(fleet: Fleet) -> None:
    """P5, P10, P11, P14."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    async with Kagzi(fleet.url) as kagzi:
        saga = register_saga(kagzi, fleet.ledger)
        paces = [Pace(work_s=chance.uniform(0, 0.2), nap_s=chance.choice([0.05, 0.5, 2])) for _ in range(RUNS * ROUNDS)]
        handles = await kagzi.start_many(saga, paces)
        fleet.start(3, KAGZI_MAX_CONCURRENT_WORKFLOWS="30")

        everything = asyncio.gather(
            *(handle.result(timeout=DEADLINE_S) for handle in handles),
            *(_cancel(handle, after_s=chance.uniform(0, 4)) for handle in handles[::3]),
            return_exceptions=True,
        )
        kills = 0
        while not everything.done():
            await asyncio.wait({everything}, timeout=chance.uniform(0.05, 1.0))
            assert fleet.ended_by_themselves == [], fleet.logs()
            if kills < 12 * ROUNDS:
                fleet.replace_one(chance)
                kills += 1
        await everything
        runs = [await handle.describe() for handle in handles]
        histories = {handle.run_id: await handle.history() for handle in handles}

    begun: dict[str, list[Execution]] = defaultdict(list)
    for execution in fleet.ledger.read():
        begun[execution.run_id].append(execution)
    statuses = {run.status for run in runs}
    print(f"seed {seed}: {kills} kills, {statuses}")
    assert statuses <= {RunStatus.FAILED, RunStatus.CANCELLED}
    assert all("failed_undos" not in run.error.context for run in runs if run.error is not None)
    for run_id, history in histories.items():
        _check_one(history, begun[run_id], excused=fleet.killed | fleet.declared_dead())


async def _cancel(handle: WorkflowHandle[None], *, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await handle.cancel()  # RunClosed where it had failed by then


def _check_one(history: Sequence[Step], begun: Sequence[Execution], *, excused: set[int]) -> None:
    done = [step for step in history if step.name.startswith("step-") and step.status == "COMPLETED"]
    undone = [step for step in history if step.name.startswith("undo ")]
    assert [step.name for step in undone] == [f"undo {step.name}" for step in reversed(done)], history
    assert {step.status for step in undone} <= {"COMPLETED"}, history

    tokens = {f"undo.{step.step_id.replace('/', '/undo ')}": step.output for step in done}
    undoing = [execution for execution in begun if execution.step_id in tokens]
    assert [each.before for each in undoing] == [tokens[each.step_id] for each in undoing], "of another execution"
    order = [step.step_id for step in undone]
    assert [order.index(each.step_id) for each in undoing] == sorted(order.index(each.step_id) for each in undoing)
    for step_id in order:
        executions = [each for each in undoing if each.step_id == step_id]
        repeats = [each for each in executions[:-1] if each.attempt == executions[-1].attempt]
        assert executions[-1].attempt == 2, executions
        assert {each.pid for each in repeats} <= excused, "undone again, though its worker lived"
