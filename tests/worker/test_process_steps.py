"""Steps in processes: where they run, how they are ended for good, and what their deaths mean."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kagzi import (
    ErrorKind,
    Kagzi,
    RetryPolicy,
    RetryPredicate,
    RunStatus,
    StepFailed,
    StepInfo,
    StepStatus,
    SyncWorkflowContext,
    WorkflowContext,
    WorkflowFailed,
    step,
)
from kagzi.engine.processes.pool import StepProcesses
from kagzi.errors import ConfigError
from kagzi.testing import Environment
from tests.app.applications import an_application, until, watch, within
from tests.worker import computing
from tests.worker.deaths import declare_dead


@pytest.fixture
async def kagzi(sqlite_url: str) -> AsyncIterator[Kagzi]:
    """Its workers have two processes. No process for steps must be left by a test."""
    kagzi = an_application(sqlite_url, max_step_processes=2)
    yield kagzi
    await kagzi.close()
    assert computing.processes() == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where steps leave files: an empty folder."""
    folder = tmp_path / "steps"
    folder.mkdir()
    return folder


async def run(kagzi: Kagzi, body: Any, *args: Any) -> Any:
    """Execute a workflow function on a worker."""
    workflow: Any = kagzi.register_workflow("program", body)
    async with kagzi, kagzi.create_worker():
        return await within((await workflow.start(*args)).result())


# -- where -------------------------------------------------------------------------------------------------------


async def test_a_step_runs_in_a_process_of_the_worker_which_is_used_again(kagzi: Kagzi) -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        first, second = await computing.where(), await ctx.step("where", computing.where)  # type: ignore[misc] # plain
        return [first.pid, second.pid, first.parent, first.main_thread, await ctx.step("renamed", computing.renamed)]

    first, second, parent, in_main_thread, third = await run(kagzi, body)

    assert first == second == third != os.getpid()
    assert parent == os.getpid()
    assert in_main_thread


async def test_no_process_is_started_before_a_step_needs_one_and_no_more_than_allowed(
    kagzi: Kagzi, folder: Path
) -> None:
    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> list[str]:
        return await asyncio.gather(
            *(ctx.step("wait", computing.wait_for, str(folder), name) for name in ("a", "b", "c", "d"))
        )

    async with kagzi, kagzi.create_worker():
        before = computing.processes()
        handle = await work.start()
        await until(lambda: len(list(folder.iterdir())) == 2)
        during = computing.processes()
        (folder / "open").touch()
        result = await within(handle.result())
        after = computing.processes()

    assert before == []
    assert len(during) == len(after) == 2
    assert result == ["a", "b", "c", "d"]


async def test_steps_in_processes_really_run_at_the_same_time(kagzi: Kagzi, folder: Path) -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        both = (ctx.step("meet", computing.meet, str(folder), name, 2) for name in ("a", "b"))
        return await asyncio.gather(*both)

    first, second = await run(kagzi, body)

    assert first != second


async def test_a_step_in_a_process_knows_about_itself(kagzi: Kagzi) -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        return [ctx.run_id, await computing.tell()]  # type: ignore[misc] # plain

    run_id, told = await run(kagzi, body)

    assert told == [run_id, "0/told#1", "told", 1, f"{run_id}:0/told#1", False]


async def test_a_def_workflow_has_steps_in_processes_too(kagzi: Kagzi) -> None:
    def body(ctx: SyncWorkflowContext) -> list[int]:
        return [computing.count_to(10), ctx.submit("count", computing.count_to, 100).result(timeout=30)]

    assert await run(kagzi, body) == [45, 4950]


async def test_large_arguments_and_results_pass(kagzi: Kagzi) -> None:
    async def body(ctx: WorkflowContext) -> int:
        return await ctx.step("take", computing.take, [1] * 3_000_000)

    assert await run(kagzi, body) == 3_000_000


async def test_what_a_process_gave_is_stored_and_replayed_like_any_result(any_database_url: str) -> None:
    kagzi = an_application(any_database_url, park_after=timedelta(0))

    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> list[int]:
        before = await ctx.step("where", computing.where)
        await ctx.sleep("nap", 0.05)
        return [before.pid, (await ctx.step("where", computing.where)).pid]

    async with kagzi, kagzi.create_worker():
        handle = await work.start()
        first, second = await within(handle.result())
        steps = await handle.history()

    assert first == second
    assert [each.name for each in steps] == ["where", "nap", "where"]


# -- ended for good ----------------------------------------------------------------------------------------------


async def test_a_timeout_kills_the_process_and_what_it_has_started(kagzi: Kagzi, folder: Path) -> None:
    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> int:
        with pytest.raises(StepFailed, match=r"its timeout of 0\.5 s"):
            await ctx.options(timeout=0.5).step("spin", computing.spin, str(folder))
        return await ctx.step("count", computing.count_to, 10)

    async with kagzi, kagzi.create_worker():
        handle = await work.start()
        pids = [await computing.pid_of(folder, name) for name in ("spin", "spin-beside")]
        result = await within(handle.result())
        await computing.gone(pids[0])
        await computing.dead(pids[1])

    assert result == 45


async def test_a_timeout_kills_a_process_that_has_left_its_group(kagzi: Kagzi, folder: Path) -> None:
    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> None:
        await ctx.options(timeout=0.5).step("spin", computing.spin_elsewhere, str(folder))

    async with kagzi, kagzi.create_worker():
        handle = await work.start()
        pid = await computing.pid_of(folder, "spin")
        with pytest.raises(WorkflowFailed, match=r"its timeout of 0\.5 s"):
            await within(handle.result())
        await computing.gone(pid)


async def test_starting_the_process_and_waiting_for_one_are_no_part_of_a_steps_time(folder: Path) -> None:
    kagzi = an_application("sqlite://", max_step_processes=1)

    async def body(ctx: WorkflowContext) -> list[str]:
        patient = ctx.options(timeout=1.0)
        return await asyncio.gather(*(patient.step("nap", computing.nap, 0.4) for _ in range(4)))

    assert await run(kagzi, body) == ["rested"] * 4


async def test_a_body_that_withdraws_a_step_kills_its_process(kagzi: Kagzi, folder: Path) -> None:
    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> str:
        spinning = ctx.step("spin", computing.spin, str(folder))
        spinning.begin()
        await ctx.step("come", came)
        spinning.cancel()
        return "withdrawn"

    async def came() -> None:
        await computing.pid_of(folder, "spin")

    async with kagzi, kagzi.create_worker():
        handle = await work.start()
        pid = await computing.pid_of(folder, "spin")
        result = await within(handle.result())
        await computing.gone(pid)

    assert result == "withdrawn"


async def test_a_run_that_is_lost_takes_its_process_along(any_database_url: str, folder: Path) -> None:
    kagzi = an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.1))
    store = watch(kagzi)

    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> str:
        return await ctx.step("wait", computing.wait_for, str(folder), "wait")

    async with kagzi, kagzi.create_worker() as worker:
        handle = await work.start()
        former = await computing.pid_of(folder, "wait")
        (folder / "wait").unlink()

        await declare_dead(store.real, worker.key)
        await computing.gone(former)
        again = await computing.pid_of(folder, "wait")
        (folder / "open").touch()
        result = await within(handle.result())

    assert again != former
    assert result == "wait"


async def test_a_worker_that_drains_waits_for_its_processes(kagzi: Kagzi, folder: Path) -> None:
    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> str:
        return await ctx.step("wait", computing.wait_for, str(folder), "wait")

    async with kagzi:
        async with kagzi.create_worker(graceful_shutdown_timeout=30) as worker:
            handle = await work.start()
            pid = await computing.pid_of(folder, "wait")
            worker.stop()
            (folder / "open").touch()
        steps = await handle.history()
        await computing.gone(pid)

    assert [each.status for each in steps] == [StepStatus.COMPLETED]


async def test_a_worker_that_stops_at_once_kills_its_processes(kagzi: Kagzi, folder: Path) -> None:
    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> None:
        await ctx.step("spin", computing.spin, str(folder))

    async with kagzi:
        async with kagzi.create_worker(graceful_shutdown_timeout=0):
            handle = await work.start()
            pid = await computing.pid_of(folder, "spin")
        assert computing.state_of(pid) is None
        run = await handle.describe()

    assert run.status is RunStatus.PENDING


async def test_p9_a_step_that_waits_for_a_process_does_not_begin_once_the_lease_is_gone(folder: Path) -> None:
    kagzi = an_application("sqlite://", max_step_processes=1)

    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> None:
        waits = (ctx.step("wait", computing.wait_for, str(folder), name) for name in ("a", "b"))
        await asyncio.gather(*waits)

    async with kagzi, kagzi.create_worker() as worker:
        await work.start()
        await computing.pid_of(folder, "a")
        worker._lease._deadline = 0.0
        (folder / "open").touch()
        await until(lambda: worker.run_count == 0)

    assert not (folder / "b").exists()


# -- deaths ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("exit", "exit status 3"),
        ("SIGSEGV", "killed by SIGSEGV"),
        ("SIGKILL", "killed by SIGKILL .* memory runs out"),
        ("fork", "exit status 3"),
        ("close", "let go of its line to the worker and went on"),
        ("exec", "let go of its line to the worker and went on"),
    ],
)
async def test_a_process_that_dies_fails_its_own_step_and_no_other(
    kagzi: Kagzi, folder: Path, how: str, told: str
) -> None:
    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> list[Any]:
        waiting = ctx.step("wait", computing.wait_for, str(folder), "wait")
        waiting.begin()
        await ctx.step("come", came)
        with pytest.raises(StepFailed, match=told) as failure:
            await ctx.step("die", computing.die, how)
        error = failure.value.error
        after = await ctx.step("count", computing.count_to, 10)
        await ctx.step("open", (folder / "open").touch)
        return [await waiting, after, error.kind.value, error.type, error.retryable]

    async def came() -> None:
        await computing.pid_of(folder, "wait")

    async with kagzi, kagzi.create_worker():
        result = await within((await work.start()).result())

    assert result == ["wait", 45, "UNKNOWN", "StepProcessDied", True]


async def test_a_step_that_kills_its_process_is_tried_again_by_policy(kagzi: Kagzi, folder: Path) -> None:
    async def body(ctx: WorkflowContext) -> int:
        again = ctx.options(retry=RetryPolicy.fixed(0.01, max_attempts=3))
        return await again.step("die", computing.die_once, str(folder))

    assert await run(kagzi, body) == 2


async def test_a_step_that_exits_fails_and_its_process_is_used_again(kagzi: Kagzi) -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        before = await ctx.step("where", computing.where)
        with pytest.raises(StepFailed, match="SystemExit: 4"):
            await ctx.step("die", computing.die, "raise")
        return [before.pid, (await ctx.step("where", computing.where)).pid]

    before, after = await run(kagzi, body)

    assert before == after


async def test_a_process_that_died_while_idle_is_replaced_and_no_step_fails(kagzi: Kagzi) -> None:
    async def kill(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        await computing.gone(pid)

    async def body(ctx: WorkflowContext) -> list[int]:
        before = await ctx.step("where", computing.where)
        await ctx.step("kill", kill, before.pid)
        return [before.pid, (await ctx.step("where", computing.where)).pid]

    before, after = await run(kagzi, body)

    assert before != after


async def test_a_process_whose_death_was_not_heard_of_yet_is_replaced_and_no_step_fails() -> None:
    processes = StepProcesses(1)
    info = StepInfo(
        run_id="run",
        step_id="0/where#1",
        name="where",
        attempt=1,
        idempotency_key="key",
        _cancelled=lambda: False,
        _beat=lambda details: None,
    )

    async def go_on() -> None:
        pass

    where: Any = computing.where
    before = await processes.call(where.__wrapped__, (), {}, info=info, on_turn=go_on)

    os.kill(before.pid, signal.SIGKILL)
    os.waitid(os.P_PID, before.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - the loop must stand still
    after = await processes.call(where.__wrapped__, (), {}, info=info, on_turn=go_on)
    await processes.close()

    assert after.pid != before.pid
    assert computing.processes() == []


async def test_signals_that_mean_the_worker_do_not_end_its_processes(kagzi: Kagzi, folder: Path) -> None:
    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> str:
        return await ctx.step("wait", computing.wait_for, str(folder), "wait")

    async with kagzi, kagzi.create_worker():
        handle = await work.start()
        pid = await computing.pid_of(folder, "wait")
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        (folder / "open").touch()
        result = await within(handle.result())

    assert os.getpgid(0) != pid
    assert result == "wait"


# -- what comes out ----------------------------------------------------------------------------------------------


async def failure_of(kagzi: Kagzi, how: str) -> Any:
    async def body(ctx: WorkflowContext) -> None:
        await ctx.step("fail", computing.fail, how)

    with pytest.raises(WorkflowFailed) as failure:
        await run(kagzi, body)
    (error,) = failure.value.error.causes
    return error


async def test_an_exception_keeps_its_type_message_traceback_and_cause(kagzi: Kagzi) -> None:
    error = await failure_of(kagzi, "plain")

    assert (error.type, error.message) == ("Plain", "('second', 2)")
    assert 'raise Plain("second", 2) from error' in error.traceback
    assert "in fail" in error.traceback
    assert "child.py" not in error.traceback
    (cause,) = error.causes
    assert (cause.type, cause.message) == ("KeyError", "'first'")
    assert 'raise KeyError("first")' in cause.traceback


async def test_an_exception_that_cannot_be_pickled_is_stood_in_for(kagzi: Kagzi) -> None:
    error = await failure_of(kagzi, "unpicklable")

    assert (error.type, error.message) == ("Refused", "example.com refuses")
    assert error.kind is ErrorKind.SERVICE_UNAVAILABLE, "its status_code came along"
    assert "raise Refused" in error.traceback


@pytest.mark.parametrize(
    ("how", "type_", "message"),
    [("local", "Local", "here only"), ("circle", "ValueError", "first"), ("group", "ExceptionGroup", "several")],
)
async def test_odd_exceptions_arrive(kagzi: Kagzi, how: str, type_: str, message: str) -> None:
    error = await failure_of(kagzi, how)

    assert error.type == type_
    assert message in error.message
    if how == "group":
        assert [(cause.type, cause.message) for cause in error.causes] == [
            ("ValueError", "one"),
            ("Refused", "other refuses"),
        ]


@pytest.mark.parametrize(("types", "attempts"), [((ConnectionError,), 2), ((computing.Refused,), 2), ((KeyError,), 1)])
async def test_retries_by_type_see_the_exceptions_of_processes(
    kagzi: Kagzi, types: tuple[type[Exception], ...], attempts: int
) -> None:
    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> None:
        again = ctx.options(retry=RetryPolicy.fixed(0, max_attempts=2), retry_if=RetryPredicate.on_types(*types))
        await again.step("fail", computing.fail, "unpicklable")

    async with kagzi, kagzi.create_worker():
        handle = await work.start()
        with pytest.raises(WorkflowFailed):
            await within(handle.result())
        (failed,) = await handle.history()

    assert failed.attempts == attempts


@pytest.mark.parametrize("what", ["lambda", "lock"])
async def test_a_result_that_cannot_travel_is_refused_naming_the_step(kagzi: Kagzi, what: str) -> None:
    async def body(ctx: WorkflowContext) -> None:
        await ctx.step("give", computing.give, what)

    with pytest.raises(WorkflowFailed, match="step 'give': what it returned can't leave its process") as failure:
        await run(kagzi, body)

    assert failure.value.error.kind is ErrorKind.VALIDATION_FAILED


async def test_an_argument_that_cannot_travel_is_refused_naming_the_step(kagzi: Kagzi) -> None:
    async def body(ctx: WorkflowContext) -> None:
        await ctx.step("take", computing.take, lambda: 1)

    with pytest.raises(WorkflowFailed, match="step 'take': an argument can't travel to its process") as failure:
        await run(kagzi, body)

    assert failure.value.error.kind is ErrorKind.VALIDATION_FAILED


async def test_what_a_process_logs_goes_to_the_handlers_of_the_worker(
    kagzi: Kagzi, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(ctx: WorkflowContext) -> None:
        await ctx.step("log", computing.log)

    logging.getLogger("tests.computing").setLevel(logging.INFO)
    await run(kagzi, body)
    logging.getLogger("tests.computing").setLevel(logging.NOTSET)

    loud, failed = (record for record in caplog.records if record.name.startswith("tests.computing"))
    assert (loud.getMessage(), loud.levelno, loud.__dict__["number"]) == ("loud 1", logging.INFO, 7)
    assert "lock" in loud.__dict__["thing"]
    assert loud.process != os.getpid()
    assert failed.name == "tests.computing.deeper"
    assert "ValueError: inside" in failed.getMessage()


# -- what can't be sent ------------------------------------------------------------------------------------------


def test_functions_that_a_process_could_not_find_are_refused_where_they_are_marked() -> None:
    def inner() -> None: ...

    async def coroutine() -> None: ...

    def generator() -> Any:
        yield 1

    nowhere: tuple[Any, ...] = (inner, lambda: None, functools.partial(print))
    for function in nowhere:
        with pytest.raises(ConfigError, match="top level of a module"):
            step("x", executor="process")(function)
    not_plain: tuple[Any, ...] = (coroutine, generator)
    for function in not_plain:
        with pytest.raises(ConfigError, match="plain functions that compute"):
            step("x", executor="process")(function)
    with pytest.raises(ValueError, match='must be "auto" or "process"'):
        step("x", executor="thread")  # type: ignore[call-overload] # the fault


async def test_a_name_that_leads_to_something_else_is_refused_at_the_call(kagzi: Kagzi) -> None:
    async def body(ctx: WorkflowContext) -> None:
        await ctx.step("moved", computing.moved_step)

    with pytest.raises(WorkflowFailed, match=r"step 'moved' .* leads to something else"):
        await run(kagzi, body)


# -- virtual time ------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_an_environment_executes_steps_in_processes_and_puts_mocks_in_their_place() -> None:
    kagzi = Kagzi("sqlite://")

    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> list[int]:
        await ctx.sleep("nap", timedelta(days=1))
        return [await ctx.step("count", computing.count_to, 10), await ctx.step("mocked", computing.count_to, 10)]

    async with Environment(kagzi) as env:
        env.mock("mocked", lambda limit: limit)
        handle = await work.start()
        await env.advance(timedelta(days=1))
        result = await handle.result()
        report = await env.crash_everywhere(work)

    assert result == [45, 10]
    assert report.crashes > 3
    assert computing.processes() == []
