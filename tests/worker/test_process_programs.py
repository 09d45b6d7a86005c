"""Whole programs with steps in processes: how they are ended, and what becomes of `__main__`."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.applications import an_application, within
from tests.worker import computing

ROOT = Path(__file__).parents[2]

WORKER = """
import sys
import uvloop
from kagzi import Kagzi, WorkflowContext
from tests.worker import computing

kagzi = Kagzi(sys.argv[1])

@kagzi.workflow
async def work(ctx: WorkflowContext, step: str, folder: str) -> str:
    await ctx.step(step, getattr(computing, step), folder, step)
    return "done"

if __name__ == "__main__":
    async def main() -> None:
        async with kagzi:
            if len(sys.argv) > 2:
                await work.options(id="one").start(*sys.argv[2:])
            await kagzi.create_worker(lease=2, heartbeat_interval=0.5).start()

    uvloop.run(main())  # as `kagzi worker` does
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where steps leave files: an empty folder."""
    folder = tmp_path / "steps"
    folder.mkdir()
    return folder


class Workers:
    """Worker processes of a program."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self._program = folder.parent / "program.py"
        self._program.write_text(WORKER)
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self, *step: str) -> subprocess.Popen[bytes]:
        """Start a worker, and with a step's name a run that executes it."""
        arguments = [self._url, *step, *([str(self._folder)] if step else [])]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        worker = subprocess.Popen([sys.executable, self._program, *arguments], env=environment, process_group=0)
        self.all.append(worker)
        return worker


@pytest.fixture
def workers(any_database_url: str, folder: Path) -> Iterator[Workers]:
    """Workers that are killed after the test."""
    workers = Workers(any_database_url, folder)
    yield workers
    for worker in workers.all:
        worker.kill()
        worker.wait()
    told = [entry.read_text() for entry in folder.iterdir()]
    for pid in (int(text) for text in told if text.isdigit()):  # where a test fails, or a step had started something
        if computing.state_of(pid) not in (None, "Z"):
            os.kill(pid, signal.SIGKILL)


async def test_a_worker_that_is_killed_takes_a_process_along_that_computes(workers: Workers, folder: Path) -> None:
    worker = workers.start("spin")
    pid = await computing.pid_of(folder, "spin")

    worker.kill()

    await computing.dead(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no kernel is asked")
async def test_a_process_that_changed_its_user_ends_with_its_worker_and_takes_along_what_it_started(
    workers: Workers, folder: Path
) -> None:
    worker = workers.start("spin_forgotten")
    pid = await computing.pid_of(folder, "spin_forgotten")
    beside = await computing.pid_of(folder, "spin_forgotten-beside")

    worker.kill()

    await computing.dead(pid)
    await computing.dead(beside)


async def test_a_run_whose_worker_and_process_were_killed_goes_on_elsewhere(
    workers: Workers, any_database_url: str, folder: Path
) -> None:
    killed = workers.start("wait_for")
    former = await computing.pid_of(folder, "wait_for")
    killed.kill()
    await computing.dead(former)
    (folder / "wait_for").unlink()

    workers.start()
    again = await computing.pid_of(folder, "wait_for")
    (folder / "open").touch()
    result = await result_of_the_run(any_database_url)

    assert again != former
    assert result == "done"


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_that_is_asked_to_stop_lets_a_step_in_a_process_finish(
    workers: Workers, any_database_url: str, folder: Path, asked: signal.Signals
) -> None:
    stopped = workers.start("wait_for")
    pid = await computing.pid_of(folder, "wait_for")
    os.killpg(stopped.pid, asked)  # as Ctrl-C does: all of the group
    (folder / "open").touch()
    status = await asyncio.to_thread(stopped.wait, 60)
    await computing.dead(pid)
    (folder / "wait_for").unlink()
    workers.start()
    result = await result_of_the_run(any_database_url)

    assert status == 0
    assert result == "done"
    assert not (folder / "wait_for").exists(), "the step was executed twice"


async def result_of_the_run(url: str) -> str:
    async with an_application(url) as kagzi:
        (run,) = await kagzi.find_runs(id="one")
        result: str = await within(kagzi.handle(run.run_id).result())
        return result


# -- __main__ ----------------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, os
from dataclasses import dataclass
from kagzi import Kagzi, WorkflowContext, step

kagzi = Kagzi("sqlite://")

@dataclass
class Sum:
    total: int
    pid: int

@step(executor="process")
def add(*numbers: int) -> Sum:
    return Sum(sum(numbers), os.getpid())

@step(executor="process")
def total(part: Sum) -> int:
    return part.total

@kagzi.workflow
async def work(ctx: WorkflowContext) -> bool:
    result = await ctx.step("add", add, 1, 2)
    return await ctx.step("total", total, result) == 3 and result.pid != os.getpid()

async def main() -> None:
    async with kagzi, kagzi.create_worker():
        print(await (await work.start()).result(timeout=60))
"""

GUARDED = PROGRAM + '\nif __name__ == "__main__":\n    asyncio.run(main())\n'
UNGUARDED = PROGRAM + "\nasyncio.run(main())\n"


def execute(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=90, check=False)


def test_functions_and_classes_of_the_main_module_are_found(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(GUARDED)

    ended = execute(program)

    assert (ended.stdout.strip(), ended.stderr) == ("True", "")


def test_a_main_module_that_starts_its_work_when_it_is_imported_is_told_what_to_do(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(UNGUARDED)

    ended = execute(program)

    assert ended.returncode == 1
    assert 'under `if __name__ == "__main__":`' in ended.stderr


def test_a_program_without_a_file_is_told_to_have_one() -> None:
    ended = execute("-c", GUARDED)

    assert ended.returncode == 1
    assert "an interactive session or by `python -c`" in ended.stderr
