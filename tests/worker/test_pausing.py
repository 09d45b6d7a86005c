"""Pausing runs wherever they are: queued, running, parked, waiting for others or to be tried again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from datetime import timedelta
from typing import Any, Literal

import pytest

from kagzi import (
    Kagzi,
    RetryPolicy,
    RunClosed,
    RunNotFound,
    Signal,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowFailed,
    WorkflowHandle,
    step_info,
)
from kagzi.settings import Settings
from tests.app.applications import until
from tests.worker.gates import Gates

DAY = timedelta(days=1)
GO = Signal("go", int)


@pytest.fixture
def kagzi(any_database_url: str) -> Kagzi:
    return Kagzi(settings=Settings(database_url=any_database_url, park_after=timedelta(0)))


async def until_it_rests(handle: WorkflowHandle[Any]) -> None:
    """Wait until no worker has the run."""
    async with asyncio.timeout(30):
        while (await handle.status()) == "RUNNING":  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


async def until_status(handle: WorkflowHandle[Any], status: str) -> None:
    async with asyncio.timeout(30):
        while (await handle.status()) != status:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


async def test_a_queued_run_is_begun_once_it_is_resumed(kagzi: Kagzi) -> None:
    begun: list[str] = []

    @kagzi.workflow
    async def note(ctx: WorkflowContext, name: str) -> str:
        begun.append(name)
        return name

    async with kagzi:
        held, free = await note.start("held"), await note.start("free")
        await held.pause("until the others are done")
        await held.pause("again")
        async with kagzi.create_worker():
            await free.result(timeout=30)
            run, before = await held.describe(), list(begun)
            await held.resume()
            await held.resume()
            assert await held.result(timeout=30) == "held"

    assert before == ["free"]
    assert (run.status, run.pause_reason) == ("PENDING", "until the others are done")
    assert run.paused_at is not None


async def test_a_step_under_way_finishes_and_is_kept_and_no_other_begins(kagzi: Kagzi) -> None:
    """P10: it is not executed again."""
    gates = Gates()

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> list[str]:
        return [await ctx.step(name, gates.enter, name) for name in ("first", "second")]

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await gates.reached("first")
        await handle.pause()
        pausing, (_, waits) = await handle.describe(), await kagzi.explain(handle.run_id)
        gates.open_all()
        await until_it_rests(handle)
        rested, steps = await handle.describe(), await handle.history()
        entered = list(gates.entered)
        await handle.resume()
        result = await handle.result(timeout=30)

    assert (pausing.status, rested.status) == ("RUNNING", "PENDING")
    assert waits[0].startswith("being resumed: it is paused since ")
    assert waits[1].startswith("before it rests: ")
    assert [step.name for step in steps] == ["first"] == entered
    assert (result, gates.entered) == (["first", "second"], ["first", "second"])


async def test_branches_go_on_where_they_were_where_the_run_is_resumed_before_it_rested(kagzi: Kagzi) -> None:
    gates = Gates()

    async def fail_once() -> str:
        if step_info().attempt == 1:
            await gates.enter("fails")
            raise ConnectionError("try again")
        return "retried"

    @kagzi.workflow
    async def branching(ctx: WorkflowContext) -> list[str]:
        async def two() -> str:
            await ctx.step("short", gates.enter, "short")
            return await ctx.step("next", gates.enter, "next")

        async def child() -> str:
            await ctx.step("brief", gates.enter, "brief")
            return await ctx.child("child", small)

        again = ctx.options(retry=RetryPolicy.fixed(0.01, max_attempts=3)).step("again", fail_once)
        return list(await asyncio.gather(ctx.step("long", gates.enter, "long"), two(), again, child()))

    @kagzi.workflow
    async def small(ctx: WorkflowContext) -> str:
        return "child"

    async with kagzi, kagzi.create_worker():
        handle = await branching.start()
        await gates.full(4)
        await handle.pause()
        await until_it_is_heard(kagzi)
        for name in ("short", "fails", "brief"):
            gates.open(name)
        await until_history(handle, "short", "brief")
        held, fence = await handle.describe(), await fence_of(kagzi, handle)
        before = list(gates.entered)
        await handle.resume()
        await gates.reached("next")
        gates.open_all()
        result, last = await handle.result(timeout=30), await fence_of(kagzi, handle)

    assert "next" not in before
    assert held.status == "RUNNING"
    assert result == ["long", "next", "retried", "child"]
    assert fence <= last <= fence + 3  # it was parked for its child at the most
    assert gates.entered.count("long") == 1


def workers_of(kagzi: Kagzi) -> list[Any]:
    assert kagzi._connection is not None
    return list(kagzi._connection.local_workers)


async def until_it_is_heard(kagzi: Kagzi) -> None:
    """Wait until the worker knows that all that it has is to be paused."""
    await until(
        lambda: all(each.is_pausing for worker in workers_of(kagzi) for each in worker.slots.executions()),
        what="the worker has heard of the pause",
    )


async def fence_of(kagzi: Kagzi, handle: WorkflowHandle[Any]) -> int:
    run = await kagzi.store_in_use().get(handle.run_id)  # type: ignore[arg-type]  # a RunId is a str
    assert run is not None
    return run.fence


async def until_history(handle: WorkflowHandle[Any], *names: str) -> None:
    async with asyncio.timeout(30):
        while not set(names) <= {step.name for step in await handle.history() if step.status == "COMPLETED"}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("semantics", ["at_least_once", "at_most_once"])
async def test_steps_that_wait_for_their_turn_do_not_begin(
    any_database_url: str, semantics: Literal["at_least_once", "at_most_once"]
) -> None:
    kagzi, gates = Kagzi(settings=Settings(database_url=any_database_url, max_concurrent_steps=1)), Gates()

    @kagzi.workflow
    async def two(ctx: WorkflowContext) -> list[str]:
        bound = ctx.options(semantics=semantics)
        return list(await asyncio.gather(*(bound.step(name, gates.enter, name) for name in ("a", "b"))))

    async with kagzi, kagzi.create_worker():
        handle = await two.start()
        await gates.reached("a")
        await handle.pause()
        await until_it_is_heard(kagzi)
        gates.open_all()
        await until_it_rests(handle)
        entered = list(gates.entered)
        await handle.resume()
        assert await handle.result(timeout=30) == ["a", "b"]

    assert entered == ["a"]
    assert gates.entered == ["a", "b"]


@pytest.mark.parametrize("park_after", [timedelta(0), DAY], ids=["parked", "warm"])
async def test_what_comes_while_a_run_is_paused_is_seen_once_it_is_resumed(
    any_database_url: str, park_after: timedelta
) -> None:
    """P18, P19: signals in their order, and a timer that would have fired; none of them before."""
    kagzi = Kagzi(settings=Settings(database_url=any_database_url, park_after=park_after))
    seen: list[Any] = []

    @kagzi.workflow
    async def listening(ctx: WorkflowContext) -> None:
        seen.append(await ctx.wait_for(GO))
        seen.append(await ctx.wait_for(GO))

    async with kagzi, kagzi.create_worker():
        handle = await listening.start()
        await handle.signal(GO, 1)
        await until(lambda: seen == [1], what="the first has come")
        await handle.pause()
        await until_it_rests(handle)
        await handle.signal(GO, 2)
        other = await listening.start()
        await other.signal(GO, 3)
        await until(lambda: seen[-1] == 3, what="another run was served meanwhile")
        before = list(seen)
        await handle.resume()
        await handle.result(timeout=30)
        await other.signal(GO, 4)
        await other.result(timeout=30)

    assert before == [1, 3]
    assert seen[-2:] == [2, 4] or seen[2:4] == [1, 2]  # parked, it went on; replayed, it saw the first again


async def test_timers_are_not_moved_by_a_pause(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def sleeper(ctx: WorkflowContext, seconds: float) -> None:
        await ctx.sleep("nap", seconds)

    async with kagzi, kagzi.create_worker():
        long, short = await sleeper.start(86_400), await sleeper.start(0.6)
        for handle in (long, short):
            await until_status(handle, "SLEEPING")
        wakes = (await long.describe()).wake_at
        for handle in (long, short):
            await handle.pause()
        held, due = await long.describe(), (await short.describe()).wake_at
        await long.resume()
        free = await long.describe()
        assert due is not None
        await until(lambda: workers_of(kagzi)[0].clock.now() > due, what="its time has come")
        still = await short.status()
        await short.resume()
        await short.result(timeout=30)

    assert (held.status, held.wake_at, held.waiting_for) == ("SLEEPING", wakes, free.waiting_for)
    assert (free.wake_at, free.paused_at) == (wakes, None)
    assert still == "SLEEPING"


async def test_a_run_that_waits_for_a_retry_or_for_its_next_attempt_is_paused(kagzi: Kagzi) -> None:
    tried: list[str] = []

    async def fail(name: str) -> str:
        tried.append(name)
        if tried.count(name) < 2:
            raise ConnectionError(name)
        return name

    @kagzi.workflow
    async def by_step(ctx: WorkflowContext) -> str:
        return await ctx.options(retry=RetryPolicy.fixed(0.5, max_attempts=3)).step("fail", fail, "step")

    @kagzi.workflow(retry=RetryPolicy.fixed(0.5, max_attempts=3))
    async def by_run(ctx: WorkflowContext) -> str:
        return await ctx.options(retry=RetryPolicy.none()).step("fail", fail, "run")

    async with kagzi, kagzi.create_worker():
        handles = [await by_step.start(), await by_run.start()]
        for handle in handles:
            await until_status(handle, "SLEEPING" if handle is handles[0] else "PENDING")
        for handle in handles:
            await handle.pause()
        for handle in handles:
            await until_it_rests(handle)
        rested = [await handle.describe() for handle in handles]
        late = max(run.wake_at for run in rested if run.wake_at is not None)
        await until(lambda: workers_of(kagzi)[0].clock.now() > late, what="the retries would be due")
        before = sorted(tried)
        for handle in handles:
            await handle.resume()
        results = [await handle.result(timeout=30) for handle in handles]

    assert before == ["run", "step"]
    assert results == ["step", "run"]


async def test_a_parent_that_is_paused_hears_of_its_child_once_it_is_resumed(kagzi: Kagzi) -> None:
    gates = Gates()

    @kagzi.workflow
    async def small(ctx: WorkflowContext) -> str:
        return await ctx.step("work", gates.enter, "work")

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> str:
        return await ctx.child("small", small)

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        await gates.reached("work")
        await until_status(handle, "SLEEPING")
        await handle.pause()
        gates.open_all()
        (step,) = await handle.history()
        assert step.child_run_id is not None
        assert await kagzi.handle(step.child_run_id).result(timeout=30) == "work"
        assert await handle.status() == "SLEEPING"
        await handle.resume()
        assert await handle.result(timeout=30) == "work"


@pytest.mark.parametrize("end", ["cancel", "terminate", "timeout"])
@pytest.mark.parametrize("state", ["queued", "running", "asleep"])
async def test_a_paused_run_is_ended_at_once(kagzi: Kagzi, end: str, state: str) -> None:
    gates, cleaned = Gates(), list[str]()

    async def clean() -> None:
        cleaned.append(state)

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        try:
            if state == "running":
                await ctx.step("work", gates.enter, "work")
            await ctx.sleep("long", DAY)
        finally:
            await ctx.step("clean", clean)

    async with kagzi:
        handle = await order.options(timeout=1.0 if end == "timeout" else DAY).start()
        if state == "queued":
            await handle.pause()
        async with kagzi.create_worker():
            if state == "running":
                await gates.reached("work")
            elif state == "asleep":
                await until_status(handle, "SLEEPING")
            if state != "queued":
                await handle.pause()
            if end == "cancel":
                await handle.cancel()
            elif end == "terminate":
                await handle.terminate()
            with pytest.raises(WorkflowFailed if end == "timeout" else WorkflowCancelled):
                await handle.result(timeout=30)
            run = await handle.describe()

    assert run.paused_at is None
    assert cleaned == ([] if state == "queued" or end == "terminate" else [state])


async def test_a_body_that_needs_nothing_more_may_end_while_it_is_to_rest(kagzi: Kagzi) -> None:
    gates = Gates()

    @kagzi.workflow
    async def last(ctx: WorkflowContext) -> str:
        return await ctx.step("last", gates.enter, "last")

    async with kagzi, kagzi.create_worker():
        handle = await last.start()
        await gates.reached("last")
        await handle.pause()
        gates.open_all()
        assert await handle.result(timeout=30) == "last"
        assert (await handle.describe()).paused_at is None


async def test_who_can_not_be_paused_says_so(kagzi: Kagzi) -> None:
    gates = Gates()

    @kagzi.workflow
    async def stubborn(ctx: WorkflowContext) -> str:
        try:
            await ctx.sleep("long", DAY)
        except asyncio.CancelledError:
            await ctx.step("clean", gates.enter, "clean")
        return "done"

    async with kagzi, kagzi.create_worker():
        handle = await stubborn.start()
        await until_status(handle, "SLEEPING")
        await handle.cancel()
        await gates.reached("clean")
        with pytest.raises(RunClosed, match="was asked to end") as ending:
            await handle.pause()
        gates.open_all()
        await handle.result(timeout=30)
        for verb in (handle.pause, handle.resume):
            with pytest.raises(RunClosed, match="has ended"):
                await verb()
        with pytest.raises(RunNotFound):
            await kagzi.handle("01997e00-0000-7000-8000-00000000c0de").resume()
        with pytest.raises(TypeError, match="reason of a pause"):
            await handle.pause(7)  # type: ignore[arg-type]  # what the call refuses

    assert ending.value.is_ending


async def test_a_worker_that_drains_leaves_a_run_that_pauses_paused(kagzi: Kagzi) -> None:
    gates = Gates()

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> list[str]:
        return [await ctx.step(name, gates.enter, name) for name in ("first", "second")]

    async with kagzi:
        async with kagzi.create_worker() as worker:
            handle = await order.start()
            await gates.reached("first")
            await handle.pause()
            worker.drain()
            gates.open_all()
        assert (await handle.describe()).status == "PENDING"
        async with kagzi.create_worker():
            other = await order.start()
            await other.result(timeout=30)
            assert [step.name for step in await handle.history()] == ["first"]
            await handle.resume()
            assert await handle.result(timeout=30) == ["first", "second"]


async def test_threads_that_are_all_busy_keep_a_step_waiting_which_then_does_not_begin(any_database_url: str) -> None:
    kagzi = Kagzi(settings=Settings(database_url=any_database_url, max_step_threads=1))
    begun, go_on = list[str](), threading.Event()

    def work(name: str) -> str:
        begun.append(name)
        go_on.wait(30)
        return name

    @kagzi.workflow
    async def two(ctx: WorkflowContext) -> list[str]:
        return list(await asyncio.gather(*(ctx.step(name, work, name) for name in ("a", "b"))))

    async with kagzi, kagzi.create_worker():
        handle = await two.start()
        await until(lambda: begun == ["a"], what="the thread is busy")
        await handle.pause()
        await until_it_is_heard(kagzi)
        go_on.set()
        await until_it_rests(handle)
        before = list(begun)
        await handle.resume()
        assert await handle.result(timeout=30) == ["a", "b"]

    assert before == ["a"]
    assert begun == ["a", "b"]


async def test_undoing_rests_too_and_goes_on(kagzi: Kagzi) -> None:
    gates = Gates()

    async def undo(result: str, given: str) -> None:
        await gates.enter(f"undo {result}")

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        for name in ("first", "second"):
            await ctx.options(undo=undo).step(name, str, name)
        raise ValueError("sold out")

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await gates.reached("undo second")
        await handle.pause()
        await until_it_is_heard(kagzi)
        gates.open_all()
        await until_it_rests(handle)
        before = list(gates.entered)
        await handle.resume()
        with pytest.raises(WorkflowFailed, match="sold out"):
            await handle.result(timeout=30)

    assert before == ["undo second"]
    assert gates.entered == ["undo second", "undo first"]


@pytest.mark.parametrize("park_after", [timedelta(0), DAY], ids=["parked", "warm"])
async def test_a_run_that_is_paused_again_and_again_comes_to_the_same_end(
    any_database_url: str, park_after: timedelta
) -> None:
    """P10, P11, P14: at whatever moment it is held and let go, nothing is executed twice or forgotten."""
    settings = Settings(database_url=any_database_url, park_after=park_after, max_concurrent_steps=3)
    kagzi, chance, done = Kagzi(settings=settings), random.Random(seed := random.randrange(2**32)), Counter[str]()

    async def work(name: str, seconds: float) -> str:
        await asyncio.sleep(seconds)
        if step_info().attempt == 1 and name.endswith("again"):
            raise ConnectionError(name)
        done[name] += 1
        return name

    @kagzi.workflow
    async def small(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step(name, work, name, 0.005)

    @kagzi.workflow
    async def large(ctx: WorkflowContext) -> list[str]:
        retrying = ctx.options(retry=RetryPolicy.fixed(0.02, max_attempts=3))

        async def branch(number: int) -> str:
            first = await retrying.step("work", work, f"{number} again" if number % 3 == 0 else f"{number}", 0.004)
            await ctx.sleep("nap", 0.01 * (number % 4))
            if number % 4 == 1:
                return first + await ctx.child("small", small, f"{number} child")
            return first + await ctx.step("more", work, f"{number} more", 0.002)

        signals = asyncio.create_task(take_all(ctx))
        results = await asyncio.gather(*(branch(number) for number in range(12)))
        return [*results, *await signals]

    async def take_all(ctx: WorkflowContext) -> list[str]:
        numbers = [await ctx.wait_for(GO) for _ in range(5)]
        return [str(number) for number in numbers]

    async with kagzi, kagzi.create_worker():
        handle = await large.start()
        ending = asyncio.ensure_future(handle.result(timeout=60))
        sent = 0
        with contextlib.suppress(RunClosed):
            while not ending.done():
                await handle.pause()
                await asyncio.sleep(chance.choice([0, 0, 0.005, 0.03]))
                if sent < 5:
                    await handle.signal(GO, sent)
                    sent += 1
                await handle.resume()
                await asyncio.sleep(chance.choice([0, 0.01, 0.05]))
        result = await ending

    print(f"seed {seed}")
    assert result[-5:] == ["0", "1", "2", "3", "4"]
    assert len(result) == 17
    assert set(done.values()) == {1}
    assert len(done) == 24
