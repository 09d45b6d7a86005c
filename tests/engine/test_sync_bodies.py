"""Bodies of `def` workflows: they wait without a thread, replay like any other, and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import sys
import traceback
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from greenlet import getcurrent, greenlet

from kagzi import KagziError, Parked, Pending, StepFailed, SyncWorkflowContext, step
from kagzi.authoring.sync_context import as_coroutine_function
from kagzi.engine.execution import Execution
from kagzi.model.run import RunStatus
from tests.engine.host import COLD, WARM, Outcome, World, survive

_mood: contextvars.ContextVar[str] = contextvars.ContextVar("mood", default="calm")


def world(body: Callable[..., Any], *, park_after: timedelta = WARM) -> World:
    return World(as_coroutine_function(body), park_after=park_after)


def outcome(body: Callable[..., Any], *, park_after: timedelta = WARM) -> Outcome:
    """How a body ends, which must be the same after a crash at any of its records."""
    return survive(as_coroutine_function(body), park_after=park_after)


def double(number: int) -> int:
    return number * 2


def fail() -> None:
    raise ValueError("no")


# -- the verbs ---------------------------------------------------------------------------------------------------


def test_a_step_gives_its_value_and_a_sleep_returns_when_it_is_over() -> None:
    def body(ctx: SyncWorkflowContext) -> list[Any]:
        before = ctx.now()
        number = ctx.step("double", double, 4)
        ctx.sleep("nap", 60)
        ctx.sleep_until("until", before + timedelta(seconds=90))
        return [number, (ctx.now() - before).total_seconds(), ctx.options(timeout=5).step("double", double, number)]

    for park_after in (WARM, COLD):
        assert outcome(body, park_after=park_after).value == [8, 90.0, 16]


def test_a_step_that_fails_raises_where_it_was_called_and_can_be_caught() -> None:
    def body(ctx: SyncWorkflowContext) -> str:
        try:
            ctx.step("fail", fail)
        except StepFailed as failure:
            return f"{failure.error.type}: {ctx.step('double', double, 1)}"
        return ""

    assert outcome(body).value == "ValueError: 2"


def test_submitted_steps_are_under_way_together_and_give_their_results_again_and_again() -> None:
    def body(ctx: SyncWorkflowContext) -> list[Any]:
        calls = [ctx.submit("double", double, number) for number in range(3)]
        begun = [call.done() for call in calls]
        results = ctx.gather(*calls)
        return [*begun, *results, *(call.result() for call in calls), *(call.done() for call in calls)]

    executing = world(body)
    executing.claim()

    assert executing.steps.executed == ["0/double#1", "0/double#2", "0/double#3"]
    assert outcome(body).value == [*[False] * 3, *[0, 2, 4] * 2, *[True] * 3]


def test_a_submitted_step_begins_while_the_body_waits_for_something_else() -> None:
    def body(ctx: SyncWorkflowContext) -> int:
        beside = ctx.submit("beside", double, 1)
        ctx.sleep("nap", 60)
        return beside.result()

    executing = world(body)
    executing.claim()

    assert executing.steps.executed == ["0/beside#1"]
    assert outcome(body).value == 2


def test_parts_of_a_body_go_on_beside_each_other_in_scopes_of_their_own() -> None:
    order: list[str] = []

    def part(ctx: SyncWorkflowContext, name: str, *, last: int) -> str:
        for number in range(last):
            ctx.step("double", double, number)
            order.append(name)
        return name

    def body(ctx: SyncWorkflowContext) -> list[str]:
        one, other = ctx.spawn(part, ctx, "one", last=3), ctx.spawn(part, ctx, "other", last=2)
        return [other.result(), one.result()]

    executing = world(body)
    ended = executing.finish()

    assert ended.value == ["other", "one"]
    assert order == ["one", "other", "one", "other", "one"]
    assert [record.step_id for record in executing.memory.records] == [
        "0.1/double#1",
        "0.2/double#1",
        "0.1/double#2",
        "0.2/double#2",
        "0.1/double#3",
    ]
    assert outcome(body) == ended


def test_results_come_in_the_order_in_which_they_are_there() -> None:
    def after(ctx: SyncWorkflowContext, seconds: int) -> int:
        ctx.sleep("nap", seconds)
        return seconds

    def body(ctx: SyncWorkflowContext) -> list[int]:
        return list(ctx.as_completed(*(ctx.spawn(after, ctx, seconds) for seconds in (30, 10, 20))))

    assert outcome(body).value == outcome(body, park_after=COLD).value == [10, 20, 30]


def test_waiting_for_a_result_can_be_bounded_and_given_up() -> None:
    def long(ctx: SyncWorkflowContext) -> str:
        try:
            ctx.sleep("long", 100)
        except asyncio.CancelledError:
            ctx.step("tidy", double, 1)
            raise
        return "slept"

    def body(ctx: SyncWorkflowContext) -> list[Any]:
        patient, hasty = ctx.spawn(long, ctx), ctx.spawn(long, ctx)
        told = []
        try:
            hasty.result(timeout=timedelta(seconds=10))
        except TimeoutError as error:
            told.append(str(error))
        hasty.cancel()
        told.append(patient.result(timeout=1000))
        try:
            hasty.result()
        except asyncio.CancelledError:
            told.append("given up")
        return told

    assert outcome(body).value == ["there was no result within 10 s.", "slept", "given up"]


def test_functions_marked_as_steps_give_their_values() -> None:
    @step("twice")
    def marked(number: int) -> int:
        return number * 2

    def body(ctx: SyncWorkflowContext) -> list[int]:
        return [marked(1), ctx.spawn(marked, 2).result(), ctx.step("named", marked, 3)]

    executing = world(body)

    assert executing.finish().value == [2, 4, 6]
    assert [record.step_id for record in executing.memory.records] == ["0/twice#1", "0.1/twice#1", "0/named#1"]
    assert marked(5) == 10


def test_facts_are_those_of_the_run_and_the_same_in_every_replay() -> None:
    def body(ctx: SyncWorkflowContext) -> list[Any]:
        chance = [ctx.random(), str(ctx.uuid4())]
        ctx.step("double", double, 1)
        return [*chance, ctx.random(), ctx.run_id, ctx.id, ctx.workflow, ctx.version, ctx.attempt, str(ctx.now())]

    facts: Any = outcome(body).value
    *_, run_id, own_id, workflow, version, attempt, _ = facts

    assert (run_id, workflow, version, attempt) == (own_id, "program", 1, 1)


def test_the_logger_is_silent_while_the_body_is_replayed(caplog: pytest.LogCaptureFixture) -> None:
    def body(ctx: SyncWorkflowContext) -> None:
        ctx.logger.warning("began")
        ctx.sleep("nap", 60)
        ctx.logger.warning("ends")

    world(body, park_after=COLD).finish()

    assert [record.getMessage() for record in caplog.records if record.name == "kagzi.workflow"] == ["began", "ends"]


# -- a body is a function like any other -------------------------------------------------------------------------


def test_context_variables_of_a_body_are_its_own_and_last_over_its_waits() -> None:
    def part(ctx: SyncWorkflowContext, mood: str) -> list[str]:
        inherited = _mood.get()
        _mood.set(mood)
        ctx.step("double", double, 1)
        return [inherited, _mood.get()]

    def body(ctx: SyncWorkflowContext) -> list[Any]:
        _mood.set("bright")
        parts = ctx.gather(*(ctx.spawn(part, ctx, mood) for mood in ("sad", "wild")))
        ctx.sleep("nap", 5)
        return [*parts, _mood.get()]

    _mood.set("outside")

    assert outcome(body).value == [["bright", "sad"], ["bright", "wild"], "bright"]
    assert _mood.get() == "outside"


def test_exceptions_keep_their_tracebacks_causes_and_what_is_being_handled() -> None:
    seen: list[Any] = []

    def deeper(ctx: SyncWorkflowContext) -> None:
        try:
            ctx.step("fail", fail)
        except StepFailed as failure:
            ctx.step("double", double, 1)
            seen.append(sys.exc_info()[1] is failure)
            raise KeyError("lost") from failure

    def body(ctx: SyncWorkflowContext) -> None:
        try:
            deeper(ctx)
        finally:
            seen.append([frame.name for frame in traceback.extract_tb(sys.exc_info()[2])])

    ended = world(body).finish()

    assert ended.status is RunStatus.FAILED
    assert ended.error is not None
    assert ended.error[1:3] == ("KeyError", "'lost'")
    assert ended.error[3][0][1] == "StepFailed"
    assert seen == [True, ["body", "deeper"]]


def test_recursion_may_be_deep_and_without_an_end_it_is_an_error_like_elsewhere() -> None:
    def down(ctx: SyncWorkflowContext, depth: int) -> int:
        return down(ctx, depth - 1) + 1 if depth else ctx.step("double", double, 1)

    def deep(ctx: SyncWorkflowContext) -> int:
        return down(ctx, 500)

    def endless(ctx: SyncWorkflowContext) -> str:
        try:
            return str(down(ctx, 10**9))
        except RecursionError:
            return "too deep"

    assert outcome(deep).value == 502
    assert outcome(endless).value == "too deep"


# -- leaving memory ----------------------------------------------------------------------------------------------


def test_a_body_that_parks_is_unwound_and_sees_its_finally_blocks() -> None:
    unwound: list[str] = []

    def part(ctx: SyncWorkflowContext) -> None:
        try:
            ctx.sleep("long", 5_000)
        finally:
            unwound.append("part")

    def body(ctx: SyncWorkflowContext) -> str:
        beside = ctx.spawn(part, ctx)
        try:
            ctx.sleep("longer", 10_000)
        except Exception:
            return "caught"
        finally:
            try:
                ctx.step("double", double, 1)
            except Parked:
                unwound.append("body")
                raise
        return str(beside.done())

    executing = world(body, park_after=COLD)
    executing.claim()
    executing.settle()

    assert sorted(unwound) == ["body", "part"]
    assert executing.memory.transition is not None
    assert executing.memory.transition.status is RunStatus.SLEEPING
    assert "0/double#1" not in executing.memory.finished


def test_ten_thousand_parked_runs_leave_no_greenlet_and_nothing_else() -> None:
    class Held:
        """Something that the body holds while it waits."""

    held: list[weakref.ref[Held]] = []

    def part(ctx: SyncWorkflowContext) -> None:
        ctx.sleep("long", 5_000)

    def body(ctx: SyncWorkflowContext) -> None:
        thing = Held()
        held.append(weakref.ref(thing))
        ctx.spawn(part, ctx)
        ctx.sleep("long", 5_000)
        del thing

    def alive() -> int:
        return sum(isinstance(found, greenlet | Execution | World) for found in gc.get_objects())

    getcurrent()  # the thread's own greenlet is made when first asked for
    gc.collect()
    before = alive()
    for _ in range(10_000):
        executing = world(body, park_after=COLD)
        executing.claim()
        executing.settle()
        del executing
    gc.collect()

    assert len(held) == 10_000
    assert [reference for reference in held if reference() is not None] == []
    assert alive() == before


def test_a_body_that_is_dropped_is_unwound_at_once() -> None:
    unwound: list[str] = []

    def body(ctx: SyncWorkflowContext) -> None:
        try:
            ctx.step("double", double, 1)
        finally:
            unwound.append("body")

    executing = world(body)
    executing.claim()
    executing.crash()

    assert unwound == ["body"]


def test_a_body_that_swallows_parked_is_abandoned_and_named(caplog: pytest.LogCaptureFixture) -> None:
    def body(ctx: SyncWorkflowContext) -> None:
        while True:
            try:
                ctx.sleep("long", 5_000)
            except BaseException:
                ctx.logger.debug("no")

    executing = world(body, park_after=COLD)
    executing.claim()
    executing.settle()

    assert executing.execution is None
    assert any("let Parked pass" in record.getMessage() for record in caplog.records)
    del executing
    gc.collect()


# -- misuse ------------------------------------------------------------------------------------------------------


def told(body: Callable[..., Any]) -> str:
    ended = world(body).finish()
    assert ended.error is not None, ended
    return f"{ended.error[1]}: {ended.error[2]}"


def test_a_loop_inside_of_a_body_is_refused_with_the_cure() -> None:
    def running(ctx: SyncWorkflowContext) -> None:
        with contextlib.closing(asyncio.sleep(0)) as coroutine:
            asyncio.run(coroutine)

    def driving(ctx: SyncWorkflowContext) -> None:
        with contextlib.closing(asyncio.sleep(0)) as coroutine:
            asyncio.get_running_loop().run_until_complete(coroutine)

    for body in (running, driving):
        assert told(body).startswith("WorkflowIOError")
        assert "step" in told(body)


def test_the_context_in_a_coroutine_beside_the_body_is_refused_with_the_cure() -> None:
    def body(ctx: SyncWorkflowContext) -> str:
        async def beside() -> int:
            return ctx.step("double", double, 1)

        task: asyncio.Task[int] = asyncio.create_task(beside())
        ctx.sleep("nap", 1)
        return str(task.exception())

    assert "ctx.spawn" in str(outcome(body).value)


def test_the_context_outside_of_its_body_is_refused() -> None:
    kept: list[Pending[int]] = []

    def body(ctx: SyncWorkflowContext) -> None:
        kept.append(ctx.submit("double", double, 1))
        ctx.gather(*kept)

    world(body).finish()

    with pytest.raises(KagziError, match="its body does not run"):
        kept[0].result()


def test_a_submitted_step_that_nobody_waits_for_is_given_up_with_its_run(caplog: pytest.LogCaptureFixture) -> None:
    def body(ctx: SyncWorkflowContext) -> str:
        ctx.submit("double", double, 1)
        return "done"

    with caplog.at_level(logging.WARNING):
        executing = world(body)
        ended = executing.finish()

    assert ended.value == "done"
    assert executing.memory.records == []
