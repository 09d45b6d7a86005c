"""`handle.retry()`: runs that have ended, and go on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from datetime import timedelta
from typing import Any

import pytest

from kagzi import (
    ChildFailed,
    ConflictError,
    ErrorKind,
    Kagzi,
    RetryPolicy,
    RetryPredicate,
    RunNotFound,
    RunStatus,
    Signal,
    StepFailed,
    SyncWorkflowContext,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowFailed,
    WorkflowHandle,
)
from kagzi.client import bulk
from tests.app.applications import until, within
from tests.app.watched_store import WatchedStore
from tests.worker.deaths import declare_dead
from tests.worker.gates import Gates

NOBODY = "01997e00-0000-7000-8000-00000000c0de"
PAID = Signal("paid", int)
DONE = Signal("done", int)


class Service:
    """A step's function that answers once it is repaired."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.is_repaired = False

    async def __call__(self, asked: Any = None) -> str:
        self.calls.append(asked)
        if not self.is_repaired:
            raise ConnectionError("the service is down")
        return f"answer to {asked}"


async def the_failure_of(handle: WorkflowHandle[Any]) -> WorkflowFailed:
    with pytest.raises(WorkflowFailed) as failed:
        await within(handle.result())
    return failed.value


async def test_a_run_goes_on_at_the_step_that_failed(kagzi: Kagzi) -> None:
    """P10: what was completed is not executed again, and what failed has a fresh allowance of attempts."""
    service, done = Service(), list[str]()

    @kagzi.workflow
    async def order(ctx: WorkflowContext, number: int) -> list[str]:
        await ctx.step("reserve", done.append, "reserve")
        await ctx.sleep("pause", 0.01)
        policy = RetryPolicy.fixed(0.01, max_attempts=3)
        charged = await ctx.options(retry=policy).step("charge", service, number)
        await ctx.step("ship", done.append, "ship")
        return [charged, str(ctx.attempt)]

    async with kagzi, kagzi.create_worker():
        handle = await order.start(7)
        await the_failure_of(handle)
        await handle.retry()
        await the_failure_of(handle)
        service.is_repaired = True
        await handle.retry()
        result = await within(handle.result())
        run, steps = await handle.describe(), await handle.history()

    charge = next(step for step in steps if step.name == "charge")
    assert result == ["answer to 7", "3"]
    assert (done, service.calls) == (["reserve", "ship"], [7] * 7)
    assert (charge.status, charge.attempts) == ("COMPLETED", 7)
    assert [failed.attempt for failed in charge.failed_attempts] == [1, 2, 3, 4, 5, 6]
    assert (run.status, run.attempts, run.error) == (RunStatus.COMPLETED, 3, None)


async def test_a_body_that_was_mended_goes_on_with_all_its_results(kagzi: Kagzi) -> None:
    done: list[str] = []
    is_mended = False

    @kagzi.workflow
    async def broken(ctx: WorkflowContext) -> str:
        await asyncio.gather(*(ctx.step(name, done.append, name) for name in "abc"))
        if not is_mended:
            raise ValueError("a fault in the code")
        return "mended"

    async with kagzi, kagzi.create_worker():
        handle = await broken.start()
        await the_failure_of(handle)
        is_mended = True
        await handle.retry()
        assert await within(handle.result()) == "mended"

    assert sorted(done) == ["a", "b", "c"]


async def test_a_cancelled_run_goes_on_and_can_be_cancelled_again(kagzi: Kagzi) -> None:
    cleaned: list[int] = []

    @kagzi.workflow
    async def patient(ctx: WorkflowContext) -> str:
        try:
            await ctx.sleep("long", timedelta(days=1))
        except asyncio.CancelledError:
            await ctx.step("clean", cleaned.append, ctx.attempt)
            raise
        return "slept"

    async with kagzi, kagzi.create_worker():
        handle = await patient.start()
        for _ in range(2):
            await until(lambda: asleep(handle))
            await handle.cancel("for now")
            with pytest.raises(WorkflowCancelled):
                await within(handle.result())
            await handle.retry()
        await until(lambda: asleep(handle))
        assert (await handle.describe()).error is None

    assert cleaned == [1]  # what was done once is not done again, in a later attempt either


async def asleep(handle: WorkflowHandle[Any]) -> bool:
    return await handle.status() is RunStatus.SLEEPING


async def test_a_terminated_run_goes_on_while_its_worker_still_executes_it(kagzi: Kagzi, gates: Gates) -> None:
    """The execution that does not know of the end yet is dropped for the new attempt."""

    @kagzi.workflow
    async def stubborn(ctx: WorkflowContext) -> str:
        await ctx.step("work", gates.enter, f"work-{ctx.attempt}")
        return f"attempt {ctx.attempt}"

    async with kagzi, kagzi.create_worker():
        handle = await stubborn.start()
        await gates.reached("work-1")
        await handle.terminate("by mistake")
        await handle.retry()
        await gates.reached("work-2")
        gates.open("work-2")
        assert await within(handle.result()) == "attempt 2"


async def test_signals_that_were_not_received_are_still_there(kagzi: Kagzi) -> None:
    """P19; and one that was received before is received again, in its place."""
    service = Service()

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> tuple[int, int]:
        first = await ctx.wait_for(PAID)
        await ctx.step("book", service, first)
        return first, await ctx.wait_for(PAID)

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await handle.signal(PAID, 1)
        await handle.signal(PAID, 2)
        await the_failure_of(handle)
        service.is_repaired = True
        await handle.retry()
        assert await within(handle.result()) == (1, 2)


async def test_a_def_workflow_goes_on_too(kagzi: Kagzi) -> None:
    service, threads = Service(), set[str]()

    @kagzi.workflow
    def plain(ctx: SyncWorkflowContext) -> str:
        ctx.step("thread", lambda: threads.add(threading.current_thread().name))
        return ctx.step("ask", service, "plain")

    async with kagzi, kagzi.create_worker():
        handle = await plain.start()
        await the_failure_of(handle)
        service.is_repaired = True
        await handle.retry()
        assert await within(handle.result()) == "answer to plain"

    assert len(threads) == 1


async def test_a_poisoned_run_goes_on(kagzi: Kagzi, store: WatchedStore, gates: Gates) -> None:
    """P22."""

    @kagzi.workflow
    async def deadly(ctx: WorkflowContext) -> str:
        await ctx.step("boom", gates.enter, "boom")
        return "survived"

    async with kagzi, kagzi.create_worker() as worker:
        handle = await deadly.start()
        await gates.reached("boom")
        await declare_dead(store.real, worker.key, poison_after=1)
        assert (await the_failure_of(handle)).error.kind is ErrorKind.POISON_RUN
        await handle.retry()
        assert (await handle.describe()).crashes == 0
        gates.open("boom")
        assert await within(handle.result()) == "survived"


async def test_a_run_whose_time_was_over_has_all_of_it_again(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def slow(ctx: WorkflowContext) -> str:
        if ctx.attempt == 1:
            await ctx.sleep("long", timedelta(days=1))
        return "in time"

    async with kagzi, kagzi.create_worker():
        handle = await slow.options(timeout=0.3).start()
        assert (await the_failure_of(handle)).error.kind is ErrorKind.TIMEOUT
        await handle.retry()
        assert await within(handle.result()) == "in time"


async def test_only_what_failed_or_was_cancelled_can_go_on(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def fine(ctx: WorkflowContext) -> None:
        await ctx.step("work", gates.enter, "work")

    async with kagzi, kagzi.create_worker():
        queued = await fine.options(delay=60, id="queued").start()
        handle = await fine.start()
        await gates.reached("work")
        with pytest.raises(ConflictError, match="has not ended \\(PENDING\\)") as refused:
            await queued.retry()
        with pytest.raises(ConflictError, match="has not ended \\(RUNNING\\)"):
            await handle.retry()
        gates.open("work")
        await within(handle.result())
        with pytest.raises(ConflictError, match="was completed"):
            await handle.retry()
        with pytest.raises(RunNotFound):
            await kagzi.handle(NOBODY).retry()
        with pytest.raises(RunNotFound):
            await kagzi.handle("order-7").retry()

    assert (refused.value.id, refused.value.run_id) == ("queued", queued.run_id)


async def test_many_who_saw_it_failed_have_retried_it_once(kagzi: Kagzi, store: WatchedStore) -> None:
    service = Service()

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> str:
        return await ctx.step("ask", service)

    async with kagzi:
        async with kagzi.create_worker():
            handle = await order.start()
            await the_failure_of(handle)
        gate = store.hold("reopen")
        retries = [asyncio.create_task(handle.retry()) for _ in range(10)]
        await until(lambda: store.waiting["reopen"] == 10)
        gate.set()
        await asyncio.gather(*retries)
        assert (await handle.describe()).attempts == 2


async def test_an_answer_that_was_lost_is_asked_for_again(kagzi: Kagzi, store: WatchedStore) -> None:
    """P4: the run goes on once."""
    service = Service()

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> str:
        return await ctx.step("ask", service)

    async with kagzi:
        async with kagzi.create_worker():
            handle = await order.start()
            await the_failure_of(handle)
        store.mute.add("reopen")
        under_way = asyncio.create_task(handle.retry())
        await until(lambda: store.trips["reopen"] >= 2)
        store.mute.clear()
        await within(under_way)
        assert (await handle.describe()).attempts == 2


async def test_a_parent_that_goes_on_starts_the_child_that_failed_anew(kagzi: Kagzi) -> None:
    service = Service()

    @kagzi.workflow
    async def child(ctx: WorkflowContext) -> str:
        return await ctx.step("ask", service, "child")

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> str:
        return await ctx.child("child", child)

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        await the_failure_of(handle)
        service.is_repaired = True
        await handle.retry()
        assert await within(handle.result()) == "answer to child"
        assert len(await kagzi.find_runs(workflow="child")) == 2


async def test_a_parent_takes_the_result_of_a_child_that_went_on_first(kagzi: Kagzi) -> None:
    """One that has seen its child fail isn't touched by the child's retry; once it is retried, it takes the result."""
    service = Service()

    @kagzi.workflow
    async def child(ctx: WorkflowContext) -> str:
        return await ctx.step("ask", service, "child")

    @kagzi.workflow
    async def parent(ctx: WorkflowContext, own_id: str | None, beside: bool) -> str:
        if beside:
            return await (await ctx.options(id=own_id).start_child("child", child)).result()
        return await ctx.options(id=own_id).child("child", child)

    async with kagzi, kagzi.create_worker():
        for own_id, beside in (("child-7", False), (None, False), ("child-8", True), (None, True)):
            service.is_repaired = False
            handle = await parent.start(own_id, beside)
            failed = await the_failure_of(handle)
            (started,) = (run for run in await kagzi.find_runs(workflow="child") if run.parent_run_id == handle.run_id)
            service.is_repaired = True
            await kagzi.handle(started.run_id).retry()
            assert await within(kagzi.handle(started.run_id).result()) == "answer to child"
            assert await handle.status() is RunStatus.FAILED
            await handle.retry()
            assert await within(handle.result()) == "answer to child"
            assert failed.error.type == ChildFailed.__name__
    assert len(service.calls) == 8


@pytest.mark.parametrize("batch", [1, 500], ids="{} at a time".format)
@pytest.mark.parametrize("beside", [False, True], ids=["awaited", "started"])
async def test_a_family_that_failed_goes_on_and_does_all_once(
    kagzi: Kagzi, monkeypatch: pytest.MonkeyPatch, batch: int, beside: bool
) -> None:
    """P10: the parent awaits the child that goes on, and starts none in its place."""
    monkeypatch.setattr(bulk, "BATCH", batch)
    service = Service()

    @kagzi.workflow
    async def child(ctx: WorkflowContext) -> str:
        answer = await ctx.step("ask", service, "child")
        await ctx.wait_for(PAID)
        return answer

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> str:
        if beside:
            return await (await ctx.start_child("child", child)).result()
        return await ctx.child("child", child)

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        await the_failure_of(handle)
        service.is_repaired = True
        retried = await kagzi.retry_runs(all=True)
        (started,) = await kagzi.find_runs(parent=handle.run_id)
        await kagzi.handle(started.run_id).signal(PAID, 1)
        assert await within(handle.result()) == "answer to child"
        assert await has_children(kagzi, handle, 1)

    assert sorted(retried.done) == sorted([handle.run_id, started.run_id])
    assert len(service.calls) == 2


@pytest.mark.parametrize("again", ["by hand", "by its policy"])
async def test_a_child_that_fails_again_is_started_no_third_time(kagzi: Kagzi, gates: Gates, again: str) -> None:
    """Its parent sleeps meanwhile, and hears of the failure as in its first attempt."""
    policy = RetryPolicy.none() if again == "by hand" else RetryPolicy.fixed(0.01, max_attempts=2)

    async def fail() -> None:
        await gates.enter(f"child {len(gates.entered) + 1}")
        raise ConnectionError("the service is down")

    @kagzi.workflow
    async def child(ctx: WorkflowContext) -> None:
        await ctx.step("fail", fail)

    @kagzi.workflow(retry=policy, retry_if=RetryPredicate.ON_ANY_ERROR)
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.child("child", child)

    async def sleeps() -> bool:
        return await handle.status() is RunStatus.SLEEPING

    async def fails(name: str) -> None:
        await gates.reached(name)
        await until(sleeps)
        gates.open(name)

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        await fails("child 1")
        if again == "by hand":
            await the_failure_of(handle)
            await handle.retry()
        await fails("child 2")
        failed = await the_failure_of(handle)
        children = await kagzi.find_runs(parent=handle.run_id)

    assert failed.error.type == ChildFailed.__name__
    assert [run.status for run in children] == [RunStatus.FAILED] * 2


@pytest.mark.parametrize("is_over", [True, False], ids=["that ended with it", "that is about to end with it"])
@pytest.mark.parametrize("is_named", [True, False], ids=["with an id", "without"])
async def test_a_parent_that_goes_on_starts_in_place_of_a_child(kagzi: Kagzi, is_over: bool, is_named: bool) -> None:
    """P14: it had started the child and not yet awaited it when it failed itself. A child with an id can't be started
    anew, so it goes on by hand, too."""
    service = Service()

    @kagzi.workflow
    async def child(ctx: WorkflowContext) -> int:
        try:
            return await ctx.wait_for(PAID)
        except asyncio.CancelledError:
            if service.calls == [None]:
                await ctx.wait_for(DONE)
            raise

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> int:
        started = await ctx.options(id="child-7" if is_named else None).start_child("child", child)
        await ctx.sleep("long enough for it to begin", 0.3)
        await ctx.step("ask", service)
        return await started.result()

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        await the_failure_of(handle)
        (first,) = await kagzi.find_runs(parent=handle.run_id)
        child_handle = kagzi.handle(first.run_id)
        await until(lambda: cleans_up(child_handle), what="the child was told")
        if is_over:
            await child_handle.signal(DONE, 1)
            await until(lambda: has_ended(child_handle))
        service.is_repaired = True
        await handle.retry()
        if not is_over:
            await child_handle.signal(DONE, 1)
        if is_named:
            assert (await the_failure_of(handle)).error.type == ChildFailed.__name__
            await child_handle.retry()
            await child_handle.signal(PAID, 7)
            await within(child_handle.result())
            await handle.retry()
        else:
            await until(lambda: has_children(kagzi, handle, 2))
            (second, _) = await kagzi.find_runs(parent=handle.run_id)
            await kagzi.handle(second.run_id).signal(PAID, 7)
        result = await within(handle.result())

    assert result == 7


async def test_a_child_is_given_up_while_its_parent_looks_how_it_stands(kagzi: Kagzi, store: WatchedStore) -> None:
    """P14: an earlier attempt has left it open."""

    @kagzi.workflow
    async def child(ctx: WorkflowContext) -> int:
        return await ctx.wait_for(PAID)

    @kagzi.workflow(retry=RetryPolicy.fixed(0.01, max_attempts=2), retry_if=RetryPredicate.ON_ANY_ERROR)
    async def parent(ctx: WorkflowContext) -> int:
        waiting = asyncio.create_task(wait(ctx))
        if ctx.attempt == 1:
            await ctx.sleep("long enough for it to begin", 0.3)
            raise LookupError("once")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await waiting
        return await ctx.wait_for(DONE)

    async def wait(ctx: WorkflowContext) -> None:
        await ctx.child("child", child)

    held = store.hold("latest")
    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        await until(lambda: has_children(kagzi, handle, 1))
        (started,) = await kagzi.find_runs(parent=handle.run_id)
        await until(lambda: store.waiting["latest"] == 1, what="the second attempt has come to the child")
        await until(lambda: has_ended(kagzi.handle(started.run_id)), what="it was given up")
        held.set()
        assert await kagzi.handle(started.run_id).status() is RunStatus.CANCELLED
        await handle.signal(DONE, 7)
        assert await within(handle.result()) == 7


async def cleans_up(handle: WorkflowHandle[Any]) -> bool:
    return any("done" in each for each in (await handle.describe()).waiting_for)


async def has_ended(handle: WorkflowHandle[Any]) -> bool:
    return (await handle.status()).is_terminal


async def has_children(kagzi: Kagzi, handle: WorkflowHandle[Any], count: int) -> bool:
    return len(await kagzi.find_runs(parent=handle.run_id)) == count


async def test_a_step_whose_failure_was_dealt_with_is_executed_anew_as_well(kagzi: Kagzi) -> None:
    """What failed is executed again, wherever the body went on from there (decision 0016)."""
    first, second = Service(), Service()

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> str:
        try:
            how = await ctx.step("by-card", first)
        except StepFailed:
            how = "by invoice"
        await ctx.step("book", second, how)
        return how

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await the_failure_of(handle)
        first.is_repaired = second.is_repaired = True
        await handle.retry()
        assert await within(handle.result()) == "answer to None"
    assert second.calls == ["by invoice", "answer to None"]
