"""P22: a run that kills its worker again and again is set aside, and the rest goes on."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from kagzi import ErrorKind, Kagzi, RunStatus, WorkflowContext, WorkflowFailed, WorkflowHandle
from tests.app.applications import PATIENCE_S, an_application, until, within
from tests.app.watched_store import WatchedStore
from tests.worker.deaths import declare_dead
from tests.worker.gates import Gates

PROGRAM = """
import asyncio, os, sys
from datetime import timedelta
from kagzi import Kagzi, Settings, WorkflowContext

kagzi = Kagzi(settings=Settings(
    database_url=sys.argv[1], heartbeat_interval=timedelta(seconds=0.1), lease=timedelta(seconds=0.5), poison_after=3,
    poll_interval=timedelta(seconds=0.1),
))

async def boom() -> None:
    print("boom", flush=True)
    os._exit(7)

@kagzi.workflow
async def deadly(ctx: WorkflowContext) -> None:
    await ctx.step("boom", boom)

@kagzi.workflow
async def harmless(ctx: WorkflowContext) -> str:
    return "fine"

asyncio.run(kagzi.create_worker().start())
"""


@pytest.fixture
def kagzi(any_database_url: str) -> Kagzi:
    """Its workers beat often, and have a minute's lease."""
    return an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.1))


async def test_p22_a_run_whose_worker_died_five_times_without_a_checkpoint_is_set_aside(
    kagzi: Kagzi, store: WatchedStore, gates: Gates
) -> None:
    @kagzi.workflow
    async def deadly(ctx: WorkflowContext) -> None:
        await ctx.step("boom", gates.enter, "boom")

    @kagzi.workflow
    async def harmless(ctx: WorkflowContext) -> str:
        return "fine"

    async with kagzi, kagzi.create_worker() as worker:
        handle = await deadly.start()
        crashes = []
        for death in range(1, 6):
            await gates.reached("boom", times=death)
            await gates.full(1)
            crashes.append((await handle.describe()).crashes)
            await declare_dead(store.real, worker.key, poison_after=5)
        with pytest.raises(WorkflowFailed, match="5 times in a row") as failure:
            await within(handle.result())
        run = await handle.describe()
        other = await within((await harmless.start()).result())

    assert crashes == [0, 1, 2, 3, 4]
    assert failure.value.error.kind is ErrorKind.POISON_RUN
    assert failure.value.error.kind.value == "PoisonRun"
    assert run.status is RunStatus.FAILED
    assert run.finished_at is not None
    assert other == "fine"


async def test_p22_a_checkpoint_between_two_deaths_starts_the_count_afresh(
    kagzi: Kagzi, store: WatchedStore, gates: Gates
) -> None:
    @kagzi.workflow
    async def long(ctx: WorkflowContext) -> str:
        for number in range(4):
            await ctx.step("part", gates.enter, f"part {number}")
        return "done"

    async with kagzi, kagzi.create_worker() as worker:
        handle = await long.start()
        for number in range(4):
            for death in (1, 2):
                await gates.reached(f"part {number}", times=death)
                await gates.full(1)
                await declare_dead(store.real, worker.key)
            await gates.reached(f"part {number}", times=3)
            gates.open(f"part {number}")
        result = await within(handle.result())

    assert result == "done"


async def test_p22_runs_on_their_last_chance_are_executed_one_at_a_time(
    kagzi: Kagzi, store: WatchedStore, gates: Gates
) -> None:
    """Which of them the workers died of shows when one dies with a worker and the other does not."""

    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> str:
        return await ctx.step("enter", gates.enter, "enter")

    async with kagzi, kagzi.create_worker() as worker:
        handles = [await visit.start() for _ in range(2)]
        for death in range(1, 5):
            await gates.reached("enter", times=2 * death)
            await gates.full(2)
            await declare_dead(store.real, worker.key, poison_after=5)
        await gates.reached("enter", times=9)
        await until(lambda: waits_for_its_turn(handles))
        inside, entered = gates.inside, len(gates.entered)
        await declare_dead(store.real, worker.key, poison_after=5)
        await gates.reached("enter", times=10)
        gates.open_all()
        results = await within(asyncio.gather(*[handle.result() for handle in handles], return_exceptions=True))

    assert (inside, entered) == (1, 9)
    assert sorted(map(type, results), key=str) == sorted([str, WorkflowFailed], key=str)


async def waits_for_its_turn(handles: list[WorkflowHandle[str]]) -> bool:
    runs = [await handle.describe() for handle in handles]
    return any(run.status is RunStatus.PENDING and "its turn" in "".join(run.waiting_for) for run in runs)


async def test_p22_a_run_that_goes_on_makes_room_for_the_next_on_its_last_chance(
    kagzi: Kagzi, store: WatchedStore, gates: Gates
) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> str:
        await ctx.step("enter", gates.enter, "enter")
        return await ctx.step("stay", gates.enter, "stay")

    async with kagzi, kagzi.create_worker() as worker:
        handles = [await visit.start() for _ in range(5)]
        for death in range(1, 5):
            await gates.reached("enter", times=5 * death)
            await gates.full(5)
            await declare_dead(store.real, worker.key)
        gates.open("enter")
        await gates.reached("stay", times=5)  # none of them has ended by then
        gates.open_all()
        results = [await within(handle.result()) for handle in handles]

    assert results == ["stay"] * 5


async def test_p21_sleeping_and_being_given_back_count_as_no_crash(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def naps(ctx: WorkflowContext) -> str:
        for number in range(6):
            await ctx.sleep(f"nap {number}", 60 if number == 5 else 0.25)
        return "done"

    async with kagzi:
        handle = await naps.start()
        async with kagzi.create_worker():
            await until(lambda: has_wakeups(kagzi, handle.run_id, 5))
        for _ in range(6):  # given back each time
            async with kagzi.create_worker():
                pass
        run = await handle.describe()

    assert (run.attempts, run.crashes, run.wakeups) == (1, 0, 5)


async def has_wakeups(kagzi: Kagzi, run_id: str, count: int) -> bool:
    run = await kagzi.handle(run_id).describe()
    return run.wakeups >= count and run.status is RunStatus.SLEEPING


async def test_p22_processes_that_die_of_a_run_are_spared_after_a_while(sqlite_url: str, tmp_path: Path) -> None:
    kagzi = an_application(sqlite_url)
    program = tmp_path / "deadly_worker.py"
    program.write_text(PROGRAM)

    async with kagzi:

        @kagzi.workflow
        async def deadly(ctx: WorkflowContext) -> None: ...

        @kagzi.workflow
        async def harmless(ctx: WorkflowContext) -> str:
            return ""

        handle = await deadly.start()
        deaths = 0
        while await handle.status() is not RunStatus.FAILED:
            worker = await asyncio.create_subprocess_exec(
                sys.executable, program, sqlite_url, stdout=asyncio.subprocess.PIPE
            )
            try:
                if not await ends(worker, handle.run_id, kagzi):
                    break
                deaths += 1
                assert deaths <= 3
            finally:
                if worker.returncode is None:
                    worker.terminate()
                await within(worker.wait())
        error = (await handle.describe()).error

    assert deaths == 3
    assert error is not None
    assert error.kind is ErrorKind.POISON_RUN


async def ends(worker: asyncio.subprocess.Process, run_id: str, kagzi: Kagzi) -> bool:
    """Wait until a worker's process has died of the run (True), or the run was set aside."""
    death = asyncio.ensure_future(worker.wait())
    async with asyncio.timeout(PATIENCE_S):
        while not death.done():
            await asyncio.wait({death}, timeout=0.05)
            if not death.done() and await kagzi.handle(run_id).status() is RunStatus.FAILED:
                death.cancel()
                return False
    assert worker.returncode == 7
    return True
