"""Events: every run that waits for one gets it, and each starts one run of what handles it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from kagzi import (
    ConfigError,
    ConflictError,
    Event,
    Kagzi,
    PayloadError,
    RunStatus,
    SyncWorkflowContext,
    WorkflowContext,
    WorkflowFailed,
    WorkflowHandle,
)
from kagzi.clock import monotonic
from kagzi.worker import distributing
from tests.app.applications import until
from tests.app.watched_store import WatchedStore


@dataclass(frozen=True)
class Invoice:
    number: str
    cents: int


PAID = Event("invoice.paid", Invoice)


async def test_an_event_wakes_every_run_that_waits_for_it(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def ship(ctx: WorkflowContext, key: str | None) -> Invoice:
        return await ctx.wait_for_event(PAID, key=key)

    async with kagzi, kagzi.create_worker():
        wanted = [await ship.start(key) for key in ("inv-7", "inv-7", None)]
        other = await ship.start("inv-8")
        for handle in (*wanted, other):
            await until_waiting(handle)

        await kagzi.emit(PAID, Invoice("7", 1200), key="inv-7")

        assert [await handle.result(timeout=30) for handle in wanted] == [Invoice("7", 1200)] * 3
        assert (await other.describe()).waiting_for == ("event 'invoice.paid' with key 'inv-8'",)
        assert (await wanted[0].describe()).undelivered == ()


async def test_a_run_in_memory_gets_an_event_between_its_steps(kagzi: Kagzi, store: WatchedStore) -> None:
    release = asyncio.Event()

    async def long() -> str:
        await release.wait()
        return "long"

    @kagzi.workflow
    async def both(ctx: WorkflowContext) -> str:
        step = asyncio.ensure_future(ctx.step("long", long))
        word = await ctx.wait_for_event("word")
        release.set()
        return f"{word} {await step}"

    async with kagzi, kagzi.create_worker():
        handle = await both.start()
        await until(lambda: store.answered["await_events"] == 1)
        await kagzi.emit("word", "short")
        assert await handle.result(timeout=30) == "short long"


async def test_a_wait_that_looks_back_gets_what_came_before_and_each_event_once(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def listen(ctx: WorkflowContext) -> list[int]:
        return [await ctx.wait_for_event("number", lookback=timedelta(hours=1)) for _ in range(4)]

    async with kagzi:
        for number in range(3):
            await kagzi.emit("number", number)
        async with kagzi.create_worker():
            handle = await listen.start()
            await until_waiting(handle)
            await kagzi.emit("number", 3)
            assert await handle.result(timeout=30) == [0, 1, 2, 3]


async def test_an_event_of_before_does_not_count_without_looking_back(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def listen(ctx: WorkflowContext) -> str:
        try:
            return str(await ctx.wait_for_event("word", key="k", timeout=0.3))
        except TimeoutError as error:
            return str(error)

    async with kagzi:
        await kagzi.emit("word", "early", key="k")
        async with kagzi.create_worker():
            handle = await listen.start()
            assert await handle.result(timeout=30) == "no event 'word' with key 'k' came within 0:00:00.300000."


async def test_an_event_that_is_there_goes_before_a_timeout_that_is_over_at_once(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def look(ctx: WorkflowContext) -> list[Any]:
        found: list[Any] = []
        for _ in range(3):
            try:
                found.append(await ctx.wait_for_event("number", timeout=0, lookback=3600))
            except TimeoutError:
                found.append(None)
        return found

    async with kagzi, kagzi.create_worker():
        await kagzi.emit("number", 1)
        await kagzi.emit("number", 2)
        handle = await look.start()
        assert await handle.result(timeout=30) == [1, 2, None]


async def test_a_wait_that_was_given_up_does_not_wake_the_run(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def patient(ctx: WorkflowContext) -> str:
        index, _ = await ctx.race(ctx.wait_for_event("first"), ctx.wait_for_event("second"))
        return f"{index} {await ctx.wait_for_event('third')}"

    async with kagzi, kagzi.create_worker():
        handle = await patient.start()
        await until_waiting(handle, "first")
        await kagzi.emit("second", 2)
        await until_waiting(handle, "third")
        wakeups = (await handle.describe()).wakeups
        await kagzi.emit("first", 1)
        await until_distributed(kagzi)
        assert (await handle.describe()).wakeups == wakeups
        await kagzi.emit("third", 3)
        assert await handle.result(timeout=30) == "1 3"


async def test_branches_of_a_run_get_the_same_event(kagzi: Kagzi) -> None:
    @kagzi.workflow
    def both(ctx: SyncWorkflowContext) -> list[int]:
        return ctx.gather(*(ctx.spawn(lambda: ctx.wait_for_event("number")) for _ in range(3)))

    async with kagzi, kagzi.create_worker():
        handle = await both.start()
        await until_waiting(handle)
        await kagzi.emit("number", 7)
        assert await handle.result(timeout=30) == [7, 7, 7]


async def test_a_value_that_does_not_fit_is_refused_where_it_is_emitted(kagzi: Kagzi) -> None:
    """P24."""
    async with kagzi:
        with pytest.raises(PayloadError, match=r"invoice\.paid"):
            await kagzi.emit(PAID, {"number": 7})  # type: ignore[misc] # the point of the test
        with pytest.raises(ValueError, match="key"):
            await kagzi.emit("word", 1, key="")
        with pytest.raises(TypeError, match="Event"):
            await kagzi.emit(7, 1)  # type: ignore[arg-type] # the point of the test


async def test_a_value_that_the_code_can_not_read_raises_where_it_is_awaited(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def ship(ctx: WorkflowContext) -> str:
        try:
            await ctx.wait_for_event(PAID)
        except PayloadError as error:
            return str(error)
        return "read"

    async with kagzi, kagzi.create_worker():
        handle = await ship.start()
        await until_waiting(handle)
        await kagzi.emit("invoice.paid", "a text")
        assert "event 'invoice.paid'" in await handle.result(timeout=30)


async def test_a_dedup_key_that_another_event_has_is_a_conflict(kagzi: Kagzi) -> None:
    async with kagzi:
        for _ in range(2):
            await kagzi.emit("paid", 1, key="inv-7", dedup_key="click")
        for name, key in (("sent", "inv-7"), ("paid", None), ("paid", "inv-8")):
            with pytest.raises(ConflictError, match=r"was not emitted: event 'paid' with key 'inv-7' has .* 'click'"):
                await kagzi.emit(name, 1, key=key, dedup_key="click")


async def test_a_wait_that_can_not_be_is_refused_at_the_call(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def wait(ctx: WorkflowContext) -> list[str]:
        refusals: list[str] = []
        for event, lookback in ((Event("e", Kagzi), 60), (PAID, -1), (PAID, 10**400), (PAID, timedelta.max)):
            try:
                await ctx.wait_for_event(event, lookback=lookback, timeout=5)
            except (ConfigError, ValueError) as error:
                refusals.append(str(error))
        return refusals

    async with kagzi, kagzi.create_worker():
        await kagzi.emit("e", 1)
        told, negative, beyond, longest = await (await wait.start()).result(timeout=30)

    assert "can't be stored" in told
    assert "can't be negative" in negative
    assert "beyond the year 9999" in beyond
    assert "at most 1,000 years" in longest


async def test_each_event_starts_one_run_of_what_handles_it(kagzi: Kagzi) -> None:
    @kagzi.on_event(PAID)
    @kagzi.workflow("book")
    async def book(ctx: WorkflowContext, invoice: Invoice) -> int:
        return invoice.cents

    @kagzi.on_event("invoice.paid")
    def thank(ctx: SyncWorkflowContext, invoice: dict[str, Any]) -> str:
        return f"thanks for {invoice['number']}"

    async with kagzi, kagzi.create_worker():
        await kagzi.emit(PAID, Invoice("7", 1200), dedup_key="7")
        await kagzi.emit(PAID, Invoice("7", 1200), dedup_key="7")
        await until_distributed(kagzi)
        runs = await kagzi.find_runs()
        results = [await kagzi.handle(run.run_id).result(timeout=30) for run in runs]

    assert sorted((run.workflow, str(result)) for run, result in zip(runs, results, strict=True)) == [
        ("book", "1200"),
        ("thank", "thanks for 7"),
    ]


async def test_whoever_emits_need_not_know_what_handles_it(kagzi: Kagzi) -> None:
    @kagzi.on_event("user.created", queue="mails")
    async def welcome(ctx: WorkflowContext, name: str) -> str:
        return f"welcome, {name}"

    stranger = Kagzi(settings=kagzi.settings)
    async with kagzi:
        async with kagzi.create_worker(queues=["mails"]):
            pass
        async with stranger:
            await stranger.emit("user.created", "Ada")
        async with kagzi.create_worker(queues=["mails"]):
            await until_distributed(kagzi)
            (run,) = await kagzi.find_runs(workflow="welcome")
            assert await kagzi.handle(run.run_id).result(timeout=30) == "welcome, Ada"
            assert run.queue == "mails"


async def test_a_handler_whose_version_is_deprecated_gets_no_more_runs(kagzi: Kagzi) -> None:
    @kagzi.on_event("user.created")
    async def welcome(ctx: WorkflowContext, name: str) -> str:
        return f"welcome, {name}"

    async with kagzi, kagzi.create_worker():
        await kagzi.deprecate_workflow_version("welcome", 1)
        await kagzi.emit("user.created", "Ada")
        await until_distributed(kagzi)
        assert await kagzi.find_runs(workflow="welcome") == []


def test_a_handler_takes_what_the_event_carries_and_nothing_else(kagzi: Kagzi) -> None:
    async def none(ctx: WorkflowContext) -> None: ...

    async def two(ctx: WorkflowContext, first: int, second: int) -> None: ...

    for handler in (none, two):
        with pytest.raises(ConfigError, match="one argument"):
            kagzi.on_event("user.created")(handler)


async def test_a_start_whose_answer_was_lost_is_made_again_and_leaves_one_run(
    kagzi: Kagzi, store: WatchedStore
) -> None:
    """P4, P14."""

    @kagzi.on_event("user.created")
    async def welcome(ctx: WorkflowContext, name: str) -> str:
        return name

    async with kagzi, kagzi.create_worker():
        store.mute.add("start")
        await kagzi.emit("user.created", "Ada")
        await until(lambda: store.trips["start"] >= 2)
        store.mute.clear()
        await until_distributed(kagzi)
        (run,) = await kagzi.find_runs(workflow="welcome")
        assert await kagzi.handle(run.run_id).result(timeout=30) == "Ada"


async def test_a_run_does_not_park_before_it_is_written_what_it_waits_for(kagzi: Kagzi, store: WatchedStore) -> None:
    @kagzi.workflow
    async def listen(ctx: WorkflowContext) -> int:
        return int(await ctx.wait_for_event("number"))

    async with kagzi, kagzi.create_worker():
        with store.unreachable("await_events"):
            handle = await listen.start()
            await until(lambda: store.trips["await_events"] >= 2)
            assert await handle.status() is RunStatus.RUNNING
        await until_waiting(handle)
        await kagzi.emit("number", 7)
        assert await handle.result(timeout=30) == 7


async def test_a_run_that_is_retried_has_the_event_that_it_had(kagzi: Kagzi) -> None:
    attempts: list[int] = []

    def fail_once(number: int) -> int:
        attempts.append(number)
        if len(attempts) == 1:
            raise ValueError("not yet")
        return number

    @kagzi.workflow
    async def listen(ctx: WorkflowContext) -> list[int]:
        first = await ctx.wait_for_event("number", lookback=3600)
        await ctx.step("fail once", fail_once, first)
        return [first, await ctx.wait_for_event("number", lookback=3600)]

    async with kagzi, kagzi.create_worker():
        await kagzi.emit("number", 1)
        handle = await listen.start()
        with pytest.raises(WorkflowFailed):
            await handle.result(timeout=30)
        await kagzi.emit("number", 2)
        await handle.retry()
        assert await handle.result(timeout=30) == [1, 2]
    assert attempts == [1, 1]


async def test_a_parked_run_gets_an_event_without_a_poll(kagzi: Kagzi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributing, "_INTERVAL_S", 600.0)  # a poll would come too late

    @kagzi.workflow
    async def listen(ctx: WorkflowContext) -> int:
        return int(await ctx.wait_for_event("number"))

    async with kagzi, kagzi.create_worker():
        took = []
        for number in range(5):
            handle = await listen.start()
            await until_waiting(handle)
            began = monotonic()
            await kagzi.emit("number", number)
            assert await handle.result(timeout=30) == number
            took.append(monotonic() - began)

    assert min(took) < 1


async def until_waiting(handle: WorkflowHandle[Any], what: str = "event") -> None:
    """Wait until the run sleeps for an event."""
    async with asyncio.timeout(30):
        # ASYNC110: nobody tells when a run has parked.
        while not any(what in text for text in (await handle.describe()).waiting_for):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def until_distributed(kagzi: Kagzi) -> None:
    """Wait until all that follows from the events so far is stored."""
    store = kagzi.store_in_use()
    async with asyncio.timeout(30):
        # ASYNC110: nobody tells.
        while await store.pending_events(kagzi.settings.namespace, limit=1):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
