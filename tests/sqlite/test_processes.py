"""Several processes on one file."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from kagzi.model.run import RunFilter, RunStatus
from kagzi.store.sqlite.store import SqliteStore
from tests.contract.builders import NAMESPACE, a_run, start

PROCESSES = 8
RUNS = 2000
STEPS = 3
KILLS = 6

WORKER = """
import asyncio, os, sys
from datetime import timedelta
from kagzi.model.change import Applied, Change, Transition
from kagzi.model.claim import ClaimRequest
from kagzi.model.run import RunStatus
from kagzi.model.step import StepRecord
from kagzi.model.worker import Beat, RecoveryPolicy, Registration
from kagzi.ids import new_id
from kagzi.settings import Settings
from kagzi.store.urls import open_store

LEASE = timedelta(seconds=0.5)
WORKFLOWS = (("order", 1),)

async def main(url, log):
    store = open_store(url, Settings())
    await store.open()
    await store.migrate()
    key = new_id()

    async def enter(key):
        await store.register(Registration(key=key, worker_id="w", namespace="default", host="h", pid=os.getpid(),
            queues=("default",), workflows=WORKFLOWS, slots=10, lease=LEASE))

    async def run(claim):
        done = {record.seq for record in claim.history}
        for seq in range(1, 4):
            if seq in done:
                continue
            record = StepRecord(step_id=f"0/s#{seq}", seq=seq, output=f'"{key}"')
            committed = await store.commit([Change(run_id=claim.run_id, fence=claim.fence, records=(record,))])
            if committed.outcomes[0] is Applied.LOST:
                return
            await asyncio.sleep(0.002)
            os.write(log, f"step {os.getpid()} {claim.run_id} {seq}\\n".encode())
        transition = Transition(status=RunStatus.COMPLETED, output='"done"')
        await store.commit([Change(run_id=claim.run_id, fence=claim.fence, transition=transition)])

    await enter(key)
    idle = 0
    while True:
        if not (await store.beat(Beat(worker=key, lease=LEASE))).alive:
            key = new_id()
            await enter(key)
        await store.recover("default", RecoveryPolicy(poison_after=1000, poison_error="{}"))
        request = ClaimRequest(worker=key, namespace="default", queues=("default",), workflows=WORKFLOWS, slots=10)
        claims = (await store.claim(request)).claims
        for claim in claims:
            os.write(log, f"claim {os.getpid()} {claim.run_id} {claim.fence}\\n".encode())
        await asyncio.gather(*(run(claim) for claim in claims))
        if not claims:
            if not await store.count_open("default"):
                return
            await asyncio.sleep(0.02)

asyncio.run(main(sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)))
"""


@pytest.mark.slow
async def test_eight_processes_share_a_file_while_some_are_killed(
    store: SqliteStore, sqlite_url: str, tmp_path: Path
) -> None:
    """P5, P6, P8, P11, P14: no run has two owners, none is lost, and nobody hears that the file is locked."""
    await start(store, *(a_run() for _ in range(RUNS)))
    log = tmp_path / "log"
    chance = random.Random(1)

    async def spawn() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WORKER, sqlite_url, str(log)), stderr=asyncio.subprocess.PIPE
        )

    def at_work(process: asyncio.subprocess.Process) -> bool:
        return process.returncode is None and f"claim {process.pid} " in log.read_text()

    log.touch()
    living = [await spawn() for _ in range(PROCESSES)]
    killed: list[asyncio.subprocess.Process] = []
    while len(killed) < KILLS and any(process.returncode is None for process in living):
        await asyncio.sleep(chance.uniform(0.05, 0.15))
        if victims := [process for process in living if at_work(process)]:
            victim = chance.choice(victims)
            victim.kill()
            killed.append(victim)
            living.remove(victim)
            living.append(await spawn())
    errors = [error for _, error in await asyncio.gather(*(process.communicate() for process in living))]
    await asyncio.gather(*(process.communicate() for process in killed))

    lines = log.read_text().splitlines()
    claims, steps = (
        Counter(tuple(line.split()[2:]) for line in lines if line.startswith(kind)) for kind in ("claim", "step")
    )
    assert b"".join(errors) == b""
    assert [claim for claim, times in claims.items() if times > 1] == []
    assert [step for step, times in steps.items() if times > 1] == []
    runs = await store.find(RunFilter(namespace=NAMESPACE, limit=RUNS + 1))
    assert {run.status for run in runs} == {RunStatus.COMPLETED}
    assert len(runs) == RUNS
    assert len(killed) == KILLS
    assert any(run.crashes for run in runs)  # or nobody was killed at work, and the test has shown nothing
    for run in runs[::50]:
        assert [step.seq for step in await store.steps(run.run_id)] == list(range(1, STEPS + 1))
