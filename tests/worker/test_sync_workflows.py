"""`def` workflows on real workers and stores: they hold no thread, park, move between workers, and are named."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from kagzi import ConfigError, Kagzi, RunStatus, SyncWorkflowContext, WorkflowContext, WorkflowFailed, step
from kagzi.testing import Environment
from tests.app.applications import an_application, until, within
from tests.worker.gates import Gates


async def test_a_def_workflow_is_started_executed_and_typed_like_any_other(kagzi: Kagzi) -> None:
    @step
    def total(*, price: float, pieces: int) -> float:
        return price * pieces

    @kagzi.workflow("order", version=3)
    def order(ctx: SyncWorkflowContext, price: float, pieces: int = 2) -> list[str]:
        """Order something."""
        beside = [ctx.submit("shout", str.upper, word) for word in ("a", "b")]
        return [str(total(price=price, pieces=pieces)), *ctx.gather(*beside), str(ctx.version)]

    async with kagzi, kagzi.create_worker():
        first = await within((await order.start(1.5)).result())
        second = await within((await kagzi.start_workflow("order", 1.5, pieces=3)).result())

    assert first == ["3.0", "A", "B", "3"]
    assert second == ["4.5", "A", "B", "3"]
    assert (order.name, order.__doc__) == ("order", "Order something.")


async def test_a_def_workflow_that_another_worker_takes_over_executes_no_finished_step_again(
    kagzi: Kagzi, gates: Gates
) -> None:
    """P10: what is stored is handed to the new body instead."""
    calls: list[str] = []

    @kagzi.workflow
    def work(ctx: SyncWorkflowContext) -> list[str]:
        ctx.step("first", calls.append, "first")
        entered = ctx.step("gate", gates.enter, "gate")
        return [entered, ctx.step("last", str.upper, "last")]

    async with kagzi:
        async with kagzi.create_worker(graceful_shutdown_timeout=0):
            handle = await work.start()
            await gates.reached("gate")
        gates.open_all()
        async with kagzi.create_worker():
            result = await within(handle.result())

    assert result == ["gate", "LAST"]
    assert calls == ["first"]


async def test_a_thousand_waiting_def_workflows_hold_no_thread(any_database_url: str) -> None:
    kagzi = an_application(any_database_url, park_after=timedelta(0))
    gates = Gates()

    @kagzi.workflow
    def nap(ctx: SyncWorkflowContext, awake: bool) -> None:
        if awake:
            ctx.step("gate", gates.enter, "gate")
        else:
            ctx.sleep("long", 3600)

    async with kagzi, kagzi.create_worker(max_concurrent_workflows=1_000) as worker:
        before = threading.active_count()
        await kagzi.start_many(nap, [True] * 500)
        await kagzi.start_many(nap, [False] * 500)
        await gates.full(500)

        async def all_asleep() -> bool:
            return len(await kagzi.find_runs(status=RunStatus.SLEEPING, limit=1_000)) == 500

        await until(all_asleep)
        threads = threading.active_count()
        gates.open_all()
        await until(lambda: worker.run_count == 0)

    assert threads == before


async def test_a_def_workflow_that_blocks_is_named(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    kagzi = an_application(sqlite_url, loop_lag_warning=timedelta(seconds=0.1))

    def part(ctx: SyncWorkflowContext) -> None:
        time.sleep(0.5)

    @kagzi.workflow
    def brooding(ctx: SyncWorkflowContext) -> None:
        ctx.spawn(part, ctx).result()

    async with kagzi, kagzi.create_worker():
        handle = await brooding.start()
        await within(handle.result())
        (blocked,) = [text for text in map(str, caplog.messages) if "event loop is blocked" in text]

    assert "the body of workflow 'brooding'" in blocked
    assert handle.run_id in blocked


async def test_a_def_workflow_survives_a_crash_at_every_moment_in_virtual_time() -> None:
    kagzi = Kagzi("sqlite://")

    def part(ctx: SyncWorkflowContext, word: str) -> str:
        ctx.sleep("rest", timedelta(days=1))
        return ctx.step("shout", str.upper, word)

    @kagzi.workflow
    def work(ctx: SyncWorkflowContext, words: list[str]) -> list[str]:
        ctx.sleep("wait", timedelta(days=30))
        return [*ctx.gather(*(ctx.spawn(part, ctx, word) for word in words)), ctx.step("shout", str.upper, "end")]

    async with Environment(kagzi) as env:
        report = await env.crash_everywhere(work, ["a", "b"])
        handle = await work.start(["c"])
        await env.advance(timedelta(days=31))
        result = await handle.result()

    assert len(report.writes) > 5
    assert result == ["C", "END"]


async def test_an_argument_that_no_longer_fits_fails_the_run_at_its_start(kagzi: Kagzi) -> None:
    def before(ctx: SyncWorkflowContext, number: int) -> int:
        return number

    def after(ctx: SyncWorkflowContext, number: int, other: int) -> int:
        return number + other

    workflow = kagzi.register_workflow("work", before)
    async with kagzi:
        handle = await workflow.start(1)
        other = an_application(kagzi.settings.database_url)
        other.register_workflow("work", after)
        async with other, other.create_worker():
            with pytest.raises(WorkflowFailed, match="no argument for 'other'"):
                await within(handle.result())


def test_a_plain_function_is_a_workflow_only_where_its_first_parameter_says_so(kagzi: Kagzi) -> None:
    def unannotated(ctx) -> None: ...  # type: ignore[no-untyped-def] # the fault

    def wrongly(ctx: WorkflowContext) -> None: ...

    async def both(ctx: SyncWorkflowContext) -> None: ...

    def generator(ctx: SyncWorkflowContext) -> Any:
        yield 1

    def without() -> None: ...

    refusals = [
        (unannotated, r"def unannotated\(ctx: SyncWorkflowContext"),
        (wrongly, r"def wrongly\(ctx: SyncWorkflowContext"),
        (both, "write `def`"),
        (generator, "must be a function"),
        (without, "takes no context"),
    ]
    for function, message in refusals:
        register: Any = kagzi.register_workflow
        with pytest.raises(ConfigError, match=message):
            register("x", function)


def test_a_def_workflow_is_registered_twice_only_with_the_same_source(kagzi: Kagzi) -> None:
    def first(ctx: SyncWorkflowContext) -> None: ...

    def second(ctx: SyncWorkflowContext) -> None: ...

    kagzi.register_workflow("x", first)
    kagzi.register_workflow("x", first)

    with pytest.raises(ConfigError, match="second"):
        kagzi.register_workflow("x", second)


async def test_workflows_of_both_kinds_go_on_beside_each_other(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    def plain(ctx: SyncWorkflowContext) -> str:
        return ctx.step("gate", gates.enter, "plain")

    @kagzi.workflow
    async def awaiting(ctx: WorkflowContext) -> str:
        return await ctx.step("gate", gates.enter, "awaiting")

    async with kagzi, kagzi.create_worker():
        handles = [await workflow.start() for _ in range(10) for workflow in (plain, awaiting)]
        await gates.full(20)
        gates.open("awaiting")
        gates.open("plain")
        results = await within(asyncio.gather(*(handle.result() for handle in handles)))

    assert sorted(results) == ["awaiting"] * 10 + ["plain"] * 10
