"""What an environment takes, and gives back."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path

import pytest
import uvloop

from kagzi import ConfigError, Kagzi, RunNotFound, RunStatus, Settings, WorkflowContext
from kagzi.testing import Environment


@pytest.fixture
def counting(kagzi: Kagzi) -> Kagzi:
    @kagzi.workflow("count")
    async def count(ctx: WorkflowContext, number: int) -> int:
        await ctx.sleep("pause", 3600)
        return await ctx.step("add", _add, number)

    return kagzi


async def _add(number: int) -> int:
    return number + 1


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_an_application_that_was_never_connected_is_not_connected_afterwards(
    counting: Kagzi, tmp_path: Path
) -> None:
    async with Environment(counting):
        await counting.start_workflow("count", 1)
    assert _files(tmp_path) == []
    with pytest.raises(ConfigError, match="not connected"):
        counting.handle("anything")


async def test_a_connected_application_has_its_database_back_afterwards(counting: Kagzi) -> None:
    async with counting:
        outside = await counting.start_workflow("count", 1)
        async with Environment(counting) as env:
            inside = await counting.start_workflow("count", 1)
            with pytest.raises(RunNotFound):
                await counting.handle(outside.run_id).status()
            await env.advance(3600)
            assert await inside.result() == 2
        assert [run.run_id for run in await counting.find_runs()] == [outside.run_id]
        assert await counting.handle(outside.run_id).status() is RunStatus.PENDING
        with pytest.raises(RunNotFound):
            await counting.handle(inside.run_id).status()


async def test_a_worker_outside_goes_on_with_its_own_database(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def quick(ctx: WorkflowContext) -> str:
        return await ctx.step("wait", waiting)

    gate = asyncio.Event()

    async def waiting() -> str:
        await gate.wait()
        return "done"

    async with kagzi, kagzi.create_worker():
        outside = await quick.start()
        async with Environment(kagzi) as env:
            env.mock("wait", "mocked")
            assert await (await quick.start()).result() == "mocked"
        gate.set()
        assert await outside.result(timeout=10) == "done"


async def test_environments_do_not_see_each_other(counting: Kagzi) -> None:
    for _ in range(2):
        async with Environment(counting) as env:
            assert await counting.find_runs() == []
            await counting.options(id="the same").start_workflow("count", 1)
            await env.settle()
            assert len(await counting.find_runs()) == 1


async def test_two_applications_can_be_in_environments_at_once(counting: Kagzi, tmp_path: Path) -> None:
    other = Kagzi(f"sqlite:///{tmp_path}/other.db")
    other.workflow("count")(_count_by_ten)
    async with Environment(counting) as env, Environment(other) as other_env:
        one = await counting.start_workflow("count", 1)
        ten = await other.start_workflow("count", 1)
        await env.advance(3600)
        await other_env.settle()
        assert await one.result() == 2
        assert await ten.result() == 11
        assert env.now() > other_env.now()


async def _count_by_ten(ctx: WorkflowContext, number: int) -> int:
    return number + 10


async def test_an_application_can_be_in_one_environment_at_a_time(counting: Kagzi) -> None:
    async with Environment(counting) as env:
        with pytest.raises(ConfigError, match="in an Environment already"):
            async with Environment(counting):
                pytest.fail("two environments hold one application")
        handle = await counting.start_workflow("count", 1)
        await env.advance(3600)
        assert await handle.result() == 2


async def test_an_environment_can_be_left_with_runs_in_every_state(
    kagzi: Kagzi, caplog: pytest.LogCaptureFixture
) -> None:
    executing = asyncio.Event()

    async def hang() -> None:
        executing.set()
        await asyncio.Event().wait()

    @kagzi.workflow
    async def stay(ctx: WorkflowContext, pause: float) -> None:
        await ctx.sleep("pause", pause)
        await ctx.step("hang", hang)

    async def leave_by_an_error() -> None:
        async with Environment(kagzi):
            await stay.options(delay=60).start(0)  # pending
            await stay.start(3600)  # parked
            await stay.start(0.5)  # waiting in memory
            await stay.start(0)
            await executing.wait()
            raise ZeroDivisionError

    threads = threading.active_count()
    tasks = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        await leave_by_an_error()
    gc.collect()
    assert asyncio.all_tasks() == tasks
    assert threading.active_count() == threads
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
    async with Environment(kagzi) as env:
        await env.settle()
        assert await kagzi.find_runs() == []


async def test_an_environment_that_is_not_open_says_so(kagzi: Kagzi) -> None:
    with pytest.raises(ConfigError, match="async with"):
        await Environment(kagzi).advance(1)


async def test_runs_of_every_queue_are_executed(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def quick(ctx: WorkflowContext) -> str:
        return "done"

    async with Environment(kagzi) as env:
        handle = await quick.options(queue="emails").start()
        await env.settle()
        assert await handle.result(timeout=5) == "done"


async def test_an_application_that_never_migrates_by_itself_can_be_tested(tmp_path: Path) -> None:
    kagzi = Kagzi(settings=Settings(database_url=f"sqlite:///{tmp_path}/never-made.db", auto_migrate=False))
    async with Environment(kagzi):
        assert await kagzi.find_runs() == []


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_an_environment_needs_no_test_runner(counting: Kagzi, loop_factory: type[asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        async with Environment(counting) as env:
            handle = await counting.start_workflow("count", 1)
            await env.advance(3600)
            assert await handle.result() == 2

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
        runner.run(main())
