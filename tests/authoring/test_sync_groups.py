"""Parallel groups in the bodies of `def` workflows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kagzi import (
    KagziError,
    ParallelErrorStrategy,
    ParallelExecutor,
    StepFailed,
    SyncParallelExecutor,
    SyncWorkflowContext,
)
from kagzi.authoring.sync_context import as_coroutine_function
from tests.engine.host import COLD, WARM, Outcome, survive

BOTH = pytest.mark.parametrize("park_after", [WARM, COLD], ids=["warm", "parked"])


def outcome(body: Callable[..., Any], *, park_after: timedelta = WARM) -> Outcome:
    return survive(as_coroutine_function(body), park_after=park_after)


def double(number: int) -> int:
    return 2 * number


def fail() -> int:
    raise ValueError("no")


@BOTH
def test_steps_parts_sleeps_and_groups_are_branches(park_after: timedelta) -> None:
    def part(ctx: SyncWorkflowContext, number: int) -> int:
        ctx.sleep("rest", 10)
        return ctx.step("double", double, number)

    def body(ctx: SyncWorkflowContext) -> list[Any]:
        with ctx.parallel("outer", max_concurrency=2) as outer:
            outer.submit("double", double, 1)
            outer.spawn(part, ctx, 2)
            outer.sleep("rest", 5)
            with outer.parallel("inner") as inner:
                nine = inner.submit("double", double, 9)
        return [str(ctx.now()), [result.unwrap() for result in outer.results], nine.result()]

    assert outcome(body, park_after=park_after).value == ["2026-01-01 00:00:10+00:00", [2, 4, None], 18]


@BOTH
def test_the_first_failure_interrupts_the_block_and_is_raised(park_after: timedelta) -> None:
    def body(ctx: SyncWorkflowContext) -> list[Any]:
        try:
            with ctx.parallel("group") as group:
                group.submit("fail", fail)
                ctx.sleep("long", 5_000)
        except StepFailed as error:
            ctx.sleep("after", 1)
            return [error.step, str(ctx.now())]
        return []

    assert outcome(body, park_after=park_after).value == ["fail", "2026-01-01 00:00:01+00:00"]


def test_an_error_of_the_block_cancels_the_branches() -> None:
    def body(ctx: SyncWorkflowContext) -> list[Any]:
        group = ctx.parallel("group")
        try:
            with group:
                group.sleep("long", 5_000)
                raise KeyError("mine")
        except KeyError:
            return [str(ctx.now()), group.results[0].is_ok]

    assert outcome(body).value == ["2026-01-01 00:00:00+00:00", False]


def test_an_executor_needs_no_block_and_collects() -> None:
    def body(ctx: SyncWorkflowContext) -> list[Any]:
        group: SyncParallelExecutor = ctx.parallel("group", ParallelErrorStrategy.COLLECT_ALL)
        first = group.execute_step("double", double, 1)
        group.execute_step("fail", fail)
        told = [result.is_ok for result in group.join()]
        try:
            group.execute_step("double", double, 2)
        except KagziError as error:
            return [*told, first.result(), str(error)]
        return []

    value: Any = outcome(body).value
    assert value[:3] == [True, False, 2]
    assert "has ended and takes no more branches" in value[3]


def test_a_branch_can_have_options_of_its_own() -> None:
    def body(ctx: SyncWorkflowContext) -> int:
        with ctx.parallel("group") as group:
            call = group.options(timeout=3).submit("double", double, 1)
        assert group.results[0].unwrap() == 2
        return call.result()

    assert outcome(body).value == 2


def test_an_executor_of_the_async_kind_says_what_to_use_instead() -> None:
    def body(ctx: SyncWorkflowContext) -> str:
        wrong: Any = ctx
        with pytest.raises(TypeError) as refused:
            ParallelExecutor(wrong, "group")
        return str(refused.value)

    assert "open one by parallel(...)" in str(outcome(body).value)


def test_race_and_map_wait_like_any_other_verb() -> None:
    def late(ctx: SyncWorkflowContext, seconds: float) -> float:
        ctx.sleep("wait", seconds)
        return seconds

    def body(ctx: SyncWorkflowContext) -> list[Any]:
        place, value = ctx.race(ctx.spawn(late, ctx, 50), ctx.spawn(late, ctx, 5))
        return [place, value, ctx.map("double", double, [1, 2, 3], max_concurrency=2)]

    assert outcome(body).value == [1, 5, [2, 4, 6]]
