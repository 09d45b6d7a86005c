"""Parallel groups: what they wait for, what they raise, and that a crash after any commit changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from kagzi import Err, KagziError, Ok, ParallelErrorStrategy, ParallelExecutor, StepFailed, WorkflowContext
from kagzi.model.error import ErrorKind
from kagzi.model.run import RunStatus
from tests.engine.host import COLD, WARM, World, survive

FAIL_FAST = ParallelErrorStrategy.FAIL_FAST
COLLECT_ALL = ParallelErrorStrategy.COLLECT_ALL
BOTH = pytest.mark.parametrize("park_after", [WARM, COLD], ids=["warm", "parked"])


def double(number: int) -> int:
    return 2 * number


def fail(why: str = "no") -> int:
    raise ValueError(why)


# -- branches that end well --------------------------------------------------------------------------------------


@BOTH
def test_results_are_there_after_the_block_in_the_order_of_the_calls(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        async with ctx.parallel("sums") as group:
            group.sleep("rest", 5)
            group.step("double", double, 1)
            group.step("double", double, 2)
        return [result.unwrap() for result in group.results]

    assert survive(body, park_after=park_after).value == [None, 2, 4]


@BOTH
def test_a_branch_can_be_awaited_inside_the_block_and_after_it(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        async with ctx.parallel("sums") as group:
            first = group.step("double", double, 1)
            second = group.step("double", double, await first)
        return [await first, await second]

    assert survive(body, park_after=park_after).value == [2, 4]


def test_a_branch_starts_when_it_is_called() -> None:
    async def body(ctx: WorkflowContext) -> None:
        async with ctx.parallel("sums") as group:
            group.step("double", double, 1)
            await ctx.sleep("wait", 10)

    world = World(body)
    world.claim()

    assert world.steps.executed == ["0.sums#1/double#1"]
    world.crash()


@BOTH
def test_coroutines_groups_sleeps_and_calls_of_the_context_can_be_branches(park_after: timedelta) -> None:
    async def fetch(ctx: WorkflowContext, number: int) -> int:
        await ctx.sleep("rest", 10 * number)
        async with ctx.parallel("inner") as inner:
            calls = [inner.step("double", double, number + each) for each in range(2)]
        return sum([await call for call in calls])

    async def body(ctx: WorkflowContext) -> list[Any]:
        async with ctx.parallel("outer") as outer:
            outer.start(fetch(ctx, 1))
            outer.start(ctx.step("double", double, 7))
            outer.start(asyncio.ensure_future(fetch(ctx, 2)))
            async with outer.parallel("nested") as nested:
                nested.step("double", double, 9)
            outer.start(nested.join())
        results = [result.unwrap() for result in outer.results]
        return [*results[:-1], results[-1][0].unwrap()]

    assert survive(body, park_after=park_after).value == [6, 14, 10, 18]


def test_a_group_without_branches_ends_at_once() -> None:
    async def body(ctx: WorkflowContext) -> int:
        async with ctx.parallel() as group:
            pass
        return len(group.results)

    assert survive(body).value == 0


@BOTH
def test_an_executor_needs_no_block(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        executor = ParallelExecutor(ctx, "group", COLLECT_ALL)
        first = executor.execute_step("step-1", double, 1)
        executor.execute_step("step-2", fail)
        results = await executor.join()
        return [await first, results[0].is_ok, results[1].is_ok, results == await executor.join()]

    assert survive(body, park_after=park_after).value == [2, True, False, True]


def test_options_of_a_group_and_of_a_branch_come_together() -> None:
    async def body(ctx: WorkflowContext) -> None:
        async with ctx.options(timeout=10, key="all").parallel("group") as group:
            group.step("both", double, 1)
            group.options(timeout=3).step("own", double, 2)

    world = World(body)
    world.claim()

    options = [running.call.options for running in world.steps.running]
    assert [(each.timeout, each.key) for each in options] == [
        (timedelta(seconds=10), "all"),
        (timedelta(seconds=3), "all"),
    ]
    world.crash()


# -- failures: FAIL_FAST -----------------------------------------------------------------------------------------


@BOTH
def test_the_first_failure_cancels_the_others_and_is_raised_as_it_is(park_after: timedelta) -> None:
    seen: list[str] = []

    async def patient(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("long", 5_000)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def body(ctx: WorkflowContext) -> list[Any]:
        try:
            async with ctx.parallel("group") as group:
                group.start(patient(ctx))
                group.sleep("long", 5_000)
                group.step("fail", fail)
                await ctx.sleep("in the block", 5_000)
        except StepFailed as error:
            kinds = [result.error.kind.value for result in group.results if isinstance(result, Err)]
            return [error.step, str(ctx.now()), *kinds]
        return []

    assert survive(body, park_after=park_after).value == [
        "fail",
        "2026-01-01 00:00:00+00:00",
        "CANCELLED",
        "CANCELLED",
        "UNKNOWN",
    ]
    assert seen


def test_steps_of_a_group_that_failed_are_stopped_and_leave_no_record() -> None:
    async def body(ctx: WorkflowContext) -> str:
        try:
            async with ctx.parallel("group") as group:
                group.step("fail", fail)
                group.step("double", double, 1)
        except StepFailed:
            return await ctx.step("say", str, "caught")
        return ""

    world = World(body)
    world.claim()
    stopped = world.steps.running[1]
    world.settle()

    assert stopped.stopped
    assert [record.step_id for record in world.memory.records] == ["0.group#1/fail#1", "0/say#1"]


def test_several_failures_become_an_exception_group() -> None:
    async def untidy(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("long", 5_000)
        finally:
            raise RuntimeError("and the cleaning failed")

    async def body(ctx: WorkflowContext) -> list[str]:
        try:
            async with ctx.parallel("group") as group:
                group.start(untidy(ctx))
                group.step("fail", fail)
        except ExceptionGroup as errors:
            return [str(errors), *map(str, errors.exceptions)]
        return []

    assert survive(body).value == [
        "2 branches of parallel group 'group' failed (2 sub-exceptions)",
        "step 'fail' failed: ValueError: no",
        "and the cleaning failed",
    ]


def test_a_failure_that_spreads_through_branches_is_raised_once() -> None:
    async def pass_on(call: asyncio.Future[int]) -> int:
        return await call

    async def body(ctx: WorkflowContext) -> str:
        try:
            async with ctx.parallel("group") as group:
                call = group.step("fail", fail)
                group.start(pass_on(call))
                await call
        except StepFailed as error:
            return error.step
        return ""

    assert survive(body).value == "fail"


def test_a_block_that_awaits_the_failing_branch_gets_its_error_there_and_may_clean_up() -> None:
    async def body(ctx: WorkflowContext) -> list[str]:
        seen = []
        try:
            async with ctx.parallel("group") as group:
                try:
                    await group.step("fail", fail)
                except StepFailed:
                    seen.append(await ctx.step("undo", str, "undone"))
        except StepFailed as error:
            seen.append(error.step)
        return seen

    assert survive(body).value == ["undone", "fail"]


def test_a_join_within_the_block_raises_what_the_block_raises_then() -> None:
    async def untidy(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("long", 5_000)
        finally:
            raise RuntimeError("the cleaning failed")

    async def body(ctx: WorkflowContext) -> list[str]:
        seen: list[str] = []
        for branches in (1, 2):
            try:
                async with ctx.parallel("group") as group:
                    group.step("fail", fail)
                    for _ in range(1, branches):
                        group.start(untidy(ctx))
                    try:
                        await group.join()
                    except Exception as error:
                        seen.append(str(error))
                        raise
            except Exception as error:
                seen.append(str(error))
        return seen

    assert survive(body).value == [
        *["step 'fail' failed: ValueError: no"] * 2,
        *["2 branches of parallel group 'group' failed (2 sub-exceptions)"] * 2,
    ]


def test_after_a_failure_the_group_takes_no_more_branches() -> None:
    async def body(ctx: WorkflowContext) -> str:
        try:
            async with ctx.parallel("group") as group:
                try:
                    await group.step("fail", fail)
                except StepFailed:
                    group.step("double", double, 1)
        except ExceptionGroup as errors:
            return str(errors.exceptions[1])
        return ""

    assert "has failed, so the group takes no more" in str(survive(body).value)


def test_an_interrupted_block_leaves_its_task_as_it_was() -> None:
    async def body(ctx: WorkflowContext) -> int:
        try:
            async with ctx.parallel("group") as group:
                await asyncio.gather(group.step("fail", fail), group.step("double", double, 1))
        except StepFailed:
            pass
        try:
            async with ctx.parallel("group") as group:
                group.step("fail", fail)
                await ctx.sleep("long", 5_000)
        except StepFailed:
            pass
        task = asyncio.current_task()
        assert task is not None
        await ctx.sleep("after", 1)
        return task.cancelling()

    assert survive(body).value == 0


# -- failures: COLLECT_ALL ---------------------------------------------------------------------------------------


@BOTH
def test_collecting_lets_every_branch_end_and_raises_nothing(park_after: timedelta) -> None:
    async def own(ctx: WorkflowContext) -> int:
        await ctx.sleep("rest", 50)
        raise TimeoutError("of my own")

    async def body(ctx: WorkflowContext) -> list[Any]:
        async with ctx.parallel("group", on_error=COLLECT_ALL) as group:
            group.step("fail", fail)
            group.sleep("rest", 100)
            group.start(own(ctx))
            group.step("double", double, 4)
            given_up = group.sleep("long", 1_000)
            given_up.cancel()
        told: list[Any] = []
        for result in group.results:
            match result:
                case Ok(value):
                    told.append(value)
                case Err(error):
                    told.append([error.kind.value, error.type, error.message])
        return told

    assert survive(body, park_after=park_after).value == [
        [ErrorKind.UNKNOWN, "ValueError", "no"],
        None,
        [ErrorKind.TIMEOUT, "TimeoutError", "of my own"],
        8,
        [ErrorKind.CANCELLED, "CancelledError", "the branch was cancelled"],
    ]


def test_a_collected_branch_still_raises_where_it_is_awaited_or_unwrapped() -> None:
    async def body(ctx: WorkflowContext) -> list[str]:
        async with ctx.parallel("group", COLLECT_ALL) as group:
            call = group.step("fail", fail)
        said = []
        for look in (lambda: call.result(), lambda: group.results[0].unwrap()):
            try:
                look()
            except StepFailed as error:
                said.append(error.step)
        try:
            await call
        except StepFailed as error:
            said.append(error.error.message)
        return said

    assert survive(body).value == ["fail", "fail", "no"]


def test_an_exit_in_a_branch_ends_the_run_however_errors_are_collected() -> None:
    async def leave(ctx: WorkflowContext) -> None:
        await ctx.sleep("rest", 1)
        raise SystemExit(3)

    ended: set[str] = set()

    async def body(ctx: WorkflowContext) -> None:
        try:
            async with ctx.parallel("group", COLLECT_ALL) as group:
                group.start(leave(ctx))
                group.sleep("long", 1_000)
        except SystemExit:
            ended.add(str(ctx.now()))
            raise

    outcome = survive(body)

    assert outcome.status is RunStatus.FAILED
    assert "SystemExit" in str(outcome.error)
    assert ended == {"2026-01-01 00:00:01+00:00"}


# -- the block and what is around it -----------------------------------------------------------------------------


@pytest.mark.parametrize("on_error", ParallelErrorStrategy)
def test_an_error_of_the_block_cancels_the_branches(on_error: ParallelErrorStrategy) -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        try:
            async with ctx.parallel("group", on_error) as group:
                group.sleep("long", 5_000)
                group.step("double", double, 1)
                raise KeyError("mine")
        except KeyError:
            return [str(ctx.now()), *[result.is_ok for result in group.results]]

    assert survive(body).value == ["2026-01-01 00:00:00+00:00", False, False]


@pytest.mark.parametrize("on_error", ParallelErrorStrategy)
@BOTH
def test_a_timeout_around_a_group_cancels_everything_in_it(on_error: ParallelErrorStrategy, park_after: Any) -> None:
    seen: list[str] = []

    async def nested(ctx: WorkflowContext) -> None:
        try:
            async with ctx.parallel("inner") as inner:
                inner.sleep("long", 9_000)
        except asyncio.CancelledError:
            seen.append("inner")
            raise

    async def body(ctx: WorkflowContext) -> list[Any]:
        try:
            async with asyncio.timeout(60):
                async with ctx.parallel("group", on_error) as group:
                    group.start(nested(ctx))
                    group.sleep("long", 9_000)
        except TimeoutError:
            return [str(ctx.now()), *[result.is_ok for result in group.results]]
        return []

    assert survive(body, park_after=park_after).value == ["2026-01-01 00:01:00+00:00", False, False]
    assert seen


def test_a_cancellation_from_outside_goes_through_the_block() -> None:
    async def grouped(ctx: WorkflowContext, on_error: ParallelErrorStrategy) -> None:
        async with ctx.parallel("group", on_error) as group:
            group.sleep("long", 9_000)
            await ctx.sleep("in the block", 1)

    async def body(ctx: WorkflowContext) -> list[bool]:
        cancelled = []
        for on_error, after in [(FAIL_FAST, 0.5), (COLLECT_ALL, 0.5), (FAIL_FAST, 2), (COLLECT_ALL, 2)]:
            task = asyncio.create_task(grouped(ctx, on_error))
            await ctx.sleep("wait", after)
            task.cancel()
            await asyncio.wait([task])
            cancelled.append(task.cancelled())
        return cancelled

    assert survive(body).value == [True] * 4


def test_a_failure_while_the_group_is_cancelled_does_not_swallow_the_cancellation() -> None:
    async def untidy(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("long", 5_000)
        finally:
            raise RuntimeError("the cleaning failed")

    async def body(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.timeout(5), ctx.parallel("group") as group:
                group.start(untidy(ctx))
        except TimeoutError:
            return "timeout"
        return ""

    assert survive(body).value == "timeout"


def test_cleaning_up_durably_in_a_cancelled_branch_is_waited_for() -> None:
    async def tidy(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("long", 5_000)
        finally:
            await ctx.step("undo", double, 1)
            await ctx.sleep("cool down", 100)

    async def body(ctx: WorkflowContext) -> str:
        try:
            async with ctx.parallel("group") as group:
                group.start(tidy(ctx))
                group.step("fail", fail)
        except StepFailed:
            return str(ctx.now())
        return ""

    assert survive(body, park_after=COLD).value == "2026-01-01 00:01:40+00:00"


def test_a_nested_block_is_interrupted_by_a_failure_around_it() -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        nap = asyncio.Future[None]()
        try:
            async with ctx.parallel("outer") as outer:
                outer.step("fail", fail)
                async with outer.parallel("inner") as inner:
                    nap = inner.sleep("long", 5_000)
        except StepFailed as error:
            assert nap.cancelled()
            return [error.step, str(ctx.now())]
        return []

    assert survive(body).value == ["fail", "2026-01-01 00:00:00+00:00"]


def test_a_failure_in_a_nested_group_is_one_of_the_group_around_it() -> None:
    async def nested(ctx: WorkflowContext) -> None:
        async with ctx.parallel("inner") as inner:
            inner.step("fail", fail)
            inner.sleep("long", 5_000)

    async def body(ctx: WorkflowContext) -> list[Any]:
        async with ctx.parallel("outer", COLLECT_ALL) as outer:
            outer.start(nested(ctx))
            outer.step("double", double, 3)
        failed, well = outer.results
        return [failed.is_ok, well.unwrap()]

    assert survive(body).value == [False, 6]


def test_a_body_that_is_abandoned_in_a_block_is_closed_without_a_word() -> None:
    async def body(ctx: WorkflowContext) -> None:
        async with ctx.parallel("group") as group:
            await group.sleep("long", 5_000)

    world = World(body)
    execution = world.claim()
    task = execution._body._task
    assert task is not None
    coroutine = task.get_coro()
    assert isinstance(coroutine, Coroutine)

    coroutine.close()  # RuntimeError where it awaits something

    world.crash()


# -- misuse ------------------------------------------------------------------------------------------------------


def refusals(*misuses: Callable[[], object]) -> list[str]:
    """What is said of each."""
    said = []
    for misuse in misuses:
        with pytest.raises((KagziError, TypeError)) as refused:
            misuse()
        said.append(str(refused.value))
    return said


async def enter(group: ParallelExecutor) -> str:
    """What is said of another block."""
    try:
        async with group:
            return ""
    except KagziError as error:
        return str(error)


def test_a_group_that_ended_takes_no_branches() -> None:
    async def body(ctx: WorkflowContext) -> list[str]:
        async with ctx.parallel("group") as group:
            pass
        said = refusals(
            lambda: group.step("double", double, 1),
            lambda: group.options(timeout=5).step("double", double, 1),
            lambda: group.sleep("rest", 1),
            lambda: group.start(ctx.sleep("rest", 1)),
            lambda: group.parallel("inner"),
        )
        return [*said, await enter(group)]

    said: Any = survive(body).value

    assert len(said) == 6
    assert all("'group' has ended and takes no more branches" in each for each in said)


def test_results_before_the_end_a_second_block_and_what_is_no_awaitable_are_refused() -> None:
    async def body(ctx: WorkflowContext) -> list[str]:
        async with ctx.parallel("group") as group:
            group.step("double", double, 1)
            wrong: Any = double
            said = refusals(lambda: group.results, lambda: group.start(wrong))
            return [*said, await enter(group)]

    said: Any = survive(body).value

    early, no_awaitable, twice = said
    assert "has not ended yet" in early
    assert "can't start <function double" in no_awaitable
    assert "has a block already" in twice


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"group": ""}, ValueError, "the name of a parallel group is empty"),
        ({"group": 5}, TypeError, "the name of a parallel group must be text"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency of parallel group 'parallel' is 0"),
        ({"max_concurrency": True}, TypeError, "max_concurrency of parallel group 'parallel' must be a whole number"),
        ({"max_concurrency": 2.5}, TypeError, "must be a whole number, not 2.5"),
        ({"on_error": "SOMETIMES"}, ValueError, "on_error of parallel group 'parallel' is 'SOMETIMES'"),
    ],
)
def test_what_cannot_be_is_refused_at_the_call(arguments: Any, error: type[Exception], message: str) -> None:
    async def body(ctx: WorkflowContext) -> None:
        with pytest.raises(error, match=message):
            ctx.parallel(**arguments)

    assert survive(body).status is RunStatus.COMPLETED


def test_a_group_outside_of_the_body_is_refused() -> None:
    async def body(ctx: WorkflowContext) -> int:
        def misuse() -> int:
            ctx.parallel("group")
            return 1

        return await ctx.step("misuse", misuse)

    assert "used outside of the workflow's body" in str(World(body).finish().error)
