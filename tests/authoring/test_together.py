"""`ctx.gather`, `ctx.race`, `ctx.map` and `ctx.as_completed` survive a crash after each commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import pytest

from kagzi import Err, KagziError, Ok, ParallelErrorStrategy, StepFailed, WorkflowContext
from kagzi.model.run import RunStatus
from tests.engine.host import COLD, WARM, World, survive

COLLECT_ALL: Final = ParallelErrorStrategy.COLLECT_ALL
BOTH = pytest.mark.parametrize("park_after", [WARM, COLD], ids=["warm", "parked"])


def double(number: int) -> int:
    return 2 * number


def check(number: int) -> int:
    if number % 3 == 2:
        raise ValueError(f"not {number}")
    return number


def fail() -> int:
    raise ValueError("no")


async def late(ctx: WorkflowContext, seconds: float, value: int) -> int:
    await ctx.sleep("wait", seconds)
    return value


# -- gather ------------------------------------------------------------------------------------------------------


@BOTH
def test_gather_gives_results_in_the_order_of_the_calls(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        call = ctx.step("double", double, 2)
        return list(await ctx.gather(late(ctx, 60, 1), call, call, asyncio.ensure_future(late(ctx, 5, 9))))

    assert survive(body, park_after=park_after).value == [1, 4, 4, 9]


@BOTH
def test_gather_cancels_the_others_when_one_fails_and_raises_its_error(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        other = asyncio.ensure_future(late(ctx, 5_000, 1))
        try:
            await ctx.gather(other, ctx.step("fail", fail), ctx.sleep("long", 9_000))
        except StepFailed as error:
            return [error.step, other.cancelled(), str(ctx.now())]
        return []

    assert survive(body, park_after=park_after).value == ["fail", True, "2026-01-01 00:00:00+00:00"]


def test_gather_of_nothing_gives_nothing() -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        return await ctx.gather(*list[Awaitable[int]]())

    assert survive(body).value == []


def test_gather_that_is_cancelled_cancels_its_calls_and_waits_for_their_end() -> None:
    async def tidy(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("long", 5_000)
        finally:
            await ctx.step("undo", double, 1)

    async def body(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.timeout(5):
                await ctx.gather(tidy(ctx), late(ctx, 1, 1))
        except TimeoutError:
            return str(ctx.now())
        return ""

    world = World(body)
    world.finish()
    assert survive(body).value == "2026-01-01 00:00:05+00:00"
    assert world.steps.executed == ["0.1/undo#1"]


# -- race --------------------------------------------------------------------------------------------------------


@BOTH
def test_the_first_to_finish_wins_and_the_others_are_cancelled(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        slow = asyncio.ensure_future(late(ctx, 500, 1))
        place, value = await ctx.race(slow, late(ctx, 50, 2), ctx.sleep("long", 5_000))
        return [place, value, slow.cancelled(), str(ctx.now())]

    assert survive(body, park_after=park_after).value == [1, 2, True, "2026-01-01 00:00:50+00:00"]


@BOTH
def test_a_race_that_a_failure_wins_raises_it(park_after: timedelta, caplog: pytest.LogCaptureFixture) -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        try:
            await ctx.race(late(ctx, 500, 1), ctx.step("fail", fail))
        except StepFailed as error:
            return [error.step, str(ctx.now())]
        return []

    assert survive(body, park_after=park_after).value == ["fail", "2026-01-01 00:00:00+00:00"]
    assert caplog.records == []


def test_a_race_that_is_cancelled_waits_until_all_calls_have_cleaned_up() -> None:
    async def tidy(ctx: WorkflowContext, seconds: float) -> None:
        try:
            await ctx.sleep("long", 5_000)
        finally:
            await ctx.sleep("cool down", seconds)

    async def body(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.timeout(5):
                await ctx.race(tidy(ctx, 1), tidy(ctx, 10))
        except TimeoutError:
            return str(ctx.now())
        return ""

    assert survive(body, park_after=COLD).value == "2026-01-01 00:00:15+00:00"


def test_of_calls_that_are_done_already_the_first_wins() -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        calls = [ctx.step("double", double, number) for number in range(3)]
        await ctx.gather(*calls)
        pending = ctx.step("double", double, 9)
        return [list(await ctx.race(pending, *calls)), list(await ctx.race(calls[2], calls[1], calls[2]))]

    assert survive(body).value == [[1, 0], [0, 4]]


def test_a_step_that_lost_is_stopped_and_leaves_no_record() -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        return list(await ctx.race(ctx.step("a", double, 1), ctx.step("b", double, 2)))

    world = World(body)
    world.claim()
    first, second = world.steps.running
    world.steps.end(second)
    world.settle()

    assert first.stopped
    assert [record.step_id for record in world.memory.records] == ["0/b#1"]


def test_losers_clean_up_before_the_race_is_over() -> None:
    async def tidy(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("long", 5_000)
        finally:
            await ctx.sleep("cool down", 100)

    async def body(ctx: WorkflowContext) -> list[Any]:
        place, _ = await ctx.race(tidy(ctx), late(ctx, 10, 1))
        return [place, str(ctx.now())]

    assert survive(body, park_after=COLD).value == [1, "2026-01-01 00:01:50+00:00"]


def test_a_loser_that_fails_is_told_of_and_does_not_take_the_result_away(caplog: pytest.LogCaptureFixture) -> None:
    async def untidy(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("long", 5_000)
        finally:
            raise RuntimeError("the cleaning failed")

    async def body(ctx: WorkflowContext) -> list[Any]:
        return list(await ctx.race(untidy(ctx), late(ctx, 10, 1)))

    with caplog.at_level(logging.WARNING):
        assert World(body).finish().value == [1, 1]
    assert [record.message for record in caplog.records] == [
        "A call that lost a race failed, and nobody else will hear of it."
    ]


# -- map ---------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("limit", [None, 1, 2, 100])
def test_map_gives_results_in_the_order_of_the_items(park_after: timedelta, limit: int | None) -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        return await ctx.map("double", double, (number for number in range(7)), max_concurrency=limit)

    assert survive(body, park_after=park_after).value == [0, 2, 4, 6, 8, 10, 12]


def test_map_bounds_how_many_steps_are_under_way() -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        return await ctx.map("double", double, range(7), max_concurrency=3)

    world = World(body)
    world.claim()

    assert len(world.steps.running) == 3
    world.crash()


def test_map_raises_the_first_failure_and_stops_the_rest() -> None:
    async def body(ctx: WorkflowContext) -> str:
        try:
            await ctx.map("check", check, range(7), max_concurrency=2)
        except StepFailed as error:
            return error.error.message
        return ""

    world = World(body)
    assert world.finish().value == "not 2"
    assert len(world.steps.executed) < 7
    assert survive(body).value == "not 2"


@pytest.mark.parametrize("strategy", [COLLECT_ALL, "COLLECT_ALL"], ids=["member", "text"])
def test_map_collects_failures(strategy: Any) -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        results: list[Any] = await ctx.map("check", check, range(4), on_error=strategy)
        assert [type(result) for result in results] == [Ok, Ok, Err, Ok]
        return [result.value if isinstance(result, Ok) else result.error.message for result in results]

    assert survive(body).value == [0, 1, "not 2", 3]


def test_map_refuses_items_without_an_order_of_their_own() -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        with pytest.raises(TypeError, match="are a set, whose order is another in every replay"):
            await ctx.map("double", double, {1, 2})
        with pytest.raises(TypeError, match="are a frozenset"):
            await ctx.map("double", double, frozenset([1, 2]))
        return await ctx.map("double", double, {1: "a", 2: "b"}.keys())

    assert survive(body).value == [2, 4]


# -- as_completed ------------------------------------------------------------------------------------------------


@BOTH
def test_as_completed_gives_each_result_when_it_comes(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        twice = ctx.step("double", double, 7)
        calls = [late(ctx, 30, 1), late(ctx, 10, 2), twice, twice]
        return [[value, str(ctx.now())[17:19]] async for value in ctx.as_completed(*calls)]

    assert survive(body, park_after=park_after).value == [[14, "00"], [2, "10"], [1, "30"]]


def test_as_completed_raises_a_failure_in_its_turn() -> None:
    async def body(ctx: WorkflowContext) -> list[Any]:
        seen: list[Any] = []
        try:
            async for value in ctx.as_completed(late(ctx, 1, 5), late(ctx, 3, 6), late_failure(ctx, 2)):
                seen += [value]
        except StepFailed as error:
            seen.append(error.step)
        return seen

    assert survive(body).value == [5, "fail"]


async def late_failure(ctx: WorkflowContext, seconds: float) -> int:
    await ctx.sleep("wait", seconds)
    return await ctx.step("fail", fail)


# -- all of them -------------------------------------------------------------------------------------------------

Misuse = Callable[[WorkflowContext], Awaitable[Any]]


async def _drop_first(ctx: WorkflowContext, *calls: Any) -> list[Any]:
    return [value async for value in ctx.as_completed(*calls)]


@pytest.mark.parametrize(
    ("misuse", "error", "message"),
    [
        (lambda ctx: ctx.gather(ctx.step("a", double, 1), 5), TypeError, "argument 2 of gather is 5"),
        (lambda ctx: ctx.gather([ctx.step("a", double, 1)]), TypeError, r"a list as ctx.gather\(\*calls\)"),
        (lambda ctx: ctx.race(None), TypeError, "argument 1 of race is None"),
        (lambda ctx: ctx.race(), ValueError, "race needs at least one call"),
        (lambda ctx: _drop_first(ctx, 5), TypeError, "argument 1 of as_completed is 5"),
        (lambda ctx: ctx.map("a", double, 5), TypeError, "not iterable"),
        (lambda ctx: ctx.map("a", 5, [1]), TypeError, "step 'a' needs a function"),
        (lambda ctx: ctx.map("", double, [1]), ValueError, "is empty"),
        (lambda ctx: ctx.map("a", double, [1], max_concurrency=0), ValueError, "max_concurrency .* is 0"),
    ],
)
def test_what_cannot_be_is_refused(misuse: Misuse, error: type[Exception], message: str) -> None:
    async def body(ctx: WorkflowContext) -> None:
        with pytest.raises(error, match=message):
            await misuse(ctx)

    assert survive(body).status is RunStatus.COMPLETED


@pytest.mark.parametrize(
    "misuse",
    [
        lambda ctx: ctx.gather(_done()),
        lambda ctx: ctx.race(_done()),
        lambda ctx: ctx.map("double", double, [1]),
        lambda ctx: _drop_first(ctx, _done()),
    ],
    ids=["gather", "race", "map", "as_completed"],
)
async def test_outside_of_the_body_they_are_refused(misuse: Misuse) -> None:
    kept: list[WorkflowContext] = []

    async def keep(ctx: WorkflowContext) -> None:
        kept.append(ctx)
        await ctx.sleep("long", 100)

    world = World(keep)
    world.claim()

    with pytest.raises(KagziError, match="used outside of the workflow's body"):
        await misuse(kept[0])
    world.crash()


def _done() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future
