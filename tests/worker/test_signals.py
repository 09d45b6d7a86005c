"""Signals: received in order, each once, by whoever still waits."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from kagzi import (
    ConfigError,
    Event,
    Kagzi,
    PayloadError,
    RunClosed,
    RunNotFound,
    Signal,
    Update,
    WorkflowContext,
    WorkflowHandle,
)

OPENED = Signal("opened", bool)
WORD = Signal("word", str)


@pytest.fixture
def kagzi(any_database_url: str) -> Kagzi:
    return Kagzi(any_database_url)


async def test_signals_are_received_in_order_before_and_after_the_wait(kagzi: Kagzi) -> None:
    """P19."""

    @kagzi.workflow
    async def listen(ctx: WorkflowContext) -> list[str]:
        return [await ctx.wait_for(WORD) for _ in range(4)]

    async with kagzi:
        handle = await listen.start()
        await handle.signal(WORD, "before")
        await handle.signal(WORD, "the worker")
        async with kagzi.create_worker():
            await until_waiting(handle)
            await handle.signal(WORD, "and")
            await handle.signal(WORD, "after")
            words = await handle.result(timeout=30)

    assert words == ["before", "the worker", "and", "after"]


async def test_a_signal_is_received_while_the_run_is_in_memory(kagzi: Kagzi) -> None:
    release = asyncio.Event()

    async def long() -> str:
        await release.wait()
        return "long"

    @kagzi.workflow
    async def both(ctx: WorkflowContext) -> str:
        step = asyncio.ensure_future(ctx.step("long", long))
        word = await ctx.wait_for(WORD)
        release.set()
        return f"{word} {await step}"

    async with kagzi, kagzi.create_worker():
        handle = await both.start()
        await handle.signal(WORD, "short")
        assert await handle.result(timeout=30) == "short long"


async def test_a_signal_whose_wait_was_given_up_is_kept_for_the_next(kagzi: Kagzi) -> None:
    """P19, P20."""

    @kagzi.workflow
    async def patient(ctx: WorkflowContext) -> list[str]:
        try:
            await ctx.wait_for(WORD, timeout=timedelta(milliseconds=20))
        except TimeoutError as error:
            return [str(error), await ctx.wait_for(WORD)]
        raise AssertionError("a word came too early")

    async with kagzi, kagzi.create_worker():
        handle = await patient.start()
        await until_waiting(handle)
        await handle.signal(WORD, "late")
        told, word = await handle.result(timeout=30)

    assert (told, word) == ("no signal 'word' came within 0:00:00.020000.", "late")


async def test_a_signal_that_is_there_goes_before_a_timeout_that_is_over_at_once(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def look(ctx: WorkflowContext) -> list[str]:
        found: list[str] = []
        for _ in range(3):
            try:
                found.append(await ctx.wait_for(WORD, timeout=0))
            except TimeoutError as error:
                found.append(str(error))
        return found

    async with kagzi:
        handle = await look.start()
        for word in ("one", "two"):
            await handle.signal(WORD, word)
        async with kagzi.create_worker():
            found = await handle.result(timeout=30)

    assert found == ["one", "two", "no signal 'word' came within 0:00:00."]


async def test_whoever_comes_first_wins(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def either(ctx: WorkflowContext) -> tuple[int, bool | str]:
        return await ctx.race(ctx.wait_for(OPENED), ctx.wait_for(WORD))

    async with kagzi, kagzi.create_worker():
        handle = await either.start()
        await handle.signal(WORD, "first")
        assert await handle.result(timeout=30) == (1, "first")


async def test_a_value_that_does_not_fit_is_refused_where_it_is_sent(kagzi: Kagzi) -> None:
    """P24."""

    @kagzi.workflow
    async def listen(ctx: WorkflowContext) -> bool:
        return await ctx.wait_for(OPENED)

    async with kagzi:
        handle = await listen.start()
        with pytest.raises(PayloadError, match="opened"):
            await handle.signal(OPENED, "yes")  # type: ignore[misc] # the point of the test
        with pytest.raises(RunNotFound):
            await kagzi.handle("01997e00-0000-7000-8000-00000000c0de").signal(OPENED, True)


async def test_a_value_that_the_code_can_not_read_raises_where_it_is_awaited(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def listen(ctx: WorkflowContext) -> str:
        try:
            await ctx.wait_for(OPENED)
        except PayloadError:
            second = await ctx.wait_for(OPENED)
            return str(second)
        return "read"

    async with kagzi, kagzi.create_worker():
        handle = await listen.start()
        await handle.signal(Signal("opened"), "a text")
        await handle.signal(OPENED, True)
        assert await handle.result(timeout=30) == "True"


async def test_a_wait_for_what_can_never_be_read_or_is_no_signal_is_refused_at_the_call(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def listen(ctx: WorkflowContext) -> list[str]:
        odd: list[Any] = [
            Signal("s", object()),
            Signal("s", Kagzi),
            Update("u", int, Kagzi),
            Event("e"),
            "opened",
        ]
        refusals: list[str] = []
        for wanted in odd:
            try:
                await ctx.wait_for(wanted)
            except (ConfigError, TypeError) as error:
                refusals.append(f"{type(error).__name__}: {error}")
        return refusals

    async with kagzi:
        handle = await listen.start()
        await handle.signal(Signal("s"), 1)
        async with kagzi.create_worker():
            refusals = await handle.result(timeout=30)
        with pytest.raises(ConfigError, match="Kagzi can't be stored"):
            await handle.update(Update("u", int, Kagzi), 1)

    assert [each.partition(" ")[0] for each in refusals] == ["ConfigError:"] * 3 + ["TypeError:"] * 2
    assert all("can't be stored" in each for each in refusals[:3])
    assert all("give a Signal" in each for each in refusals[3:])


async def test_a_run_that_has_ended_takes_no_signal(kagzi: Kagzi) -> None:
    """P19."""

    @kagzi.workflow
    async def short(ctx: WorkflowContext) -> None:
        return None

    async with kagzi, kagzi.create_worker():
        handle = await short.start()
        await handle.result(timeout=30)
        with pytest.raises(RunClosed, match="COMPLETED"):
            await handle.signal(OPENED, True)


async def until_waiting(handle: WorkflowHandle[Any]) -> None:
    """Wait until the run sleeps for a signal."""
    async with asyncio.timeout(30):
        # ASYNC110: nobody tells when a run has parked.
        while not any("signal" in text for text in (await handle.describe()).waiting_for):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
