"""Workflow programs whose steps and runs fail and are executed again: what `programs.py` has, and flaky steps.

Chance decides about a step once for all: which of its executions fail, and how, follows from their number alone, so it
is known what must become of each, whatever crashes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, cast

from kagzi import NonRetryable, RetryAfter, RetryPolicy, RetryPredicate, step_info
from kagzi.authoring.calls import StepCall
from kagzi.authoring.options import WorkflowOptions, workflow_options
from tests.engine.programs import (
    Boom,
    Choices,
    Gather,
    Machine,
    Part,
    Raise,
    Repeat,
    Seq,
    Sleep,
    Step,
    Try,
    make_program,
)


@dataclass(frozen=True)
class Flaky:
    """A step with a policy: its executions up to number `failures` fail; `by_hand` is what they raise, else Boom."""

    name: str
    failures: int
    most: int | None
    wait_s: float
    by_hand: type[NonRetryable | RetryAfter] | None = None
    never: bool = False

    @property
    def policy(self) -> RetryPolicy:
        """Its policy."""
        return RetryPolicy.fixed(self.wait_s, max_attempts=self.most)

    def is_tried_again(self, made: int) -> bool:
        """Whether an execution that failed is followed by another, after `made` in this attempt of the run."""
        if self.by_hand is NonRetryable or (self.most is not None and made >= self.most):
            return False
        return self.by_hand is RetryAfter or not self.never

    @property
    def pause_s(self) -> float:
        """How long the next execution must wait."""
        return ASKED_S if self.by_hand is RetryAfter else self.wait_s


@dataclass(frozen=True)
class Unlucky:
    """The body raises, up to this attempt of its run."""

    attempts: int


ASKED_S = 3.0
"""What RetryAfter asks for."""

_WAITS_S = (0.0, 0.3, 4.0, 900.0)
_BY_HAND = (None, None, None, None, None, RetryAfter, NonRetryable)


def make_retrying_program(shape: Choices, luck: Choices) -> tuple[Any, WorkflowOptions]:
    """Make up a program with flaky steps, and the policy of its run."""
    options = _some_options(luck)
    return _made_flaky(make_program(shape), luck), options


def make_calm_program(shape: Choices, luck: Choices) -> tuple[Any, WorkflowOptions]:
    """Make up a program whose outcome depends on nothing but itself: no races, no timeouts, no two at one thing."""
    parts = tuple(_calm_part(shape, luck, 0) for _ in range(1 + shape.below(4)))
    return Seq(parts), _some_options(luck)


def _some_options(choices: Choices) -> WorkflowOptions:
    if choices.below(4) == 0:
        return WorkflowOptions()
    return workflow_options(retry=RetryPolicy.fixed(_WAITS_S[choices.below(4)], max_attempts=1 + choices.below(4)))


def a_flaky_step(choices: Choices) -> Flaky:
    """Make up a flaky step."""
    return Flaky(
        "pqr"[choices.below(3)],
        failures=choices.below(8),
        most=(None, 1, 2, 3, 4)[choices.below(5)],
        wait_s=_WAITS_S[choices.below(4)],
        by_hand=_BY_HAND[choices.below(7)],
        never=choices.below(6) == 5,
    )


def _made_flaky(part: Any, choices: Choices) -> Any:
    """The program with half of its steps flaky, and some of its exceptions raised in early attempts only."""
    if isinstance(part, Step) and choices.flag():
        return a_flaky_step(choices)
    if isinstance(part, Raise) and choices.flag():
        return Unlucky(1 + choices.below(3))
    if isinstance(part, tuple):
        return tuple(_made_flaky(each, choices) for each in part)
    if not is_dataclass(part):
        return part
    return type(part)(**{each.name: _made_flaky(getattr(part, each.name), choices) for each in fields(part)})  # type: ignore[misc] # a Part


def _calm_part(shape: Choices, luck: Choices, depth: int) -> Any:
    kind = shape.below(9 if depth < 3 else 4)
    if kind < 2:
        return a_flaky_step(luck)
    if kind == 2:
        return Unlucky(luck.below(4))
    if kind == 3:
        return Sleep(_WAITS_S[luck.below(4)], named=luck.flag())
    if kind == 4:
        return Step("abc"[luck.below(3)], fails=luck.below(4) == 3)
    if kind == 5:
        return Repeat(2, _calm_part(shape, luck, depth + 1))
    if kind == 6:
        return Try(_calm_part(shape, luck, depth + 1), _calm_part(shape, luck, depth + 1))
    parts = tuple(_calm_part(shape, luck, depth + 1) for _ in range(1 + shape.below(3)))
    return Seq(parts) if kind == 7 else Gather(parts, keep_going=True)


class RetryingMachine(Machine):
    """Carries out a program with flaky steps. Where `calm`, each result follows from the step and its execution."""

    def __init__(self, program: Part, numbers: itertools.count[int], *, calm: bool = False) -> None:
        super().__init__(program, numbers)
        self._calm = calm

    async def body(self, ctx: Any) -> Any:
        """The workflow function."""
        value = await super().body(ctx)
        return [value[0], ctx.attempt] if self._calm else [*value, ctx.attempt]

    async def run(self, part: Any) -> Any:
        """Carry out a part."""
        if isinstance(part, Flaky):
            value = await self.try_hard(part)
            self.note("got", value)
            return value
        if isinstance(part, Unlucky):
            self.note("attempt", self._ctx.attempt)
            if self._ctx.attempt <= part.attempts:
                raise Boom(f"unlucky in attempt {self._ctx.attempt}")
            return "lucky"
        return await super().run(part)

    def start(self, part: Any) -> Any:
        """What is given to `gather` and the like."""
        return self.try_hard(part) if isinstance(part, Flaky) else super().start(part)

    def try_hard(self, part: Flaky) -> StepCall[Any]:
        """Call a flaky step."""
        retry_if = RetryPredicate.NEVER if part.never else None
        if part.by_hand is NonRetryable:
            retry_if = RetryPredicate.ON_ANY_ERROR
        ctx = self._ctx.options(retry=part.policy, retry_if=retry_if)
        call = ctx.step(part.name, partial(self._fail_at_first, part))
        self.note("asked", call.step_id)
        return call

    def _fail_at_first(self, part: Flaky) -> Any:
        info = step_info()
        if info.attempt > part.failures:
            return self._result()
        what = f"execution {info.attempt} of {info.step_id} fails"
        if part.by_hand is RetryAfter:
            raise RetryAfter(ASKED_S, what)
        raise NonRetryable(what) if part.by_hand is NonRetryable else Boom(what)

    def _succeed(self) -> int:
        return cast(int, self._result())

    def _result(self) -> Any:
        if not self._calm:
            return super()._succeed()
        info = step_info()
        return f"{info.step_id} at {info.attempt}"

    def _fail(self) -> int:
        raise Boom("no" if self._calm else f"no {next(self._numbers)}")


def flaky_of(call: StepCall[Any]) -> Flaky | None:
    """What a step call is of, where it is of a flaky step."""
    fn = call.fn
    return fn.args[0] if isinstance(fn, partial) else None
