"""Steps that are executed at most once, and those that give signs of life, in an environment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kagzi import NOT_EXECUTED, Kagzi, RetryPolicy, StepInterrupted, WorkflowContext, step_info
from kagzi.testing import Environment

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Bank:
    """Charges once for each idempotency key, and can be asked."""

    def __init__(self) -> None:
        self.charged: list[str] = []

    async def charge(self) -> str:
        self.charged.append(step_info().idempotency_key)
        return "charged"

    async def find(self) -> Any:
        return "charged" if step_info().idempotency_key in self.charged else NOT_EXECUTED


async def test_a_step_that_is_reconciled_survives_a_crash_at_every_write(kagzi: Kagzi) -> None:
    async with Environment(kagzi) as env:
        banks: list[Bank] = []

        @kagzi.workflow
        async def buy(ctx: WorkflowContext) -> str:
            bank = banks[-1]
            once = ctx.options(semantics="at_most_once", reconcile=bank.find)
            await ctx.step("before", str)
            return await once.step("charge", bank.charge)

        banks.append(Bank())
        report = await env.crash_everywhere(buy)

    assert report.writes == (
        "start of the run",
        "checkpoint of step 'before'",
        "mark of step 'charge'",
        "checkpoint of step 'charge'",
        "completion of the run",
    )
    assert (report.crashes, report.interrupted) == (10, ())


async def test_a_step_that_is_not_reconciled_is_interrupted_and_never_executed_twice(kagzi: Kagzi) -> None:
    calls: list[int] = []

    async def charge() -> str:
        calls.append(1)
        return "charged"

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        try:
            return await ctx.options(semantics="at_most_once").step("charge", charge)
        except StepInterrupted:
            await ctx.step("tell somebody", str)
            return "to be looked at"

    async with Environment(kagzi) as env:
        report = await env.crash_everywhere(buy)

    assert report.interrupted == ("charge",)
    assert len(calls) == 1 + report.crashes - 1  # a crash after the mark comes before the call


async def test_a_reconcile_has_a_stand_in_too(kagzi: Kagzi) -> None:
    async def find(amount: int) -> Any:
        raise AssertionError("the real one")

    async def charge(amount: int) -> str:
        raise AssertionError("the real one")

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        once = ctx.options(semantics="at_most_once", reconcile=find, timeout=60)
        return await once.step("charge", charge, 5)

    async with Environment(kagzi) as env:
        mock = env.mock("charge", lambda amount: env.sleep(HOUR), reconcile=lambda amount: f"found {amount}")
        handle = await buy.start()
        await env.advance(HOUR)
        assert await handle.result() == "found 5"

    assert mock.reconcile is not None
    assert (mock.calls, mock.reconcile.calls) == ([((5,), {})], [((5,), {})])


async def test_a_silent_step_is_executed_again_in_virtual_time_with_what_it_told_last(kagzi: Kagzi) -> None:
    seen: list[Any] = []

    async def crawl() -> str:
        raise AssertionError("the real one")

    @kagzi.workflow
    async def index(ctx: WorkflowContext) -> str:
        silent = ctx.options(heartbeat_timeout=HOUR, retry=RetryPolicy.fixed(HOUR, max_attempts=2))
        return await silent.step("crawl", crawl)

    async with Environment(kagzi, now=NEW_YEAR) as env:

        async def stand_in() -> str:
            seen.append((env.now() - NEW_YEAR, step_info().heartbeat_details))
            if len(seen) == 1:
                for page in range(3):
                    step_info().heartbeat({"page": page})
                    await env.sleep(HOUR / 2)
                await env.sleep(2 * HOUR)
            return "done"

        env.mock("crawl", stand_in)
        handle = await index.start()
        await env.advance(HOUR)
        (told,) = await handle.history()
        await env.advance(3 * HOUR)
        assert await handle.result() == "done"

    assert told.heartbeat_details == {"page": 2}
    assert told.heartbeat_at == NEW_YEAR + HOUR
    assert seen == [(timedelta(), None), (3 * HOUR, {"page": 2})]


async def test_heartbeats_change_nothing_of_what_survives_crashes(kagzi: Kagzi) -> None:
    async def crawl() -> int:
        for page in range(5):
            step_info().heartbeat(page)
        return 5

    @kagzi.workflow
    async def index(ctx: WorkflowContext) -> int:
        return await ctx.options(heartbeat_timeout=HOUR).step("crawl", crawl)

    async with Environment(kagzi) as env:
        report = await env.crash_everywhere(index)

    assert report.writes == ("start of the run", "checkpoint of step 'crawl'", "completion of the run")


@pytest.mark.parametrize("details", [float("nan"), object(), {1, 2}, "x" * 300_000])
async def test_details_that_cannot_be_kept_are_refused_at_the_call(kagzi: Kagzi, details: Any) -> None:
    async def crawl() -> str:
        try:
            step_info().heartbeat(details)
        except Exception as error:
            return type(error).__name__
        return "kept"

    @kagzi.workflow
    async def index(ctx: WorkflowContext) -> str:
        return await ctx.step("crawl", crawl)

    async with Environment(kagzi) as env:
        handle = await index.start()
        await env.settle()
        assert (await handle.result()).startswith("Payload")
