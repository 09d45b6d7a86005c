"""Many processes at one thing."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from kagzi import Kagzi
from tests.faults import ROUNDS
from tests.faults.database import query
from tests.faults.fleet import ROOT, Fleet
from tests.faults.verdict import check_chains
from tests.faults.workflows import Pace, register_chain

PROCESSES = 4
STARTS = 25
ID = "order-1"


@contextmanager
def starter(url: str, *, work_s: float) -> Iterator[subprocess.Popen[str]]:
    """A process that starts runs when it is sent a line."""
    command = [sys.executable, "-m", "tests.faults.starter_program", url, ID, str(STARTS), str(work_s)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.timeout(60)
async def test_a_hundred_starts_with_one_id_from_four_processes_are_one_run(any_database_url: str) -> None:
    """P1: all starters of the same get the same run, and the one with another input gets ConflictError, or all do."""
    async with Kagzi(any_database_url):
        pass  # migrated
    with ExitStack() as stack:
        inputs = [0.0] * (PROCESSES - 1) + [1.0]
        starters = [stack.enter_context(starter(any_database_url, work_s=work_s)) for work_s in inputs]
        for each in starters:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        for each in starters:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        answers = [
            msgspec.json.decode(each.stdout.readline(), type=list[str]) for each in starters if each.stdout is not None
        ]

    ((run_id, encoded),) = query(any_database_url, "SELECT CAST(run_id AS text), input FROM workflow_runs")
    winner = 1.0 if "1.0" in encoded else 0.0
    for given, told in zip(inputs, answers, strict=True):
        assert told == [run_id if given == winner else "ConflictError"] * STARTS


@pytest.mark.slow
@pytest.mark.timeout(60 + 60 * ROUNDS)
async def test_eight_workers_on_one_sqlite_file_never_double_claim_nor_meet_a_locked_database(
    sqlite_url: str, tmp_path: Path
) -> None:
    """P5, P10, P14, while one after another is killed and replaced."""
    chance = random.Random()
    with Fleet(sqlite_url, tmp_path) as fleet:
        async with Kagzi(sqlite_url) as kagzi:
            chain = register_chain(kagzi, fleet.ledger)
            fleet.start(8, KAGZI_MAX_CONCURRENT_WORKFLOWS="10")
            await fleet.ready()
            paces = [Pace(work_s=chance.uniform(0, 0.1), nap_s=chance.choice([0.02, 0.3])) for _ in range(400 * ROUNDS)]
            handles = await kagzi.start_many(chain, paces)
            results = asyncio.gather(*[handle.result(timeout=60 * ROUNDS) for handle in handles])
            for _ in range(8 * ROUNDS):
                await asyncio.wait({results}, timeout=chance.uniform(0.1, 0.4))
                if not results.done():
                    fleet.replace_one(chance)
            tokens = await results

        check_chains(fleet, {handle.run_id: mine for handle, mine in zip(handles, tokens, strict=True)})
        assert len({execution.pid for execution in fleet.ledger.read()}) >= 8
        assert "locked" not in fleet.logs()
        assert fleet.errors() == []
        assert fleet.ended_by_themselves == []
