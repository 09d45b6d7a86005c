"""What a workflow body can rely on: identities, facts that replays repeat, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from kagzi import WorkflowContext, step
from kagzi.engine import loop as loop_module
from kagzi.errors import Parked
from kagzi.model.run import RunStatus
from tests.engine.host import BEGINNING, COLD, World, survive


def double(number: int) -> int:
    return 2 * number


def fail() -> int:
    raise ValueError("no")


@pytest.fixture
def complaints(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What is logged, and what the garbage collector has to say, once the test is over; pytest fails on the latter."""
    messages: list[str] = []
    with caplog.at_level(logging.DEBUG):
        yield messages
        gc.collect()
    messages.extend(record.getMessage() for record in caplog.records)


# -- identity ----------------------------------------------------------------------------------------------------


def test_a_step_is_named_by_its_task_its_name_and_its_occurrence() -> None:
    async def inner(ctx: WorkflowContext) -> None:
        await ctx.step("b", double, 1)
        await asyncio.gather(ctx.sleep("rest", 1), ctx.step("b", double, 1))

    async def body(ctx: WorkflowContext) -> None:
        await ctx.step("a", double, 1)
        await ctx.step("a", double, 1)
        await asyncio.gather(inner(ctx), inner(ctx))
        await asyncio.sleep(1)
        await ctx.step("a/b#7", double, 1)

    world = World(body)
    world.finish()

    assert sorted(world.memory.finished) == [
        "0.1.1/rest#1", "0.1/b#1", "0.1/b#2", "0.2.1/rest#1", "0.2/b#1", "0.2/b#2",
        "0/a#1", "0/a#2", "0/a/b#7#1", "0/timer#1",
    ]  # fmt: skip


def test_identities_follow_the_calls_not_the_awaits_nor_the_finishing_order() -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        first, second = ctx.step("s", double, 1), ctx.step("s", double, 2)
        return [await second, await first]

    world = World(body)
    world.claim()
    (running,) = world.steps.running

    assert running.call.step_id == "0/s#2"


def test_a_decorated_step_is_named_like_its_function() -> None:
    @step
    def triple(number: int) -> int:
        return 3 * number

    async def body(ctx: WorkflowContext) -> int:
        one: Any = triple(1)  # in a body the call of a plain function is awaited, too
        two: Any = triple(2)
        return int(await one + await two)

    world = World(body)

    assert world.finish().value == 9
    assert world.steps.executed == ["0/triple#1", "0/triple#2"]
    assert triple(3) == 9


# -- results -----------------------------------------------------------------------------------------------------


def test_a_step_that_is_awaited_twice_runs_once() -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        call = ctx.step("double", double, 4)
        return [await call, await call, *await asyncio.gather(call, call)]

    world = World(body)

    assert world.finish().value == [8, 8, 8, 8]
    assert world.steps.executed == ["0/double#1"]


def test_a_failed_step_raises_the_same_in_every_replay() -> None:
    async def body(ctx: WorkflowContext) -> dict[str, Any]:
        seen: list[Exception] = []
        call = ctx.step("fail", fail)
        for _ in range(2):
            try:
                await call
            except Exception as error:
                seen.append(error)
        await ctx.sleep("rest", 10)
        first, again = seen
        return {
            "same": repr(first) == repr(again),
            "cause": repr(first.__cause__),
            "error": {name: str(getattr(first.error, name)) for name in first.error.__dataclass_fields__},  # type: ignore[attr-defined] # a StepFailed has it
        }

    value: Any = survive(body, park_after=COLD).value

    assert value["same"]
    assert value["cause"] == "None"
    assert value["error"]["type"] == "ValueError"
    assert "raise ValueError" in value["error"]["traceback"]


def test_a_run_that_fails_by_its_step_tells_why_the_step_failed() -> None:
    async def body(ctx: WorkflowContext) -> None:
        await ctx.sleep("rest", 10)
        await ctx.step("fail", fail)

    outcome = survive(body)

    assert outcome.status is RunStatus.FAILED
    assert outcome.error is not None
    assert [(cause[1], cause[2]) for cause in outcome.error[3]] == [("ValueError", "no")]


def test_a_result_that_cannot_be_stored_is_the_steps_failure() -> None:
    async def body(ctx: WorkflowContext) -> list[str]:
        try:
            await ctx.step("make", object)
        except Exception as error:
            return [type(error).__name__, error.error.type]  # type: ignore[attr-defined] # a StepFailed has it
        return []

    assert survive(body).value == ["StepFailed", "PayloadError"]


def test_an_error_whose_message_cannot_be_told_still_fails_its_step() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def mute() -> None:
        raise Mute

    async def body(ctx: WorkflowContext) -> None:
        await ctx.step("mute", mute)

    outcome = survive(body)

    assert outcome.status is RunStatus.FAILED
    assert "RuntimeError" in str(outcome.error)


# -- facts -------------------------------------------------------------------------------------------------------


def test_time_chance_and_ids_are_equal_in_every_replay() -> None:
    async def body(ctx: WorkflowContext) -> list[str]:
        facts = []
        for pause in (0, 3, 100):
            await ctx.sleep("rest", pause)
            facts += [str(ctx.now()), str(ctx.random()), str(ctx.uuid4()), str(asyncio.get_running_loop().time())]
        return facts

    facts: Any = survive(body, park_after=timedelta(seconds=10)).value

    assert facts[8] == str(BEGINNING + timedelta(seconds=103))
    assert len(set(facts)) == len(facts)


def test_the_workflows_logger_is_silent_during_replay(caplog: pytest.LogCaptureFixture) -> None:
    async def body(ctx: WorkflowContext) -> None:
        ctx.logger.warning("before")
        await ctx.sleep("rest", 100)
        ctx.logger.warning("between", extra={"number": 7})
        await ctx.step("double", double, 1)
        await ctx.sleep("rest", 100)
        ctx.logger.warning("after")

    World(body, park_after=COLD).finish()

    ours = [record for record in caplog.records if record.name == "kagzi.workflow"]
    assert [record.getMessage() for record in ours] == ["before", "between", "after"]
    assert ours[1].__dict__["number"] == 7
    assert {record.__dict__["workflow"] for record in ours} == {"program"}


# -- bodies that do it wrong -------------------------------------------------------------------------------------


def test_a_step_that_nobody_awaited_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def body(ctx: WorkflowContext) -> None:
        ctx.step("forgotten", double, 1)

    world = World(body)
    world.finish()

    (record,) = [record for record in caplog.records if "never awaited" in record.getMessage()]
    assert record.__dict__["step"] == "forgotten"
    assert world.steps.executed == []


def test_a_body_that_computes_for_long_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def body(ctx: WorkflowContext) -> None:
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            pass

    world = World(body)
    world.body_warning_s = 0.01
    world.finish()

    (record,) = [record for record in caplog.records if "computed for long" in record.getMessage()]
    assert record.__dict__["workflow"] == "program"
    assert record.__dict__["took_ms"] >= 20


def test_a_body_that_waits_for_what_cannot_happen_fails() -> None:
    async def body(ctx: WorkflowContext) -> None:
        await ctx.step("double", double, 1)
        await asyncio.Event().wait()

    outcome = survive(body)

    assert outcome.error is not None
    assert outcome.error[1] == "WorkflowStuck"
    assert "An Event that nobody sets" in outcome.error[2]


def test_a_body_that_goes_round_and_round_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "_HANDLES_IN_A_DRAIN", 1_000)

    async def body(ctx: WorkflowContext) -> None:
        task = asyncio.create_task(ctx.sleep("rest", 10))
        while not task.done():  # noqa: ASYNC110 - that is the point
            await asyncio.sleep(0)

    outcome = World(body).finish()

    assert outcome.error is not None
    assert outcome.error[1] == "WorkflowSpins"


def test_a_body_that_cancels_itself_fails() -> None:
    async def body(ctx: WorkflowContext) -> None:
        raise asyncio.CancelledError

    outcome = survive(body)

    assert outcome.status is RunStatus.FAILED
    assert outcome.error is not None
    assert outcome.error[1] == "CancelledError"


# -- leaving memory ----------------------------------------------------------------------------------------------


def test_leaving_memory_passes_everything_that_a_body_can_hold(complaints: list[str]) -> None:
    caught: list[str] = []
    left: list[str] = []

    async def deep(ctx: WorkflowContext, number: int) -> None:
        try:
            async with asyncio.timeout(50_000), asyncio.TaskGroup() as group:
                group.create_task(ctx.sleep("long", 5_000 + number))
                group.create_task(asyncio.sleep(5_000))
                await asyncio.gather(asyncio.shield(asyncio.sleep(5_000)), asyncio.Event().wait())
        except Exception as error:
            caught.append(repr(error))
        finally:
            left.append(f"deep {number}")
            with contextlib.suppress(Exception):
                await asyncio.wait_for(asyncio.sleep(1), 5)
            await ctx.step("clean up", double, 1)
            caught.append("a step was possible while leaving")

    async def body(ctx: WorkflowContext) -> None:
        background = asyncio.create_task(deep(ctx, 0))
        waiting: asyncio.Future[None] = asyncio.Future()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(deep(ctx, 1))
                await asyncio.wait({background, waiting})
        except Exception as error:
            caught.append(repr(error))
        finally:
            left.append("body")

    world = World(body, park_after=COLD)
    world.claim()
    world.settle()

    assert world.memory.transition is not None
    assert world.memory.transition.status is RunStatus.SLEEPING
    assert sorted(left) == ["body", "deep 0", "deep 1"]
    assert caught == []
    del world
    gc.collect()
    assert complaints == []


def test_a_parked_run_leaves_nothing_for_the_log_or_the_collector(
    complaints: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def body(ctx: WorkflowContext) -> None:
        failed = asyncio.create_task(ctx.sleep("long", 5_000))
        await asyncio.gather(failed, ctx.sleep("longer", 6_000), return_exceptions=True)

    World(body, park_after=COLD).finish()
    gc.collect()

    assert caplog.records == []


@pytest.mark.parametrize("way", ["step", "sleep", "future"])
def test_a_body_that_swallows_everything_is_abandoned(way: str, caplog: pytest.LogCaptureFixture) -> None:
    async def wait(ctx: WorkflowContext) -> None:
        match way:
            case "step":
                await ctx.step("double", double, 1)
            case "sleep":
                await ctx.sleep("long", 5_000)
            case _:
                await asyncio.Event().wait()

    stop = False

    async def body(ctx: WorkflowContext) -> None:
        await ctx.step("double", double, 1)
        while not stop:
            try:
                await wait(ctx)
            except BaseException:
                continue

    world = World(body)
    world.claim()
    world.steps.end(world.steps.running[0])
    for tell in world.changes.commit(1):
        tell()
    if world.execution is not None:  # the one that waits for an Event alone is stuck, and has failed
        world.execution.release()
    world.settle()

    assert world.execution is None
    stop = True
    assert [record.getMessage()[:40] for record in caplog.records] == ["A workflow body kept going while its run"]


def test_a_callback_that_meets_parked_keeps_nothing_back() -> None:
    async def body(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("long", 5_000)
        finally:
            asyncio.get_running_loop().call_soon(lambda: ctx.step("late", double, 1))

    world = World(body, park_after=COLD)
    world.claim()
    world.settle()

    assert len(world.endings) == 1


def test_parked_is_no_exception_that_bodies_catch() -> None:
    assert not issubclass(Parked, Exception)


def test_tasks_that_nobody_knows_of_are_not_collected() -> None:
    ended: list[str] = []

    async def body(ctx: WorkflowContext) -> list[str]:
        async def wait_for_each_other(tasks: list[asyncio.Task[None]], other: int) -> None:
            try:
                await asyncio.sleep(0)
                await asyncio.shield(tasks[other])
            finally:
                ended.append("collected")

        tasks: list[asyncio.Task[None]] = []
        tasks += [asyncio.create_task(wait_for_each_other(tasks, other)) for other in (1, 0)]
        del tasks
        await ctx.step("double", double, 1)
        gc.collect()
        return list(ended)

    assert World(body).finish().value == []
