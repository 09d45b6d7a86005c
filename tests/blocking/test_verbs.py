"""The blocking application does what the async one does, from any thread that runs no event loop."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from datetime import timedelta

import pytest

from kagzi import (
    ConfigError,
    HealthCheckConfig,
    HealthStatus,
    PayloadError,
    RunNotFound,
    RunStatus,
    SyncWorkflowContext,
    WorkflowContext,
    WorkflowFailed,
    blocking,
)
from tests.app.applications import watch
from tests.blocking.flows import PATIENCE_S, an_application, compose, greet, in_threads


def test_a_run_is_started_executed_and_awaited_without_async_code(kagzi: blocking.Kagzi) -> None:
    with kagzi, kagzi.create_worker():
        handle = kagzi.start_workflow("greet", "Ada")
        result = handle.result(timeout=PATIENCE_S)

        assert result == "Hello, Ada!"
        assert handle.status() is RunStatus.COMPLETED
        assert handle.describe().output == "Hello, Ada!"
        assert [step.name for step in handle.history()] == ["compose"]
        assert kagzi.handle(handle.run_id).result(timeout=PATIENCE_S) == "Hello, Ada!"
        assert [run.run_id for run in kagzi.find_runs(workflow="greet")] == [handle.run_id]


def test_workflows_are_registered_by_decorators_as_in_the_async_application(kagzi: blocking.Kagzi) -> None:
    @kagzi.workflow
    async def plain(ctx: WorkflowContext, name: str) -> str:
        """Greet."""
        return await ctx.step("compose", compose, name)

    @kagzi.workflow("named", version=3)
    async def named(ctx: WorkflowContext, number: int) -> int:
        return number + 1

    with kagzi.create_worker():
        greeted = plain.start("Bob").result(timeout=PATIENCE_S)
        counted = named.options(id="once", tags=["a"]).options(priority=5).start(1)
        again = kagzi.options(id="once").start_workflow(named, 1)

        assert (plain.name, plain.version) == ("plain", 1)
        assert (getattr(plain, "__name__", None), plain.__doc__) == ("plain", "Greet.")
        assert (named.name, named.version) == ("named", 3)
        assert greeted == "Hello, Bob!"
        assert counted.result(timeout=timedelta(seconds=PATIENCE_S)) == 2
        assert again.run_id == counted.run_id
        assert counted.describe().priority == 5


def test_many_are_started_at_once(kagzi: blocking.Kagzi) -> None:
    handles: list[blocking.WorkflowHandle[str]] = kagzi.start_many("greet", ["a", "b", "c"], tags=["many"])

    assert sorted(run.run_id for run in kagzi.find_runs(tags=["many"])) == sorted(each.run_id for each in handles)


def test_many_are_held_and_ended_at_once(kagzi: blocking.Kagzi) -> None:
    kagzi.start_many("greet", ["a", "b", "c"], tags=["many"])
    one = kagzi.start_workflow("greet", "d")

    one.pause("why")
    paused = kagzi.pause_runs(tags=["many"])
    one.resume()
    resumed = kagzi.resume_runs(tags=["many"], dry_run=True)
    cancelled = kagzi.cancel_runs(tags=["many"])

    assert one.describe().paused_at is None
    assert len(paused.done) == 3
    assert resumed.done == cancelled.done == paused.done


def test_default_versions_are_set_and_read(kagzi: blocking.Kagzi) -> None:
    kagzi.register_workflow_version("greet", 2, greet)
    kagzi.set_default_workflow_version("greet", 1)

    assert kagzi.get_default_workflow_version("greet") == 1
    assert kagzi.start_workflow("greet", "a").describe().version == 1
    assert kagzi.start_workflow_version("greet", 2, "a").describe().version == 2


def test_a_worker_built_by_chaining_executes_runs(kagzi: blocking.Kagzi) -> None:
    worker = kagzi.create_worker_builder().worker_id("w-1").max_concurrent_workflows(3).build()

    with worker:
        kagzi.start_workflow("greet", "a").result(timeout=PATIENCE_S)
        (registered,) = kagzi.find_workers()

    assert isinstance(worker, blocking.Worker)
    assert registered.worker_id == worker.worker_id == "w-1"
    assert worker.config.max_concurrent_workflows == 3
    assert worker.state == "STOPPED"


def test_health_is_checked_of_a_blocking_application_and_of_an_async_one(kagzi: blocking.Kagzi) -> None:
    checker = blocking.HealthChecker(kagzi, HealthCheckConfig(heartbeat_warning=30))

    with kagzi.create_worker(worker_id="w-1") as worker:
        report = checker.comprehensive_check()
        health = checker.check_worker_health(worker)
        database = blocking.HealthChecker(kagzi.asynchronous).check_database_health()

    assert report.is_healthy
    assert (health.worker_id, health.status) == ("w-1", HealthStatus.HEALTHY)
    assert database.status is HealthStatus.HEALTHY
    assert checker.config.heartbeat_warning == timedelta(seconds=30)
    with pytest.raises(TypeError, match="not of 'postgres"):
        blocking.HealthChecker("postgresql://")  # type: ignore[arg-type] # what is to be refused


# -- errors ------------------------------------------------------------------------------------------------------


def test_a_call_raises_what_its_async_twin_raises_with_both_sides_in_the_traceback(kagzi: blocking.Kagzi) -> None:
    handle = kagzi.start_workflow("wait", 60)

    with pytest.raises(PayloadError) as refused:
        kagzi.start_workflow("greet", 5)
    with pytest.raises(TimeoutError, match="did not end within"):
        handle.result(timeout=0.05)
    with pytest.raises(RunNotFound):
        kagzi.handle("01a21211-597c-7000-a8ad-677a586f39c4").result(timeout=PATIENCE_S)
    with pytest.raises(TypeError, match="no 'colour'"):
        kagzi.options(colour="red")

    functions = [frame.name for frame in traceback.extract_tb(refused.value.__traceback__)]
    assert functions[0] == "test_a_call_raises_what_its_async_twin_raises_with_both_sides_in_the_traceback"
    assert "start_one" in functions


def test_a_failed_run_raises_with_its_error(kagzi: blocking.Kagzi) -> None:
    with kagzi.create_worker(), pytest.raises(WorkflowFailed) as failed:
        kagzi.start_workflow("fail").result(timeout=PATIENCE_S)

    assert failed.value.error.message == "no luck today"


# -- threads -----------------------------------------------------------------------------------------------------


def test_32_threads_that_use_an_application_for_the_first_time_at_once_share_one_connection(
    kagzi: blocking.Kagzi,
) -> None:
    def start(number: int) -> None:
        for turn in range(5):
            handle = kagzi.start_workflow("greet", f"{number}-{turn}")
            assert handle.describe().input == [f"{number}-{turn}"]

    in_threads(32, start)

    assert len(kagzi.find_runs(limit=1000)) == 160


def test_starts_of_many_threads_leave_in_common_commits(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    store = watch(kagzi.asynchronous)

    with kagzi:
        in_threads(32, lambda number: [kagzi.start_workflow("greet", "a") for _ in range(10)])

        assert len(kagzi.find_runs(limit=1000)) == 320
    assert store.trips["start"] < 160


def test_the_end_of_one_threads_block_does_not_disconnect_another(kagzi: blocking.Kagzi) -> None:
    def block(number: int) -> None:
        with kagzi:
            for _ in range(5):
                kagzi.start_workflow("greet", "a")

    in_threads(8, block)

    with pytest.raises(ConfigError, match=r"kagzi\.open"):
        kagzi.find_runs()
    with kagzi:
        assert len(kagzi.find_runs(limit=1000)) == 40


# -- where it may not be used ------------------------------------------------------------------------------------

USES: dict[str, Callable[[blocking.Kagzi, blocking.WorkflowHandle[str]], object]] = {
    "start": lambda kagzi, _: kagzi.start_workflow("greet", "b"),
    "find": lambda kagzi, _: kagzi.find_runs(),
    "handle": lambda kagzi, _: kagzi.handle("x"),
    "result": lambda _, handle: handle.result(),
    "status": lambda _, handle: handle.status(),
    "open": lambda kagzi, _: kagzi.open(),
    "with": lambda kagzi, _: kagzi.__enter__(),
    "close": lambda kagzi, _: kagzi.close(),
    "worker": lambda kagzi, _: kagzi.create_worker(),
}


@pytest.mark.parametrize("use", USES)
def test_on_an_event_loop_the_async_twin_is_named(kagzi: blocking.Kagzi, use: str) -> None:
    handle = kagzi.start_workflow("greet", "a")

    async def call() -> None:
        USES[use](kagzi, handle)

    with pytest.raises(ConfigError, match=r"await kagzi\.\w+\.\w+\(\)|`async with` of kagzi\.Kagzi"):
        asyncio.run(call())

    assert len(kagzi.find_runs()) == 1


@pytest.mark.parametrize("use", USES)
def test_in_a_workflows_body_a_step_is_named(kagzi: blocking.Kagzi, use: str) -> None:
    async def reach_out(ctx: WorkflowContext) -> None:
        USES[use](kagzi, handle)

    handle = kagzi.start_workflow("greet", "a")
    reaching_out = kagzi.register_workflow("reach-out", reach_out)

    with kagzi.create_worker(), pytest.raises(WorkflowFailed, match="in a step") as told:
        reaching_out.start().result(timeout=PATIENCE_S)

    assert told.value.error.type == "WorkflowIOError"


def test_in_the_body_of_a_plain_function_a_step_is_named_too(kagzi: blocking.Kagzi) -> None:
    @kagzi.workflow("reach-out")
    def reach_out(ctx: SyncWorkflowContext) -> None:
        kagzi.start_workflow("greet", "b")

    with kagzi.create_worker(), pytest.raises(WorkflowFailed, match="in a step"):
        reach_out.start().result(timeout=PATIENCE_S)

    assert kagzi.find_runs(workflow="greet") == []


def test_plain_functions_are_workflows_here_too(kagzi: blocking.Kagzi) -> None:
    @kagzi.workflow
    def plain(ctx: SyncWorkflowContext, name: str) -> str:
        ctx.sleep("nap", 0.01)
        return ctx.step("compose", compose, name)

    with kagzi.create_worker():
        assert plain.start("Ada").result(timeout=PATIENCE_S) == "Hello, Ada!"


def test_in_a_steps_thread_it_can_be_used(kagzi: blocking.Kagzi) -> None:
    def start_another(name: str) -> str:
        handle = kagzi.options(id=f"for-{name}").start_workflow("greet", name)
        return str(handle.result(timeout=PATIENCE_S))

    async def delegate(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("another", start_another, name)

    delegating = kagzi.register_workflow("delegate", delegate)

    with kagzi.create_worker():
        assert delegating.start("Eve").result(timeout=PATIENCE_S) == "Hello, Eve!"
