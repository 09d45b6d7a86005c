"""What `kagzi` offers: exactly these names, with these parameters, typed as people rely on."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

import kagzi
import kagzi.testing
from kagzi import (
    ChildHandle,
    DatabaseHealth,
    Err,
    ErrorKind,
    HealthCheckConfig,
    HealthChecker,
    HealthReport,
    HealthStatus,
    Kagzi,
    Ok,
    ParallelErrorStrategy,
    ParallelExecutor,
    Pending,
    QueueHealth,
    RegisteredWorker,
    Run,
    RunStatus,
    Step,
    StepBuilder,
    StepError,
    StepInfo,
    SyncParallelExecutor,
    SyncWorkflowContext,
    UpdateRequest,
    Worker,
    WorkerHealth,
    WorkerState,
    WorkflowContext,
    WorkflowHandle,
)
from kagzi.client.options import OptionView
from kagzi.client.workflow import BoundWorkflow, Workflow
from kagzi.worker.builder import WorkerBuilder

ERRORS = {
    "ChildFailed",
    "ConfigError",
    "ConflictError",
    "DivergenceError",
    "KagziError",
    "MigrationError",
    "NonRetryable",
    "OutcomeUnknown",
    "Parked",
    "PayloadError",
    "PayloadTooLarge",
    "RetryAfter",
    "RunClosed",
    "RunNotFound",
    "StepFailed",
    "StepInterrupted",
    "StoreUnavailable",
    "VersionDeprecated",
    "VersionNotFound",
    "WorkerNotFound",
    "WorkflowCancelled",
    "WorkflowFailed",
    "WorkflowIOError",
    "WorkflowNotRegistered",
}
MESSAGES = {"Event", "Signal", "Update", "UpdateRequest"}
VERBS = {"Kagzi", "Worker", "Workflow", "WorkflowContext", "WorkflowHandle", "step", "step_info"}
SYNC = {"Pending", "SyncChildHandle", "SyncParallelExecutor", "SyncUpdateRequest", "SyncWorkflowContext"}
CHILDREN = {"ChildHandle", "ParentClose"}
RETRIES = {"NOT_EXECUTED", "Attempt", "RetryPolicy", "RetryPredicate"}
GROUPS = {"Err", "Ok", "ParallelErrorStrategy", "ParallelExecutor", "StepBuilder"}
HEALTH = {
    "DatabaseHealth",
    "HealthCheckConfig",
    "HealthChecker",
    "HealthReport",
    "HealthStatus",
    "QueueHealth",
    "WorkerHealth",
}
NOUNS = {
    "BulkOutcome",
    "ErrorKind",
    "MessageKind",
    "RegisteredWorker",
    "Run",
    "RunStatus",
    "Step",
    "StepCall",
    "StepError",
    "StepInfo",
    "StepKind",
    "StepStatus",
    "Undelivered",
    "WorkerState",
    "WorkflowVersion",
}
SEAMS = {"PayloadCodec", "Settings"}


def test_exactly_what_is_promised_is_exported() -> None:
    messages_and_children = MESSAGES | CHILDREN
    assert set(kagzi.__all__) == (
        ERRORS | VERBS | SYNC | messages_and_children | GROUPS | RETRIES | HEALTH | NOUNS | SEAMS | {"__version__"}
    )
    assert len(kagzi.__all__) == len(set(kagzi.__all__))


def test_everything_exported_is_there_and_nothing_else_is_public() -> None:
    modules = {name for name, value in vars(kagzi).items() if inspect.ismodule(value)}
    found = {name for name in vars(kagzi) if not name.startswith("_")} - modules - {"annotations"}

    assert found | {"__version__"} == set(kagzi.__all__)


def test_the_environment_for_tests_is_offered_apart() -> None:
    assert "Environment" in kagzi.testing.__all__


def test_the_types_are_shipped() -> None:
    assert (Path(inspect.getfile(kagzi)).parent / "py.typed").exists()


PARAMETERS: dict[Callable[..., Any], str] = {
    Kagzi.__init__: "self, url, *, settings, codec",
    Kagzi.connect: "url, *, settings, codec",
    Kagzi.close: "self",
    Kagzi.workflow: "self, function, /, *, version, **options",
    Kagzi.register_workflow: "self, name, fn, **options",
    Kagzi.register_workflow_version: "self, name, version, fn, **options",
    Kagzi.classify_errors: "self, fn",
    Kagzi.set_default_workflow_version: "self, name, version",
    Kagzi.get_default_workflow_version: "self, name",
    Kagzi.deprecate_workflow_version: "self, name, version",
    Kagzi.undeprecate_workflow_version: "self, name, version",
    Kagzi.find_workflow_versions: "self",
    Kagzi.count_open_runs: "self",
    Kagzi.start_workflow: "self, workflow, /, *args, **kwargs",
    Kagzi.start_workflow_version: "self, name, version, /, *args, **kwargs",
    Kagzi.start_many: "self, workflow, inputs, **options",
    Kagzi.options: "self, **options",
    Kagzi.signal: "self, id, signal, value, *, dedup_key, connection",
    Kagzi.emit: "self, event, value, *, key, dedup_key, connection",
    Kagzi.on_event: "self, event, /, *, queue",
    Kagzi.handle: "self, run_id",
    Kagzi.find_runs: "self, *, status, workflow, queue, tags, id, parent, created_after, paused, cursor, limit",
    Kagzi.cancel_runs: "self, *, reason, all, dry_run, **which",
    Kagzi.terminate_runs: "self, *, reason, all, dry_run, **which",
    Kagzi.pause_runs: "self, *, reason, all, dry_run, **which",
    Kagzi.resume_runs: "self, *, all, dry_run, **which",
    Kagzi.retry_runs: "self, *, all, dry_run, **which",
    Kagzi.create_worker: (
        "self, *, worker_id, queues, max_concurrent_workflows, max_concurrent_steps, heartbeat_interval, lease, "
        "poll_interval, graceful_shutdown_timeout"
    ),
    Kagzi.create_worker_builder: "self",
    Kagzi.drain_worker: "self, worker_id",
    Kagzi.find_workers: "self, *, ended",
    OptionView.options: "self, **options",
    OptionView.start_workflow: "self, workflow, /, *args, **kwargs",
    OptionView.start_workflow_version: "self, name, version, /, *args, **kwargs",
    OptionView.signal_with_start: "self, workflow, signal, value, /, *args, **kwargs",
    Workflow.start: "self, *args, **kwargs",
    Workflow.options: "self, **options",
    BoundWorkflow.start: "self, *args, **kwargs",
    BoundWorkflow.signal_with_start: "self, signal, value, /, *args, **kwargs",
    BoundWorkflow.options: "self, **options",
    WorkflowHandle.result: "self, timeout",
    WorkflowHandle.status: "self",
    WorkflowHandle.signal: "self, signal, value, *, dedup_key, connection",
    WorkflowHandle.cancel: "self, reason, *, connection",
    WorkflowHandle.terminate: "self, reason, *, connection",
    WorkflowHandle.retry: "self",
    WorkflowHandle.pause: "self, reason",
    WorkflowHandle.resume: "self",
    WorkflowHandle.fork: "self, *, at_step, input, set, id, version",
    WorkflowHandle.update: "self, update, value, *, timeout, dedup_key",
    WorkflowHandle.value: "self, key, *, type",
    WorkflowHandle.describe: "self",
    WorkflowHandle.history: "self",
    Worker.start: "self",
    Worker.stop: "self",
    WorkerBuilder.worker_id: "self, worker_id",
    WorkerBuilder.queues: "self, queues",
    WorkerBuilder.max_concurrent_workflows: "self, count",
    WorkerBuilder.max_concurrent_steps: "self, count",
    WorkerBuilder.heartbeat_interval_secs: "self, seconds",
    WorkerBuilder.lease_secs: "self, seconds",
    WorkerBuilder.poll_interval_ms: "self, milliseconds",
    WorkerBuilder.graceful_shutdown_timeout_secs: "self, seconds",
    WorkerBuilder.build: "self",
    WorkflowContext.step: "self, name, fn, /, *args, **kwargs",
    WorkflowContext.transaction: "self, name, fn, /, *args, **kwargs",
    WorkflowContext.sleep: "self, name, duration",
    WorkflowContext.sleep_until: "self, name, when",
    WorkflowContext.wait_for: "self, signal, timeout",
    WorkflowContext.wait_for_event: "self, event, *, key, timeout, lookback",
    WorkflowContext.options: (
        "self, *, retry, retry_if, timeout, total_timeout, key, undo, heartbeat_timeout, semantics, reconcile, id, "
        "queue, version, parent_close"
    ),
    WorkflowContext.continue_as_new: "self, *args, **kwargs",
    WorkflowContext.child: "self, name, workflow, /, *args, **kwargs",
    WorkflowContext.start_child: "self, name, workflow, /, *args, **kwargs",
    ChildHandle.result: "self",
    ChildHandle.signal: "self, signal, value",
    WorkflowContext.publish: "self, key, value, *, type",
    UpdateRequest.reply: "self, value",
    WorkflowContext.gather: "self, *calls",
    WorkflowContext.race: "self, *calls",
    WorkflowContext.as_completed: "self, *calls",
    WorkflowContext.patched: "self, change_id",
    WorkflowContext.deprecate_patch: "self, change_id",
    WorkflowContext.map: "self, name, fn, items, *, max_concurrency, on_error",
    WorkflowContext.parallel: "self, group, on_error, max_concurrency",
    ParallelExecutor.__init__: "self, ctx, group, on_error, max_concurrency",
    ParallelExecutor.step: "self, name, fn, /, *args, **kwargs",
    ParallelExecutor.execute_step: "self, name, fn, /, *args, **kwargs",
    ParallelExecutor.options: (
        "self, *, retry, retry_if, timeout, total_timeout, key, undo, heartbeat_timeout, semantics, reconcile"
    ),
    ParallelExecutor.sleep: "self, name, duration",
    ParallelExecutor.start: "self, work",
    ParallelExecutor.parallel: "self, group, on_error, max_concurrency",
    ParallelExecutor.join: "self",
    SyncParallelExecutor.submit: "self, name, fn, /, *args, **kwargs",
    SyncParallelExecutor.options: (
        "self, *, retry, retry_if, timeout, total_timeout, key, undo, heartbeat_timeout, semantics, reconcile"
    ),
    SyncParallelExecutor.spawn: "self, fn, /, *args, **kwargs",
    SyncParallelExecutor.sleep: "self, name, duration",
    SyncParallelExecutor.parallel: "self, group, on_error, max_concurrency",
    SyncParallelExecutor.join: "self",
    StepBuilder.__init__: "self, name",
    StepBuilder.retry_policy: "self, policy",
    StepBuilder.retry_predicate: "self, predicate",
    StepBuilder.timeout: "self, timeout",
    StepBuilder.total_timeout: "self, total_timeout",
    StepBuilder.heartbeat_timeout: "self, heartbeat_timeout",
    StepBuilder.semantics: "self, semantics, reconcile",
    StepBuilder.key: "self, key",
    StepBuilder.undo: "self, undo",
    StepBuilder.execute: "self, ctx, fn, /, *args, **kwargs",
    Ok.unwrap: "self",
    Err.unwrap: "self",
    WorkflowContext.now: "self",
    WorkflowContext.random: "self",
    WorkflowContext.uuid4: "self",
    SyncWorkflowContext.submit: "self, name, fn, /, *args, **kwargs",
    SyncWorkflowContext.spawn: "self, fn, /, *args, **kwargs",
    SyncWorkflowContext.gather: "self, *pending",
    SyncWorkflowContext.as_completed: "self, *pending",
    Pending.result: "self, timeout",
    Pending.done: "self",
    Pending.cancel: "self",
    kagzi.NonRetryable.__init__: "self, message, *, kind, context",
    kagzi.RetryAfter.__init__: "self, delay, message, *, kind, context",
    kagzi.step: (
        "function, /, *, retry, retry_if, timeout, total_timeout, executor, undo, heartbeat_timeout, semantics, "
        "reconcile"
    ),
    StepInfo.heartbeat: "self, details",
    kagzi.step_info: "",
    HealthChecker.__init__: "self, kagzi, config",
    HealthChecker.check_database_health: "self",
    HealthChecker.check_worker_health: "self, worker",
    HealthChecker.check_workers: "self",
    HealthChecker.check_queue_health: "self, queue",
    HealthChecker.check_queues: "self",
    HealthChecker.comprehensive_check: "self",
    HealthCheckConfig.__init__: (
        "self, *, heartbeat_timeout, heartbeat_warning, loop_lag_warning, memory_warning_mib, waiting_timeout, "
        "waiting_warning, min_workers, latency_warning, clock_offset_warning, replication_lag_warning, timeout"
    ),
    HealthReport.to_dict: "self",
    kagzi.RetryPolicy.exponential: "initial, maximum, multiplier, max_attempts, jitter",
    kagzi.RetryPolicy.fixed: "delay, max_attempts, jitter",
    kagzi.RetryPolicy.none: "",
    kagzi.RetryPredicate.on_error_kind: "*kinds",
    kagzi.RetryPredicate.on_types: "*types",
}


@pytest.mark.parametrize(
    ("function", "expected"), PARAMETERS.items(), ids=lambda given: getattr(given, "__qualname__", "")
)
def test_a_public_function_takes_these_parameters(function: Callable[..., Any], expected: str) -> None:
    text = re.sub(r"(: [^,()]*|=[^,()]*)", "", str(bare(inspect.signature(function))))

    assert text == f"({expected})"


def bare(signature: inspect.Signature) -> inspect.Signature:
    """The parameters' names and kinds alone."""
    empty = inspect.Parameter.empty
    parameters = [each.replace(annotation=empty, default=empty) for each in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


def test_defaults_are_those_that_are_promised() -> None:
    settings = kagzi.Settings()

    assert inspect.signature(Kagzi.find_runs).parameters["limit"].default == 100
    assert inspect.signature(WorkflowHandle.result).parameters["timeout"].default is None
    assert (settings.max_concurrent_workflows, settings.max_concurrent_steps) == (100, 1000)
    assert [
        span.total_seconds()
        for span in (
            settings.heartbeat_interval,
            settings.lease,
            settings.poll_interval,
            settings.graceful_shutdown_timeout,
        )
    ] == [10, 60, 0.5, 300]
    assert settings.payload_limit == 4 * 1024 * 1024
    assert Kagzi("sqlite://").create_worker().config.queues == ("default",)


@pytest.mark.parametrize(
    ("noun", "promised"),
    [
        (
            Run,
            "run_id id namespace workflow version queue priority status input output error attempts created_at "
            "started_at finished_at wake_at waiting_for parent_run_id tags attributes",
        ),
        (Step, "step_id name kind status output error attempts started_at finished_at wake_at child_run_id"),
        (
            RegisteredWorker,
            "worker_id key host pid queues workflows slots state drain_asked build_id load registered_at beat_at "
            "lease_until seen_at",
        ),
        (StepError, "kind message type context retryable traceback occurred_at"),
        (HealthReport, "status reasons checked_at database workers queues complete"),
        (
            DatabaseHealth,
            "status reasons latency writable schema_current schema_latest clock_offset replication_lag",
        ),
        (WorkerHealth, "status reasons worker_id key state is_gone silent_for load"),
        (QueueHealth, "status reasons queue due more oldest_waiting unserved"),
    ],
)
def test_a_noun_has_every_field_that_is_promised(noun: Any, promised: str) -> None:
    assert set(promised.split()) <= {field.name for field in fields(noun)}


def test_step_info_tells_what_is_promised() -> None:
    assert {"run_id", "name", "attempt", "idempotency_key", "cancelled", "heartbeat", "heartbeat_details"} <= set(
        dir(StepInfo)
    )


def test_facts_of_a_context_are_properties() -> None:
    for fact in ("run_id", "id", "workflow", "version", "attempt", "logger"):
        for context in (WorkflowContext, SyncWorkflowContext):
            assert isinstance(inspect.getattr_static(context, fact), property)
    for handle_fact in ("run_id",):
        assert isinstance(inspect.getattr_static(WorkflowHandle, handle_fact), property)


def test_a_def_workflow_has_every_verb_of_an_async_one_with_the_same_parameters() -> None:
    """Those that take awaitables take what `submit` and `spawn` give instead."""
    verbs = [name for name in vars(WorkflowContext) if not name.startswith("_")]

    assert [name for name in verbs if not hasattr(SyncWorkflowContext, name)] == []
    for name in set(verbs) - {"gather", "race", "as_completed"}:
        verb = getattr(WorkflowContext, name)
        if inspect.isfunction(verb):
            assert bare(inspect.signature(getattr(SyncWorkflowContext, name))) == bare(inspect.signature(verb)), name


@pytest.mark.parametrize(
    ("enum", "members"),
    [
        (RunStatus, "PENDING RUNNING SLEEPING COMPLETED FAILED CANCELLED"),
        (WorkerState, "STARTING RUNNING DRAINING STOPPED DEAD"),
        (
            ErrorKind,
            "NETWORK_ERROR SERVICE_UNAVAILABLE RATE_LIMITED TIMEOUT DATABASE_CONNECTION_FAILED UNKNOWN "
            "VALIDATION_FAILED NOT_FOUND PERMISSION_DENIED INVALID_INPUT BUSINESS_LOGIC_ERROR CANCELLED INTERRUPTED "
            "POISON_RUN",
        ),
        (ParallelErrorStrategy, "FAIL_FAST COLLECT_ALL"),
        (HealthStatus, "HEALTHY DEGRADED UNHEALTHY"),
    ],
)
def test_an_enum_has_exactly_these_members(enum: type[StrEnum], members: str) -> None:
    assert [member.name for member in enum] == members.split()


def test_the_first_six_kinds_can_be_tried_again_and_the_others_not() -> None:
    assert [kind.retryable for kind in ErrorKind] == [True] * 6 + [False] * 8


# -- as a type checker sees it -----------------------------------------------------------------------------------

PROGRAM = """
from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

from kagzi import Kagzi, Pending, StepCall, SyncWorkflowContext, WorkflowContext, WorkflowHandle, step
from kagzi import Err, Ok, ParallelErrorStrategy, ParallelExecutor, StepBuilder
from kagzi.client.workflow import Workflow

kagzi = Kagzi("sqlite://")


@dataclass
class User:
    id: str


async def fetch(user_id: str, *, fresh: bool = False) -> User:
    return User(user_id)


def count(text: str) -> int:
    return len(text)


@step
async def charge(amount: float) -> str:
    return str(amount)


@step("mail", timeout=timedelta(seconds=30))
async def mail(to: str) -> bool:
    return bool(to)


@kagzi.workflow
async def plain(ctx: WorkflowContext, number: int, *, note: str = "") -> list[str]:
    assert_type(ctx.step("fetch", fetch, "42"), StepCall[User])
    assert_type(await ctx.step("fetch", fetch, "42", fresh=True), User)
    assert_type(ctx.step("count", count, "text"), StepCall[int])
    assert_type(await ctx.options(timeout=5).step("count", count, "text"), int)
    assert_type(await charge(1.5), str)
    assert_type(await mail("a"), bool)
    async with asyncio.TaskGroup() as group:
        fetched = group.create_task(ctx.step("fetch", fetch, "42"))
        counted = group.create_task(ctx.step("count", count, "42"))
    assert_type(fetched.result(), User)
    assert_type(counted.result(), int)
    user, total = await asyncio.gather(ctx.step("fetch", fetch, "1"), ctx.step("count", count, "2"))
    assert_type(user, User)
    assert_type(total, int)
    async for each in ctx.as_completed(ctx.step("count", count, "a"), ctx.step("count", count, "b")):
        assert_type(each, int)
    done, _ = await asyncio.wait([ctx.step("count", count, "a")], timeout=3)
    await asyncio.wait_for(ctx.step("count", count, "a"), 5)
    return [user.id]


@kagzi.workflow
async def parallel(ctx: WorkflowContext, strategy: ParallelErrorStrategy) -> int:
    user, total = await ctx.gather(ctx.step("fetch", fetch, "1"), ctx.step("count", count, "2"))
    assert_type(user, User)
    assert_type(total, int)
    assert_type(await ctx.gather(charge(1), charge(2), mail("a"), ctx.sleep("nap", 1)), tuple[str, str, bool, None])
    assert_type(await ctx.gather(*[charge(amount) for amount in range(9)]), list[str])
    place, winner = await ctx.race(charge(1), ctx.step("count", count, "2"))
    assert_type(place, int)
    assert_type(winner, str | int)
    assert_type(await ctx.race(*[charge(amount) for amount in range(9)]), tuple[int, str])
    assert_type(await ctx.map("fetch", fetch_one, ["1", "2"], max_concurrency=5), list[User])
    assert_type(await ctx.map("count", count, ["1", "2"]), list[int])
    collected = await ctx.map("count", count, ["1"], on_error=ParallelErrorStrategy.COLLECT_ALL)
    assert_type(collected, list[Ok[int] | Err])
    for result in collected:
        match result:
            case Ok(value):
                assert_type(value, int)
            case Err(error):
                assert_type(error.message, str)
        assert_type(result.unwrap(), int)
    await ctx.map("count", count, ["1"], on_error=strategy)
    async with ctx.parallel("group", on_error=strategy, max_concurrency=3) as group:
        assert_type(group.step("fetch", fetch, "42", fresh=True), StepCall[User])
        assert_type(await group.options(timeout=5).step("count", count, "text"), int)
        assert_type(await group.start(charge(1)), str)
        async with group.parallel("inner") as inner:
            inner.sleep("nap", 1)
    assert_type(group.results, list[Ok[Any] | Err])
    executor = ParallelExecutor(ctx, "group", ParallelErrorStrategy.COLLECT_ALL)
    assert_type(executor.execute_step("count", count, "text"), StepCall[int])
    assert_type(await executor.join(), list[Ok[Any] | Err])
    assert_type(await StepBuilder("fetch").timeout(5).execute(ctx, fetch, "42", fresh=True), User)
    async with ctx.parallel() as last:
        return await StepBuilder("count").execute(last, count, "42")


async def fetch_one(user_id: str) -> User:
    return User(user_id)


@kagzi.workflow("named", version=2)
async def named(ctx: WorkflowContext, user: User) -> User:
    return user


@kagzi.workflow
def blocking(ctx: SyncWorkflowContext, number: int, *, note: str = "") -> list[str]:
    assert_type(ctx.step("fetch", fetch, "42"), User)
    assert_type(ctx.step("count", count, "42"), int)
    assert_type(ctx.options(timeout=5).submit("fetch", fetch, "42", fresh=True), Pending[User])
    assert_type(ctx.spawn(count, "a").result(timeout=5), int)
    assert_type(ctx.gather(ctx.submit("count", count, "a"), ctx.spawn(count, "b")), list[int])
    for each in ctx.as_completed(ctx.submit("count", count, "a")):
        assert_type(each, int)
    ctx.sleep("nap", 5)
    return [note]


@kagzi.workflow("blocking", version=2)
def blocking_again(ctx: SyncWorkflowContext, user: User) -> User:
    return user


async def main() -> None:
    handle = await plain.start(5, note="a")
    assert_type(handle, WorkflowHandle[list[str]])
    assert_type(await handle.result(timeout=timedelta(seconds=5)), list[str])
    assert_type(await (await plain.options(id="a", delay=5).start(5)).result(), list[str])
    assert_type(await (await kagzi.start_workflow(named, User("a"))).result(), User)
    assert_type(await (await kagzi.options(priority=1).start_workflow(named, User("a"))).result(), User)
    assert_type(await kagzi.start_many(named, [User("a")]), list[WorkflowHandle[User]])
    assert_type(await (await blocking.start(5, note="a")).result(), list[str])
    assert_type(await (await blocking_again.options(id="b").start(User("a"))).result(), User)
    other = kagzi.register_workflow("other", plain_function)
    assert_type(await (await other.start("a")).result(), int)


async def plain_function(ctx: WorkflowContext, text: str) -> int:
    return await ctx.step("count", count, text)
"""

WRONG = {
    "a step's argument": 'await ctx.step("count", count, 5)',
    "a step's missing argument": 'await ctx.step("count", count)',
    "a step's unknown argument": 'await ctx.step("fetch", fetch, "1", stale=True)',
    "a step's result": 'number: str = await ctx.step("count", count, "a")',
    "a step's name": 'await ctx.step(count, "a")',
    "a branch's argument": 'ctx.parallel().step("count", count, 5)',
    "a branch's result": 'number: str = await ctx.parallel().execute_step("count", count, "a")',
    "a built step's argument": 'await StepBuilder("count").execute(ctx, count, 5)',
    "what is gathered": "await ctx.gather(charge(1), 5)",
    "what is gathered as its result": "numbers: tuple[int, int] = await ctx.gather(charge(1), charge(2))",
    "a race's result": "number: tuple[int, int] = await ctx.race(charge(1), charge(2))",
    "an item": 'await ctx.map("count", count, [5])',
    "a map's results": 'texts: list[str] = await ctx.map("count", count, ["5"])',
    "a step function's argument": 'await charge("much")',
    "a sleep's duration": 'await ctx.sleep("nap", "1h")',
    "a workflow's argument": 'await plain.start("five")',
    "a workflow's missing argument": "await plain.start()",
    "a bound workflow's argument": 'await plain.options(id="a").start("five")',
    "a started workflow's argument": "await kagzi.start_workflow(named, 5)",
    "a handle's result": "text: str = await (await plain.start(5)).result()",
    "a function that takes no context": 'kagzi.register_workflow("x", count)',
    "a def workflow's argument": 'await blocking.start("five")',
    "a submitted step's argument": "SyncWorkflowContext.submit(SyncWorkflowContext(ctx), 'count', count, 5)",
    "a spawned function's argument": "SyncWorkflowContext(ctx).spawn(count, 5)",
}


def check(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run mypy --strict over a program of a user's."""
    file = folder / "program.py"
    file.write_text(program)
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(folder / "cache"), str(file)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=110,
    )


@pytest.mark.slow
def test_a_users_program_is_typed_to_the_last_parameter_and_what_is_wrong_is_found(tmp_path: Path) -> None:
    mistakes = "\n".join(
        f"async def mistake_{number}(ctx: WorkflowContext) -> None:\n    {line}\n"
        for number, line in enumerate(WRONG.values())
    )
    first_mistake = PROGRAM.count("\n") + 1

    answer = check(tmp_path, PROGRAM + mistakes)

    found = {int(line) for line in re.findall(r"program\.py:(\d+): error", answer.stdout)}
    expected = {first_mistake + 3 * number + 1: name for number, name in enumerate(WRONG)}
    assert sorted(line for line in found if line < first_mistake) == [], answer.stdout
    assert [name for line, name in expected.items() if line not in found] == [], answer.stdout
    assert not answer.stderr
