"""Steps and runs that fail and are executed again, in a world where each crash can be had at will."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from kagzi.authoring.context import WorkflowContext
from kagzi.authoring.options import WorkflowOptions, workflow_options
from kagzi.authoring.steps import step
from kagzi.engine.endings import Ending
from kagzi.errors import NonRetryable, RetryAfter, StepFailed
from kagzi.model.error import ErrorKind, StepError
from kagzi.model.retry import RetryPolicy
from kagzi.model.run import RunStatus
from kagzi.rules.retries import RetryPredicate
from tests.engine.host import BEGINNING, COLD, WARM, World

Body = Callable[..., Coroutine[Any, Any, Any]]

THRICE = RetryPolicy.fixed(10, max_attempts=3)


class Flaky:
    """A function that fails a number of times before it answers; counts its executions."""

    def __init__(self, failures: int, *, error: Exception | None = None) -> None:
        self.failures = failures
        self.executions = 0
        self.error = error or ConnectionError("no answer")

    def __call__(self) -> str:
        self.executions += 1
        if self.executions <= self.failures:
            raise self.error
        return f"answered at {self.executions}"


def a_world(body: Body, options: WorkflowOptions | None = None, *, park_after: timedelta = WARM) -> World:
    world = World(body, park_after=park_after)
    if options is not None:
        world.definition = msgspec.structs.replace(world.definition, options=options)
    return world


def calling(fn: Callable[[], str], **options: Any) -> Body:
    """A body that calls one step, with these options."""

    async def body(ctx: WorkflowContext) -> str:
        return await ctx.options(**options).step("call", fn)

    return body


def test_a_failing_step_is_executed_again_until_it_answers() -> None:
    flaky = Flaky(2)
    world = a_world(calling(flaky, retry=THRICE))

    outcome = world.finish()

    (record,) = world.memory.records
    assert (outcome.value, flaky.executions, record.attempts) == ("answered at 3", 3, 3)
    assert [failed.attempt for failed in world.memory.failures] == [1, 2]
    assert world.memory.failures[0].kind == ErrorKind.NETWORK_ERROR


def test_the_next_execution_waits_as_long_as_the_policy_says() -> None:
    policy = RetryPolicy.exponential(2, 30, multiplier=3, max_attempts=5, jitter=False)
    world = a_world(calling(Flaky(4), retry=policy))

    world.finish()

    waits = [(each.wake_at - each.started_at).total_seconds() for each in world.memory.failures if each.wake_at]
    assert waits == [2, 6, 18, 30]


@pytest.mark.parametrize("park_after", [WARM, COLD], ids=["warm", "parked"])
def test_a_step_that_keeps_failing_fails_once_its_attempts_are_used(park_after: timedelta) -> None:
    flaky = Flaky(9)
    world = a_world(calling(flaky, retry=THRICE), park_after=park_after)

    outcome = world.finish()

    (record,) = world.memory.records
    assert outcome.status is RunStatus.FAILED
    assert (flaky.executions, record.attempts) == (3, 3)
    assert [(each.attempt, each.wake_at is None) for each in world.memory.failures] == [
        (1, False),
        (2, False),
        (3, True),
    ]


def test_a_long_wait_leaves_memory_and_says_what_it_is_for() -> None:
    world = a_world(calling(Flaky(1), retry=THRICE), park_after=COLD)
    world.claim()

    world.settle()

    transition = world.memory.transition
    assert transition is not None
    assert world.endings == [Ending.PARKED]
    assert (transition.status, transition.wake_at) == (RunStatus.SLEEPING, world.memory.failures[0].wake_at)
    assert transition.waits is not None
    (text,) = msgspec.json.decode(transition.waits)
    assert text == "step 'call', retrying at 2026-01-01T00:00:10+00:00: 1 of 3 attempts failed"


def test_a_run_that_is_claimed_before_the_next_execution_is_due_goes_on_waiting() -> None:
    flaky = Flaky(1)
    world = a_world(calling(flaky, retry=THRICE))
    world.claim()
    while not world.memory.failures:
        step_on(world)
    world.crash()

    world.claim()

    assert (flaky.executions, world.steps.running) == (1, [])
    world.settle()
    assert world.memory.records[0].output == '"answered at 2"'


def test_the_count_survives_a_crash_at_every_write() -> None:
    """P21: crashes use no attempt, and attempts are not forgotten in one."""
    for crash_after in range(1, 8):
        flaky = Flaky(9)
        world = a_world(calling(flaky, retry=THRICE), park_after=COLD)
        world.claim()
        crash_within(world, crash_after)

        outcome = world.finish()

        assert outcome.status is RunStatus.FAILED
        assert world.memory.records[0].attempts == 3
        # One execution more where its failure was not yet stored.
        assert flaky.executions in (3, 4)


def test_a_body_that_stops_waiting_for_a_retry_goes_on() -> None:
    flaky = Flaky(9)

    async def body(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.timeout(15):
                return await ctx.options(retry=THRICE).step("call", flaky)
        except TimeoutError:
            return "gave up"

    outcome = a_world(body).finish()

    assert (outcome.value, flaky.executions) == ("gave up", 2)


def test_a_retry_in_one_branch_holds_up_no_other() -> None:
    order: list[str] = []

    async def body(ctx: WorkflowContext) -> list[str]:
        flaky = Flaky(2)

        async def quick() -> str:
            await ctx.step("one", lambda: order.append("one"))
            await ctx.step("two", lambda: order.append("two"))
            return "quick"

        return list(await asyncio.gather(ctx.options(retry=THRICE).step("slow", flaky), quick()))

    outcome = a_world(body).finish()

    assert outcome.value == ["answered at 3", "quick"]
    assert order == ["one", "two"]


def test_only_errors_that_the_predicate_names_are_tried_again() -> None:
    for retry_if, executions in (
        (None, 1),
        (RetryPredicate.ON_ANY_ERROR, 3),
        (RetryPredicate.NEVER, 1),
        (RetryPredicate.on_error_kind(ErrorKind.VALIDATION_FAILED), 3),
        (RetryPredicate.on_types(LookupError), 3),
        (RetryPredicate.on_types(OSError), 1),
        (lambda error: "odd" in error.message, 3),
    ):
        flaky = Flaky(9, error=Odd("an odd value"))
        world = a_world(calling(flaky, retry=THRICE, retry_if=retry_if))
        world.classifiers = (lambda error: ErrorKind.VALIDATION_FAILED if isinstance(error, Odd) else None,)

        world.finish()

        assert flaky.executions == executions, retry_if


class Odd(KeyError):
    """What no kind fits."""


def test_a_predicate_that_raises_leaves_the_decision_to_the_kind(caplog: pytest.LogCaptureFixture) -> None:
    def broken(error: StepError) -> bool:
        raise RuntimeError("the predicate is broken")

    flaky = Flaky(1)
    outcome = a_world(calling(flaky, retry=THRICE, retry_if=broken)).finish()

    assert outcome.value == "answered at 2"
    assert "A retry predicate raised" in caplog.text


def test_what_is_given_at_the_call_goes_before_step_and_step_before_workflow() -> None:
    flaky = [Flaky(9), Flaky(9), Flaky(9)]
    fixed = RetryPolicy.fixed

    @step(retry=fixed(1, max_attempts=2))
    def marked() -> str:
        return flaky[1]()

    async def body(ctx: WorkflowContext) -> list[str]:
        calls: list[Any] = [
            ctx.step("plain", flaky[0]),
            marked(),
            ctx.options(retry=fixed(1, max_attempts=4)).step("call", marked_by_hand),
        ]
        return [str(result) for result in await asyncio.gather(*calls, return_exceptions=True)]

    @step(retry=fixed(1, max_attempts=2))
    def marked_by_hand() -> str:
        return flaky[2]()

    a_world(body, workflow_options(step_retry=fixed(1, max_attempts=3))).finish()

    assert [each.executions for each in flaky] == [3, 2, 4]


def test_what_is_raised_by_hand_is_heeded_whatever_the_predicate_says() -> None:
    for error, retry_if, executions in (
        (NonRetryable("never"), RetryPredicate.ON_ANY_ERROR, 1),
        (NonRetryable("never"), lambda _: True, 1),
        (RetryAfter(1), RetryPredicate.NEVER, 3),
        (RetryAfter(1), lambda _: False, 3),
    ):
        flaky = Flaky(9, error=error)

        a_world(calling(flaky, retry=THRICE, retry_if=retry_if)).finish()

        assert flaky.executions == executions, (error, retry_if)


def test_jitter_is_the_same_whoever_reckons_it_and_another_for_each_execution() -> None:
    policy = RetryPolicy.fixed(100, max_attempts=4, jitter=True)

    def waits() -> list[float]:
        world = a_world(calling(Flaky(9), retry=policy))
        world.finish()
        return [(each.wake_at - each.started_at).total_seconds() for each in world.memory.failures if each.wake_at]

    first, second = waits(), waits()

    assert first == second
    assert len(set(first)) == 3
    assert all(50 <= each <= 100 for each in first)


# -- the run itself ----------------------------------------------------------------------------------------------


def test_a_failed_run_is_executed_again_and_keeps_what_it_has_finished() -> None:
    """P10."""
    charge, ship = Flaky(0), Flaky(2)

    async def body(ctx: WorkflowContext) -> tuple[int, str, str]:
        charged = await ctx.step("charge", charge)
        await ctx.sleep("let it rest", 3600)
        return ctx.attempt, charged, await ctx.step("ship", ship)

    world = a_world(body, workflow_options(retry=THRICE))
    outcome = world.finish()

    assert outcome.value == [3, "answered at 1", "answered at 3"]
    assert (charge.executions, ship.executions) == (1, 3)
    assert world.memory.attempts == 3
    # One hour of sleep and two waits of ten seconds, and no second hour.
    assert world.clock.now() - BEGINNING == timedelta(hours=1, seconds=20)


def test_a_run_has_failed_once_its_attempts_are_used() -> None:
    flaky = Flaky(9)
    world = a_world(calling(flaky), workflow_options(retry=THRICE))

    outcome = world.finish()

    assert (outcome.status, flaky.executions) == (RunStatus.FAILED, 3)


def test_each_attempt_of_a_run_gives_a_step_all_that_its_policy_allows() -> None:
    flaky = Flaky(9)
    world = a_world(
        calling(flaky, retry=RetryPolicy.fixed(1, max_attempts=2)),
        workflow_options(retry=RetryPolicy.fixed(1, max_attempts=3)),
    )

    world.finish()

    assert flaky.executions == 6
    assert [failed.attempt for failed in world.memory.failures] == [1, 2, 3, 4, 5, 6]
    assert {failed.max_attempts for failed in world.memory.failures} == {2}


def test_an_error_that_can_not_pass_ends_the_run_at_once() -> None:
    async def body(ctx: WorkflowContext) -> None:
        await asyncio.Event().wait()

    world = a_world(body, workflow_options(retry=THRICE))

    outcome = world.finish()

    assert (outcome.status, world.memory.attempts) == (RunStatus.FAILED, 1)


def test_the_predicate_of_a_run_decides_about_its_attempts() -> None:
    for error, retry_if, attempts in (
        (ConnectionError("no luck"), None, 3),
        (ConnectionError("no luck"), RetryPredicate.NEVER, 1),
        (NonRetryable("never"), RetryPredicate.ON_ANY_ERROR, 1),
        (PermissionError("not you"), None, 1),
        (PermissionError("not you"), RetryPredicate.ON_ANY_ERROR, 3),
    ):
        world = a_world(raising(error), workflow_options(retry=THRICE, retry_if=retry_if))

        world.finish()

        assert world.memory.attempts == attempts, (error, retry_if)


def raising(error: Exception) -> Body:
    """A body that raises."""

    async def body(ctx: WorkflowContext) -> None:
        raise error

    return body


def test_a_wait_is_not_shorter_for_a_clock_that_lags() -> None:
    """P18: the store is a second further than is known here."""

    async def body(ctx: WorkflowContext) -> None:
        await ctx.options(retry=THRICE).step("call", Flaky(9))

    world = a_world(body, workflow_options(retry=THRICE), park_after=COLD)
    world.clock_.lag = timedelta(seconds=1)
    due = []
    for _ in range(3):
        world.claim()
        world.settle()
        assert world.memory.transition is not None
        assert world.memory.transition.wake_at is not None
        due.append(world.memory.transition.wake_at - world.clock_.store_now)
        world.clock_.reach(world.memory.transition.wake_at)

    assert world.memory.attempts == 2
    assert due == [timedelta(seconds=10)] * 3


def test_a_timeout_of_an_earlier_attempt_bounds_the_next_anew() -> None:
    """A timer that ended something is no sleep that was slept."""
    flaky = Flaky(1)

    async def body(ctx: WorkflowContext) -> str:
        async with asyncio.timeout(100):
            if ctx.attempt == 1:
                await asyncio.Event().wait()
            await asyncio.sleep(50)
            return await ctx.step("call", flaky)

    outcome = a_world(body, workflow_options(retry=THRICE)).finish()

    assert outcome.value == "answered at 2"


def test_an_asyncio_sleep_of_an_earlier_attempt_is_not_slept_again() -> None:
    async def body(ctx: WorkflowContext) -> str:
        await asyncio.sleep(3600)
        return await ctx.step("call", flaky)

    flaky = Flaky(1)
    world = a_world(body, workflow_options(retry=THRICE))

    outcome = world.finish()

    assert outcome.value == "answered at 2"
    assert world.clock.now() - BEGINNING == timedelta(hours=1, seconds=10)


def test_a_body_may_take_another_way_in_its_next_attempt() -> None:
    calls: list[str] = []

    async def body(ctx: WorkflowContext) -> list[str]:
        if ctx.attempt == 1:
            await ctx.step("a", lambda: calls.append("a"))
            await ctx.step("b", lambda: calls.append("b"))
            await ctx.step("fail", Flaky(9))
        await ctx.step("b", lambda: calls.append("b again"))
        await ctx.step("c", lambda: calls.append("c"))
        return calls

    outcome = a_world(body, workflow_options(retry=THRICE)).finish()

    assert outcome.value == ["a", "b", "c"]


def test_later_attempts_survive_a_crash_at_every_write() -> None:
    """P10: what an attempt has finished is never executed again, whatever crashes."""
    for crash_after in range(1, 14):
        done: list[str] = []
        world = a_world(
            branching(done, Flaky(2)), workflow_options(retry=RetryPolicy.fixed(10, max_attempts=9)), park_after=COLD
        )
        world.claim()
        crash_within(world, crash_after)

        outcome = world.finish()

        assert outcome.value is not None
        assert len({record.step_id for record in world.memory.records}) == 5
        assert set(done) == {"a", "b", "c"}


def branching(done: list[str], flaky: Flaky) -> Body:
    """A body with three branches, a sleep, and a step that fails."""

    async def body(ctx: WorkflowContext) -> str:
        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(ctx.step(name, done.append, name))
        await ctx.sleep("nap", 60)
        return await ctx.step("call", flaky)

    return body


def test_a_result_that_no_longer_fits_its_type_sets_the_new_attempt_aside() -> None:
    """P16."""

    def text() -> str:
        return "text"

    def number() -> int:
        raise AssertionError("executed although its result is stored")

    def asking(fn: Callable[[], Any]) -> Body:
        async def body(ctx: WorkflowContext) -> Any:
            calls: list[Any] = [ctx.step("fail", Flaky(9)), ctx.step("value", fn)]
            values = await asyncio.gather(*calls, return_exceptions=True)
            raise ConnectionError(str(values))

        return body

    options = workflow_options(retry=THRICE)
    world = a_world(asking(text), options)
    world.claim()
    world.settle()
    world.definition = a_world(asking(number), options).definition
    world.claim()

    world.settle()

    transition = world.memory.transition
    assert transition is not None
    assert (transition.status, transition.reopened_seq) == (RunStatus.SLEEPING, None)
    assert world.steps.executed == ["0/fail#1", "0/value#1"], "a step was begun although the code does not fit"
    assert "value" in (transition.waits or "")


def test_a_step_that_fails_is_told_with_its_error_and_no_cause() -> None:
    async def body(ctx: WorkflowContext) -> tuple[str, bool]:
        try:
            await ctx.options(retry=THRICE).step("call", Flaky(9))
        except StepFailed as error:
            return error.error.message, error.__cause__ is None
        raise AssertionError

    assert a_world(body).finish().value == ["no answer", True]


# -- moving the world --------------------------------------------------------------------------------------------


def step_on(world: World) -> None:
    """Let one thing happen."""
    if world.changes.waiting:
        for tell in world.changes.commit(1):
            tell()
    elif world.steps.running:
        world.steps.end(world.steps.running[0])
    else:
        world.clock_.ring()


def crash_within(world: World, after: int) -> None:
    """Let `after` things happen, and crash; a run that is let go of meanwhile is claimed again."""
    for _ in range(after):
        transition = world.memory.transition
        if transition is not None:
            if transition.status.is_terminal:
                return
            if transition.wake_at is not None:
                world.clock_.reach(transition.wake_at)
            world.claim()
        step_on(world)
    if world.memory.transition is None:
        world.crash()
