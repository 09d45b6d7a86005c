"""`ctx.continue_as_new`: runs that end and start afresh."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections import Counter
from datetime import timedelta
from typing import Any, NoReturn

import pytest

from kagzi import (
    ChildFailed,
    ConflictError,
    ErrorKind,
    Kagzi,
    KagziError,
    ParentClose,
    RetryPolicy,
    RunClosed,
    RunStatus,
    Signal,
    SyncWorkflowContext,
    Update,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowFailed,
    WorkflowHandle,
)
from kagzi.engine.execution import Execution
from tests.app.applications import until, within
from tests.app.watched_store import WatchedStore

WORD = Signal("word", str)
ASK = Update("ask", int, int)


async def asleep(handle: WorkflowHandle[Any]) -> bool:
    return await handle.status() is RunStatus.SLEEPING


async def chain_of(kagzi: Kagzi, handle: WorkflowHandle[Any]) -> list[WorkflowHandle[Any]]:
    chain = [handle]
    while (following := (await chain[-1].describe()).continued_to) is not None:
        chain.append(kagzi.handle(following))
    return chain


async def test_a_run_starts_afresh_and_its_result_is_that_of_the_last(kagzi: Kagzi) -> None:
    steps: list[int] = []

    @kagzi.workflow
    async def countdown(ctx: WorkflowContext, number: int, *, seen: int = 0) -> str:
        await ctx.step("count", steps.append, number)
        try:
            if number:
                ctx.continue_as_new(number - 1, seen=seen + 1)
        except Exception as error:
            raise AssertionError("it must not be caught") from error
        return f"{seen} times"

    async with kagzi, kagzi.create_worker():
        handle = await countdown.options(id="loop", tags=["a"], priority=2).start(3)
        assert await within(handle.result()) == "3 times"
        assert await within(handle.result()) == "3 times"
        chain = await chain_of(kagzi, handle)
        runs = [await each.describe() for each in chain]
        histories = [len(await each.history()) for each in chain]
        (found,) = await kagzi.find_runs(id="loop")
        again = await countdown.options(id="loop").start(3)
        with pytest.raises(ConflictError, match="another input"):
            await countdown.options(id="loop").start(2)

    assert steps == [3, 2, 1, 0]
    assert histories == [1, 1, 1, 1]
    assert [run.status for run in runs] == ["COMPLETED"] * 4
    assert [run.continued_from for run in runs] == [None, *(run.run_id for run in runs[:-1])]
    assert [(run.id, run.tags, run.priority) for run in runs] == [("loop", ("a",), 2)] * 4
    assert found.run_id == again.run_id == runs[-1].run_id


async def test_a_def_workflow_starts_afresh(kagzi: Kagzi) -> None:
    @kagzi.workflow
    def countdown(ctx: SyncWorkflowContext, number: int) -> str:
        ctx.step("count", lambda: None)
        if number:
            ctx.continue_as_new(number - 1)
        return ctx.run_id

    async with kagzi, kagzi.create_worker():
        handle = await countdown.start(2)
        last = await within(handle.result())
        chain = await chain_of(kagzi, handle)

    assert [each.run_id for each in chain][2:] == [last]


async def test_finally_blocks_are_gone_through_and_open_groups_are_left(kagzi: Kagzi) -> None:
    cleaned: list[int] = []

    @kagzi.workflow
    async def tidy(ctx: WorkflowContext, number: int) -> int:
        try:
            async with asyncio.TaskGroup() as group:
                slow = group.create_task(ctx.sleep("long", timedelta(days=1)))
                async with asyncio.timeout(3600):
                    await asyncio.sleep(0)
                    if number:
                        ctx.continue_as_new(number - 1)
                slow.cancel()
        finally:
            await ctx.step("clean", cleaned.append, number)
        return number

    async with kagzi, kagzi.create_worker():
        handle = await tidy.start(2)
        assert await within(handle.result()) == 0

    assert cleaned == [2, 1, 0]


async def test_signals_that_were_not_received_go_along_and_new_ones_find_the_last(kagzi: Kagzi) -> None:
    """P19."""

    @kagzi.workflow
    async def gather(ctx: WorkflowContext, words: list[str]) -> list[str]:
        words.append(await ctx.wait_for(WORD))
        if len(words) < 6:
            ctx.continue_as_new(words)
        return words

    async with kagzi:
        handle = await gather.options(id="words").start([])
        for word in "abc":
            await handle.signal(WORD, word)
        async with kagzi.create_worker():
            await until(lambda: has_continued(kagzi, handle, 4))
            await handle.signal(WORD, "d")
            await kagzi.signal("words", WORD, "e")
            await until(lambda: has_continued(kagzi, handle, 6))
            await kagzi.signal(handle.run_id, WORD, "f")
            assert await within(handle.result()) == list("abcdef")
            with pytest.raises(RunClosed):
                await handle.signal(WORD, "g")


async def has_continued(kagzi: Kagzi, handle: WorkflowHandle[Any], runs: int) -> bool:
    return len(await chain_of(kagzi, handle)) == runs


async def test_an_update_is_answered_by_the_run_that_took_it_along(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def service(ctx: WorkflowContext, rounds: int) -> str:
        await ctx.wait_for(WORD)
        if rounds:
            ctx.continue_as_new(rounds - 1)
        request = await ctx.wait_for(ASK)
        await request.reply(request.value * 2)
        return "answered"

    async with kagzi, kagzi.create_worker():
        handle = await service.start(2)
        await until(lambda: asleep(handle))
        asked = asyncio.create_task(handle.update(ASK, 21))
        await until(lambda: has_mail(handle))
        for _ in range(3):
            await handle.signal(WORD, "go on")
        assert await within(asked) == 42
        assert await within(handle.result()) == "answered"


async def has_mail(handle: WorkflowHandle[Any]) -> bool:
    return bool((await handle.describe()).undelivered)


async def test_a_cancellation_reaches_the_last_of_the_chain(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def loop(ctx: WorkflowContext, number: int) -> None:
        if number:
            ctx.continue_as_new(number - 1)
        await ctx.sleep("long", timedelta(days=1))

    async with kagzi, kagzi.create_worker():
        for how in ("cancel", "terminate"):
            handle = await loop.start(3)
            await until(functools.partial(has_continued, kagzi, handle, 4))
            await getattr(handle, how)("enough")
            with pytest.raises(WorkflowCancelled) as ended:
                await within(handle.result())
            await getattr(handle, how)("again")
            assert ended.value.reason == "enough"


async def test_a_pause_reaches_the_last_of_the_chain(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def loop(ctx: WorkflowContext, number: int) -> str:
        if number:
            ctx.continue_as_new(number - 1)
        return await ctx.wait_for(WORD)

    async with kagzi, kagzi.create_worker():
        handle = await loop.start(2)
        await until(lambda: has_continued(kagzi, handle, 3))
        last = (await chain_of(kagzi, handle))[-1]
        await handle.pause("for now")
        await handle.signal(WORD, "go on")
        assert (await last.describe()).pause_reason == "for now"
        await handle.resume()
        assert await within(handle.result()) == "go on"


async def test_a_parent_s_signal_reaches_the_last_of_the_chain(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def child(ctx: WorkflowContext, number: int) -> str:
        if number:
            ctx.continue_as_new(number - 1)
        return await ctx.wait_for(WORD)

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> str:
        started = await ctx.start_child("child", child, 2)
        await ctx.wait_for(WORD)
        await started.signal(WORD, "from the parent")
        return await started.result()

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        await until(lambda: three_children(kagzi))
        await handle.signal(WORD, "go on")
        assert await within(handle.result()) == "from the parent"


async def three_children(kagzi: Kagzi) -> bool:
    return len(await kagzi.find_runs(workflow="child")) == 3


async def test_a_run_that_is_being_cancelled_does_not_continue(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def stubborn(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("long", timedelta(days=1))
        finally:
            ctx.continue_as_new()

    async with kagzi, kagzi.create_worker():
        handle = await stubborn.start()
        await until(lambda: asleep(handle))
        await handle.cancel("enough")
        with pytest.raises(WorkflowCancelled):
            await within(handle.result())
        assert (await handle.describe()).continued_to is None


async def test_a_cancellation_that_the_body_has_not_heard_of_goes_along(kagzi: Kagzi, store: WatchedStore) -> None:
    """P20: of the cancellation and the end the first commit counts, and here it is neither that ends the work."""

    @kagzi.workflow
    async def loop(ctx: WorkflowContext, number: int) -> None:
        if number:
            ctx.continue_as_new(number - 1)
        await ctx.sleep("long", timedelta(days=1))

    async with kagzi, kagzi.create_worker():
        gate = store.hold("commit")
        handle = await loop.start(1)
        await until(lambda: store.waiting["commit"] > 0)
        await handle.cancel("enough")
        gate.set()
        with pytest.raises(WorkflowCancelled) as ended:
            await within(handle.result())
        assert len(await chain_of(kagzi, handle)) == 2

    assert ended.value.reason == "enough"


@pytest.mark.parametrize("continues", [True, False])
async def test_an_order_that_is_being_recorded_when_the_body_is_over_is_heard_by_who_comes_next(
    kagzi: Kagzi, store: WatchedStore, continues: bool
) -> None:
    """P20: the body's last step is durable before the order, and what follows it must not be the end of the order."""
    passed: list[int] = []

    @kagzi.workflow(retry=RetryPolicy.fixed(0.01, max_attempts=2))
    async def loop(ctx: WorkflowContext, number: int) -> None:
        passed.append(number)
        await ctx.sleep("pause", 0.1)
        if number and continues:
            ctx.continue_as_new(number - 1)
        if ctx.attempt == 1:
            raise ConnectionError("to be tried again")
        await ctx.sleep("long", timedelta(days=1))

    async with kagzi, kagzi.create_worker() as worker:
        gate = store.hold("commit")
        handle = await loop.start(1)
        await until(lambda: store.waiting["commit"] > 0)
        await handle.cancel("enough")
        await until(lambda: all(execution._mail.is_ordering for execution in worker.slots.executions()))
        gate.set()
        with pytest.raises(WorkflowCancelled) as ended:
            await within(handle.result())

    assert ended.value.reason == "enough"
    assert len(passed) == 2


async def test_a_parent_waits_for_the_end_of_the_chain(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def child(ctx: WorkflowContext, number: int, fails: bool) -> str:
        await ctx.sleep("pause", 0.01)
        if number:
            ctx.continue_as_new(number - 1, fails)
        if fails:
            raise ValueError("in the end")
        return "the end"

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> list[str]:
        first = await ctx.child("first", child, 2, False)
        started = await ctx.start_child("second", child, 1, False)
        results = [first, await started.result()]
        try:
            await ctx.child("third", child, 1, True)
        except ChildFailed as failed:
            results.append(failed.error.message)
        return results

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        assert await within(handle.result()) == ["the end", "the end", "in the end"]
        assert {run.parent_run_id for run in await kagzi.find_runs(workflow="child")} == {handle.run_id}


async def test_a_child_that_has_continued_ends_with_its_parent_or_as_it_gives_it_up(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def child(ctx: WorkflowContext, number: int) -> None:
        if number:
            ctx.continue_as_new(number - 1)
        await ctx.sleep("long", timedelta(days=1))

    @kagzi.workflow
    async def parent(ctx: WorkflowContext, gives_up: bool) -> str:
        options = ctx.options(parent_close=ParentClose.TERMINATE)
        if gives_up:
            try:
                async with asyncio.timeout(0.5):
                    await options.child("child", child, 2)
            except TimeoutError:
                return "given up"
        await options.start_child("child", child, 2)
        await ctx.sleep("pause", 0.5)
        return "left behind"

    async with kagzi, kagzi.create_worker():
        for gives_up in (True, False):
            handle = await parent.start(gives_up)
            await within(handle.result())
            await until(functools.partial(nobody_open, kagzi, handle.run_id))
        assert len(await kagzi.find_runs(workflow="child", status=RunStatus.CANCELLED)) == 2


async def nobody_open(kagzi: Kagzi, parent: str) -> bool:
    children = [run for run in await kagzi.find_runs(workflow="child") if run.parent_run_id == parent]
    return len(children) == 3 and all(run.finished_at is not None for run in children)


async def test_the_timeout_bounds_the_whole_chain(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def loop(ctx: WorkflowContext) -> NoReturn:
        await ctx.sleep("pause", 0.05)
        ctx.continue_as_new()

    async with kagzi, kagzi.create_worker():
        handle = await loop.options(timeout=0.5).start()
        with pytest.raises(WorkflowFailed) as failed:
            await within(handle.result())

    assert failed.value.error.kind is ErrorKind.TIMEOUT


async def test_the_last_of_a_chain_can_be_retried(kagzi: Kagzi) -> None:
    is_mended = False

    @kagzi.workflow
    async def loop(ctx: WorkflowContext, number: int) -> int:
        if number:
            ctx.continue_as_new(number - 1)
        if not is_mended:
            raise ValueError("a fault in the code")
        return ctx.attempt

    async with kagzi, kagzi.create_worker():
        handle = await loop.start(2)
        with pytest.raises(WorkflowFailed):
            await within(handle.result())
        is_mended = True
        await handle.retry()
        assert await within(handle.result()) == 2


async def test_another_version_can_go_on(kagzi: Kagzi) -> None:
    async def first(ctx: WorkflowContext, text: str) -> NoReturn:
        ctx.options(version=2).continue_as_new(len(text))

    async def second(ctx: WorkflowContext, length: int) -> str:
        return f"version {ctx.version} got {length}"

    kagzi.register_workflow_version("loop", 1, first)
    kagzi.register_workflow_version("loop", 2, second)
    async with kagzi, kagzi.create_worker():
        handle = await kagzi.start_workflow_version("loop", 1, "word")
        assert await within(handle.result()) == "version 2 got 4"


async def test_it_is_refused_where_it_can_not_be(kagzi: Kagzi) -> None:
    errors: list[Exception] = []

    def noting(call: Any) -> None:
        try:
            call()
        except Exception as error:
            errors.append(error)

    @kagzi.workflow
    async def wrong(ctx: WorkflowContext, number: int) -> None:
        async def in_a_step() -> None:
            noting(lambda: ctx.continue_as_new(1))

        async def in_a_task() -> None:
            noting(lambda: ctx.continue_as_new(2))

        await ctx.step("async", in_a_step)
        await ctx.step("thread", lambda: noting(lambda: ctx.continue_as_new(3)))
        await asyncio.create_task(in_a_task())
        noting(lambda: ctx.continue_as_new("four"))
        noting(lambda: ctx.continue_as_new())
        noting(lambda: ctx.continue_as_new(1, 2))

    async with kagzi, kagzi.create_worker():
        handle = await wrong.start(1)
        await within(handle.result())
        assert (await handle.describe()).continued_to is None

    assert [type(error).__name__ for error in errors] == [
        *["KagziError"] * 3,
        "PayloadError",
        *["TypeError"] * 2,
    ]
    assert isinstance(errors[0], KagziError)


async def test_a_thousand_continuations_leave_nothing_in_memory(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def loop(ctx: WorkflowContext, number: int) -> int:
        if number:
            ctx.continue_as_new(number - 1)
        return number

    async with kagzi, kagzi.create_worker() as worker:
        await within((await loop.start(20)).result())
        before = census()
        handle = await loop.start(1000)
        assert await within(handle.result(), 120) == 0
        await until(lambda: worker.slots.is_empty)
        after = census()

    grown = {kind: count - before[kind] for kind, count in after.items() if count - before[kind] > 100}
    assert after[Execution] <= before[Execution]
    assert grown == {}


def census() -> Counter[type]:
    gc.collect()
    return Counter(type(each) for each in gc.get_objects())
