"""`kill -9` of the worker that executes a parallel group, thirty times at random moments."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from kagzi import Kagzi
from tests.faults.database import stored_results
from tests.faults.fleet import Fleet
from tests.faults.ledger import Execution
from tests.faults.polling import until
from tests.faults.workflows import BRANCHES, KILLS, Pace, register_group

QUICKER = {"KAGZI_LEASE": "0.6", "KAGZI_HEARTBEAT_INTERVAL": "0.2", "KAGZI_POLL_INTERVAL": "0.1"}


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_a_group_whose_worker_is_killed_thirty_times_stores_each_branch_once(fleet: Fleet) -> None:
    """P5, P10, P11, P13, P15."""
    chance = random.Random(seed := random.randrange(2**32))
    kills = fleet.ledger.path.with_name("kills")
    kills.touch()
    async with Kagzi(fleet.url) as kagzi:
        handle = await register_group(kagzi, fleet.ledger).start(Pace(work_s=0.01))
        fleet.start(2, **QUICKER)
        for number in range(KILLS):
            owner = await owner_of_the_run(fleet)
            await asyncio.sleep(chance.uniform(0, 0.15))  # the moment is what is random
            fleet.kill(owner)
            fleet.start(1, **QUICKER)
            kills.write_bytes(b"k" * (number + 1))
        tokens = await handle.result(timeout=60)

    print(f"seed {seed}: {len(fleet.ledger.read())} executions of {BRANCHES} branches")
    check_branches(fleet, tokens)
    assert fleet.errors() == []


async def owner_of_the_run(fleet: Fleet) -> int:
    """The living worker that began a branch last."""

    def owners() -> list[int]:
        return [execution.pid for execution in fleet.ledger.read() if execution.pid in fleet.pids]

    await until(lambda: bool(owners()), "a worker executes branches", within_s=30)
    return owners()[-1]


def check_branches(fleet: Fleet, tokens: list[str]) -> None:
    """Each branch has one checkpoint, which is what its last execution returned and what the caller got."""
    stored = {step: msgspec.json.decode(output, type=str) for (_, step), output in stored_results(fleet.url).items()}
    identities = [f"0.branches#1/branch#{number}" for number in range(1, BRANCHES + 1)]
    assert stored == dict(zip(identities, tokens, strict=True))
    executions: dict[str, list[Execution]] = {identity: [] for identity in identities}
    for execution in fleet.ledger.read():
        executions[execution.step_id].append(execution)
    excused = fleet.killed | fleet.declared_dead()
    for number, (identity, begun) in enumerate(executions.items(), 1):
        assert {each.before for each in begun} == {str(number)}, f"{identity} was given the input of another branch"
        assert begun[-1].token == stored[identity], f"{identity} was executed after its checkpoint"
        assert {each.pid for each in begun[:-1]} <= excused, f"{identity} was executed again, though its worker lived"
