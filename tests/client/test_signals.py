"""Sending signals: by id or run id, with a start, once whatever happens to the answer."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from kagzi import (
    ConfigError,
    ConflictError,
    Kagzi,
    OutcomeUnknown,
    RunClosed,
    RunNotFound,
    Settings,
    Signal,
    Update,
    WorkflowContext,
    WorkflowHandle,
)
from kagzi.client.workflow import Workflow
from tests.app.watched_store import WatchedStore

ADDED = Signal("added", str)


def a_cart(kagzi: Kagzi) -> Workflow[[str], list[str]]:
    @kagzi.workflow("cart")
    async def cart(ctx: WorkflowContext, owner: str) -> list[str]:
        items: list[str] = []
        while (item := await ctx.wait_for(ADDED)) != "pay":
            items.append(item)
        return items

    return cart


async def values(handle: WorkflowHandle[Any]) -> list[Any]:
    return [each.value for each in (await handle.describe()).undelivered]


async def test_a_signal_finds_its_run_by_id_or_run_id(kagzi: Kagzi) -> None:
    handle = await a_cart(kagzi).options(id="cart-7").start("Ada")

    await kagzi.signal("cart-7", ADDED, "a book")
    await kagzi.signal(handle.run_id, ADDED, "a pen")

    assert await values(handle) == ["a book", "a pen"]
    for unknown in ("cart-8", "01997e00-0000-7000-8000-00000000c0de"):
        with pytest.raises(RunNotFound):
            await kagzi.signal(unknown, ADDED, "a cup")


async def test_a_dedup_key_keeps_one(kagzi: Kagzi) -> None:
    handle = await a_cart(kagzi).start("Ada")

    for _ in range(3):
        await handle.signal(ADDED, "a book", dedup_key="click-1")

    assert await values(handle) == ["a book"]


async def test_a_dedup_key_that_another_message_has_is_a_conflict(kagzi: Kagzi) -> None:
    handle = await a_cart(kagzi).options(id="cart-7").start("Ada")
    await handle.signal(ADDED, "a book", dedup_key="click-1")

    for sending in (
        handle.signal(Signal("paid", str), "all", dedup_key="click-1"),
        kagzi.signal("cart-7", Signal("paid", str), "all", dedup_key="click-1"),
        handle.update(Update("added", str, str), "a book", dedup_key="click-1", timeout=30),
    ):
        with pytest.raises(ConflictError, match=r"was not sent.*dedup_key 'click-1'") as conflict:
            await sending
        assert conflict.value.run_id == handle.run_id

    assert await values(handle) == ["a book"]


async def test_a_signal_whose_answer_is_lost_is_sent_once(kagzi: Kagzi, store: WatchedStore) -> None:
    """P4."""
    handle = await a_cart(kagzi).start("Ada")
    store.mute.add("post")
    sending = asyncio.create_task(handle.signal(ADDED, "a book"))
    async with asyncio.timeout(30):
        while store.trips["post"] < 2:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    store.mute.clear()

    await sending

    assert await values(handle) == ["a book"]


async def test_a_signal_that_nobody_answers_for_long_has_an_unknown_outcome(any_database_url: str) -> None:
    settings = Settings.from_environment(database_url=any_database_url, store_timeout=timedelta(seconds=0.5))
    kagzi = Kagzi(settings=settings)
    async with kagzi:
        handle = await a_cart(kagzi).start("Ada")
        link = kagzi._open_link()
        watched = WatchedStore(link.store)
        link.store = watched.as_store()
        watched.mute.add("post")
        with pytest.raises(OutcomeUnknown, match="dedup_key"):
            await handle.signal(ADDED, "a book")
        assert await values(handle) == ["a book"]


async def test_many_who_signal_with_start_share_one_run(kagzi: Kagzi) -> None:
    """P1, P19."""
    cart = a_cart(kagzi).options(id="cart-7")
    items = [f"item {number}" for number in range(20)]

    handles = await asyncio.gather(*(cart.signal_with_start(ADDED, item, "Ada") for item in items))

    assert len({handle.run_id for handle in handles}) == 1
    assert sorted(await values(handles[0])) == sorted(items)
    async with kagzi.create_worker():
        await handles[0].signal(ADDED, "pay")
        assert sorted(await handles[0].result(timeout=30)) == sorted(items)
        with pytest.raises(RunClosed):
            await cart.signal_with_start(ADDED, "too late", "Ada")


async def test_a_start_with_a_signal_whose_answer_is_lost_happens_once(kagzi: Kagzi, store: WatchedStore) -> None:
    """P4."""
    store.mute.add("start")
    sending = asyncio.create_task(a_cart(kagzi).options(id="cart-7").signal_with_start(ADDED, "a book", "Ada"))
    async with asyncio.timeout(30):
        while store.trips["start"] < 2:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    store.mute.clear()

    handle = await sending

    assert await values(handle) == ["a book"]


async def test_the_signal_of_a_start_that_can_not_be_is_not_sent(kagzi: Kagzi) -> None:
    """P1."""
    cart = a_cart(kagzi)
    handle = await cart.options(id="cart-7").start("Ada")

    with pytest.raises(ConflictError):
        await cart.options(id="cart-7").signal_with_start(ADDED, "a book", "Bea")
    with pytest.raises(ConfigError, match="id"):
        await kagzi.options(queue="q").signal_with_start("cart", ADDED, "a book", "Ada")

    assert await values(handle) == []


async def test_what_a_run_has_not_received_is_listed_with_it(kagzi: Kagzi) -> None:
    """P19."""
    cart = a_cart(kagzi)
    async with kagzi.create_worker():
        handle = await cart.options(delay=0.3).start("Ada")
        for item in ("a book", "pay", "a cup"):
            await handle.signal(ADDED, item)
        assert await handle.result(timeout=30) == ["a book"]

    (left,) = (await handle.describe()).undelivered
    assert (left.kind, left.name, left.value) == ("SIGNAL", "added", "a cup")
    assert (await kagzi.find_runs(limit=1))[0].undelivered == ()


async def test_a_handle_reaches_its_run_in_the_namespace_in_which_it_was_started(kagzi: Kagzi) -> None:
    cart = a_cart(kagzi).options(id="cart-7", namespace="theirs")

    handle = await cart.signal_with_start(ADDED, "a book", "Ada")
    again = await cart.signal_with_start(ADDED, "a pen", "Ada")
    await handle.signal(ADDED, "a cup")
    with pytest.raises(TimeoutError):
        await handle.update(Update("count", str, int), "all", timeout=0.01)
    await handle.pause("for lunch")
    assert (await handle.describe()).pause_reason == "for lunch"
    await handle.resume()
    await handle.cancel()
    assert await handle.status() == "CANCELLED"
    await handle.retry()

    assert again.run_id == handle.run_id
    assert await handle.status() == "PENDING"
    assert await values(handle) == ["a book", "a pen", "a cup", "all"]
    with pytest.raises(RunNotFound):
        await kagzi.signal("cart-7", ADDED, "a lamp")
