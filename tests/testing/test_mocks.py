"""Stand-ins for the functions of steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from unittest.mock import AsyncMock

import pytest

from kagzi import ErrorKind, Kagzi, WorkflowContext, WorkflowFailed, step, step_info
from kagzi.testing import Environment


@dataclass(frozen=True)
class Receipt:
    number: int


async def charge(amount: int, *, currency: str = "EUR") -> Receipt:
    raise AssertionError("the real function must not run")


@pytest.fixture
def shop(kagzi: Kagzi) -> Kagzi:
    @kagzi.workflow("shop")
    async def shop(ctx: WorkflowContext, amount: int) -> Receipt:
        receipt = await ctx.step("charge", charge, amount, currency="CHF")
        assert isinstance(receipt, Receipt)
        return receipt

    return kagzi


async def _async_stand_in(amount: int, currency: str) -> Receipt:
    return Receipt(amount)


@pytest.mark.parametrize(
    "stand_in",
    [
        _async_stand_in,
        lambda amount, currency: Receipt(amount),
        lambda amount, currency: _async_stand_in(amount, currency),
        Receipt(7),
        AsyncMock(return_value=Receipt(7)),
    ],
    ids=["async function", "plain function", "plain function that makes a coroutine", "value", "AsyncMock"],
)
async def test_a_step_can_be_mocked_by_anything(shop: Kagzi, stand_in: Any) -> None:
    async with Environment(shop) as env:
        mock = env.mock("charge", stand_in)
        handle = await shop.start_workflow("shop", 7)
        assert await handle.result() == Receipt(7)
        assert mock.calls == [((7,), {"currency": "CHF"})]
        assert mock.count == 1


async def test_an_exception_as_stand_in_is_raised(shop: Kagzi) -> None:
    async with Environment(shop) as env:
        env.mock("charge", ConnectionError("no network"))
        handle = await shop.start_workflow("shop", 7)
        with pytest.raises(WorkflowFailed) as failed:
            await handle.result()
        assert failed.value.error.kind is ErrorKind.NETWORK_ERROR
        assert "no network" in str(failed.value)


async def test_the_result_of_a_mock_goes_through_the_annotation_of_the_real_function(shop: Kagzi) -> None:
    """P24: what would be refused from the function is refused from its stand-in."""
    async with Environment(shop) as env:
        env.mock("charge", "not a receipt")
        handle = await shop.start_workflow("shop", 7)
        with pytest.raises(WorkflowFailed) as failed:
            await handle.result()
        assert failed.value.error.kind is ErrorKind.VALIDATION_FAILED


async def test_a_later_mock_replaces_an_earlier_one(shop: Kagzi) -> None:
    async with Environment(shop) as env:
        first = env.mock("charge", Receipt(1))
        await (await shop.start_workflow("shop", 7)).result()
        second = env.mock("charge", Receipt(2))
        assert await (await shop.start_workflow("shop", 7)).result() == Receipt(2)
        assert (first.count, second.count) == (1, 1)


async def test_a_mock_of_a_step_that_nobody_calls_is_fine(shop: Kagzi) -> None:
    async with Environment(shop) as env:
        unused = env.mock("no such step")
        env.mock("charge", Receipt(7))
        await (await shop.start_workflow("shop", 7)).result()
        assert unused.count == 0


async def test_mocks_end_with_their_environment(shop: Kagzi) -> None:
    async with Environment(shop) as env:
        env.mock("charge", Receipt(7))
    async with Environment(shop):
        handle = await shop.start_workflow("shop", 7)
        with pytest.raises(WorkflowFailed, match="the real function must not run"):
            await handle.result()


async def test_decorated_steps_and_step_info_work_with_mocks(kagzi: Kagzi) -> None:
    @step("greet")
    async def greet(name: str) -> str:
        raise AssertionError("the real function must not run")

    @kagzi.workflow
    async def hello(ctx: WorkflowContext) -> str:
        return await greet("you")

    async with Environment(kagzi) as env:
        env.mock("greet", lambda name: f"{name} from {step_info().name}")
        assert await (await hello.start()).result() == "you from greet"
