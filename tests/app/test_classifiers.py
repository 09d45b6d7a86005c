"""What an application says itself of the kinds of its errors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest

from kagzi import ErrorKind, Kagzi, StepError, WorkflowContext, WorkflowFailed
from kagzi.testing import Environment


class CardRefused(Exception):
    pass


class Teapot(ConnectionError):
    pass


async def kind_of(kagzi: Kagzi, error: BaseException) -> StepError:
    """How the failure of a step that raises `error` is recorded."""

    async def fail() -> None:
        raise error

    @kagzi.workflow
    async def failing(ctx: WorkflowContext) -> None:
        await ctx.step("fail", fail)

    async with Environment(kagzi):
        handle = await failing.start()
        with pytest.raises(WorkflowFailed) as failure:
            await handle.result(timeout=10)
        (step,) = await handle.history()

    assert step.error is not None
    assert failure.value.error.kind == step.error.kind
    return step.error


async def test_an_application_says_of_what_kind_its_errors_are() -> None:
    kagzi = Kagzi("sqlite://")

    @kagzi.classify_errors
    def ours(error: Exception) -> ErrorKind | None:
        return ErrorKind.BUSINESS_LOGIC_ERROR if isinstance(error, CardRefused) else None

    recorded = await kind_of(kagzi, CardRefused("no cover"))

    assert (recorded.kind, recorded.retryable) == (ErrorKind.BUSINESS_LOGIC_ERROR, False)
    assert ours(CardRefused()) is ErrorKind.BUSINESS_LOGIC_ERROR, "the function stays what it was"


async def test_what_an_application_leaves_is_classified_by_our_own_rules() -> None:
    kagzi = Kagzi("sqlite://")
    kagzi.classify_errors(lambda error: None)

    assert (await kind_of(kagzi, Teapot())).kind is ErrorKind.NETWORK_ERROR


async def test_of_several_classifiers_the_latest_is_asked_first() -> None:
    kagzi = Kagzi("sqlite://")
    asked = []

    def saying(kind: ErrorKind | None, name: str) -> Callable[[Exception], ErrorKind | None]:
        def say(error: Exception) -> ErrorKind | None:
            if isinstance(error, Teapot):
                asked.append(name)
                return kind
            return None

        return say

    kagzi.classify_errors(saying(ErrorKind.TIMEOUT, "first"))
    kagzi.classify_errors(saying(ErrorKind.NOT_FOUND, "second"))
    kagzi.classify_errors(saying(None, "third"))

    assert (await kind_of(kagzi, Teapot())).kind is ErrorKind.NOT_FOUND
    assert asked[:2] == ["third", "second"]
    assert "first" not in asked


class Awkward:
    """A classifier without a name of its own."""

    def __call__(self, error: Exception) -> Any:
        return "TIMEOUT"


@pytest.mark.parametrize(
    ("classifier", "name", "reason"),
    [
        (lambda error: 1 / 0, "<lambda>", "raised ZeroDivisionError"),
        (lambda error: sys.exit(), "<lambda>", "raised SystemExit"),
        (Awkward(), "Awkward", "returned str"),
    ],
    ids=["raises", "exits", "returns no kind"],
)
async def test_a_classifier_that_fails_is_passed_over_and_named_once(
    classifier: Any, name: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    kagzi = Kagzi("sqlite://")
    kagzi.classify_errors(classifier)

    with caplog.at_level(logging.WARNING, logger="kagzi.errors"):
        recorded = await kind_of(kagzi, ExceptionGroup("two", [Teapot(), Teapot()]))  # of which each is asked about

    assert recorded.kind is ErrorKind.NETWORK_ERROR
    (warning,) = (record for record in caplog.records if record.name == "kagzi.errors")
    assert name in vars(warning)["classifier"]
    assert reason in vars(warning)["reason"]


async def wait_for_it(error: Exception) -> None:
    """What can't be a classifier, as nobody awaits it."""


@pytest.mark.parametrize("wrong", [None, "TIMEOUT", wait_for_it])
def test_what_can_not_classify_is_refused_at_the_call(wrong: Any) -> None:
    with pytest.raises(TypeError, match="classify_errors"):
        Kagzi("sqlite://").classify_errors(wrong)
