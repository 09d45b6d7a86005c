"""`StepBuilder`: options by chaining."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kagzi import StepBuilder, SyncWorkflowContext, WorkflowContext, step
from kagzi.authoring.options import StepOptions
from kagzi.authoring.sync_context import as_coroutine_function
from kagzi.model.retry import RetryPolicy
from kagzi.rules.retries import RetryPredicate
from tests.engine.host import World, survive

WRONG: Any = 5
POLICY = RetryPolicy.fixed(5, max_attempts=3)


def double(number: int, *, plus: int = 0) -> int:
    return 2 * number + plus


def options_of(world: World) -> list[StepOptions]:
    world.claim()
    options = [running.call.options for running in world.steps.running]
    world.crash()
    return options


def test_a_builder_executes_a_step_with_its_name_and_options() -> None:
    built = StepBuilder("call").retry_policy(POLICY).retry_predicate(RetryPredicate.NEVER).timeout(5).key("k")

    async def body(ctx: WorkflowContext) -> list[int]:
        return await ctx.gather(*[built.execute(ctx, double, number, plus=1) for number in range(2)])

    world = World(body)
    expected = StepOptions(retry=POLICY, retry_if=RetryPredicate.NEVER, timeout=timedelta(seconds=5), key="k")
    assert options_of(world) == [expected] * 2
    assert survive(body).value == [1, 3]


def test_each_verb_gives_another_builder_and_leaves_this_one_as_it_is() -> None:
    plain = StepBuilder("call")
    patient = plain.timeout(60)
    patient.timeout(1).key("other")

    async def body(ctx: WorkflowContext) -> None:
        await ctx.gather(plain.execute(ctx, double, 1), patient.execute(ctx, double, 1))

    assert [each.timeout for each in options_of(World(body))] == [None, timedelta(seconds=60)]


def test_what_is_built_goes_before_the_context_and_the_step_s_own() -> None:
    @step(timeout=1, retry=POLICY)
    def marked(number: int) -> int:
        return number

    async def body(ctx: WorkflowContext) -> None:
        await StepBuilder("call").timeout(7).execute(ctx.options(timeout=3, key="k"), marked, 1)

    (options,) = options_of(World(body))
    assert (options.timeout, options.key, options.retry) == (timedelta(seconds=7), "k", POLICY)


def test_in_a_def_workflow_a_built_step_gives_its_value() -> None:
    def body(ctx: SyncWorkflowContext) -> list[int]:
        value: int = StepBuilder("call").timeout(5).execute(ctx, double, 1)
        return [value, ctx.submit("double", double, 2).result()]

    assert survive(as_coroutine_function(body)).value == [2, 4]


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: StepBuilder(""), ValueError, "the name of a step is empty"),
        (lambda: StepBuilder("call").retry_policy(WRONG), TypeError, "retry must be a RetryPolicy"),
        (lambda: StepBuilder("call").retry_predicate(WRONG), TypeError, "retry_if must be a RetryPredicate"),
        (lambda: StepBuilder("call").timeout(-1), ValueError, "can't be negative"),
        (lambda: StepBuilder("call").key(""), ValueError, "the key of a step is empty"),
        (lambda: StepBuilder("call").execute(WRONG, str), TypeError, "step 'call' is executed in a workflow"),
    ],
)
def test_what_cannot_be_is_refused_at_the_call(build: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
