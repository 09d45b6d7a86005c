"""`handle.fork()`: new runs with the history of others."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from kagzi import (
    ChildFailed,
    ConflictError,
    Kagzi,
    PayloadError,
    RetryPolicy,
    RunNotFound,
    RunStatus,
    Signal,
    VersionNotFound,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowFailed,
    WorkflowHandle,
)
from tests.app.applications import an_application, until, within
from tests.app.watched_store import WatchedStore
from tests.worker.gates import Gates

NOBODY = "01997e00-0000-7000-8000-00000000c0de"
WORD = Signal("word", str)


class Ledger:
    """What the steps have done, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def do(self, what: str) -> str:
        self.done.append(what)
        return f"{what} done"


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


async def asleep(handle: WorkflowHandle[Any]) -> bool:
    return await handle.status() is RunStatus.SLEEPING


async def test_a_fork_goes_on_from_a_step_with_another_result_and_another_input(kagzi: Kagzi, ledger: Ledger) -> None:
    @kagzi.workflow
    async def order(ctx: WorkflowContext, item: str) -> list[str]:
        price = await ctx.step("price", ledger.do, f"price of {item}")
        await ctx.sleep("pause", 0.01)
        charged = await ctx.step("charge", ledger.do, f"charge {price}")
        return [item, charged, await ctx.step("ship", ledger.do, "ship")]

    async with kagzi, kagzi.create_worker():
        handle = await order.options(id="order-7", tags=["a"]).start("pen")
        first = await within(handle.result())
        ledger.done.clear()
        same = await handle.fork(at_step="ship")
        other = await handle.fork(at_step="charge", input="ink", set={"price": "7"}, id="order-8")
        results = [await within(same.result()), await within(other.result())]
        run, steps = await other.describe(), await other.history()
        again = await within(handle.result())

    assert first == again == ["pen", "charge price of pen done done", "ship done"]
    assert results == [first, ["ink", "charge 7 done", "ship done"]]
    assert sorted(ledger.done) == ["charge 7", "ship", "ship"]
    assert (run.id, run.forked_from, run.input, run.tags) == ("order-8", handle.run_id, ["ink"], ("a",))
    assert [(step.name, step.output) for step in steps[:2]] == [("price", "7"), ("pause", None)]


async def test_a_fork_has_its_source_s_time_and_chance(kagzi: Kagzi, ledger: Ledger) -> None:
    """A replay in the fork sees what the source saw, so code that follows them goes the same way."""

    @kagzi.workflow
    async def chances(ctx: WorkflowContext) -> list[str]:
        seen = [str(ctx.uuid4()), str(ctx.now()), str(ctx.random())]
        await ctx.sleep_until("until", ctx.now() + timedelta(seconds=0.01))
        await ctx.step("a", ledger.do, "a")
        seen += [str(ctx.uuid4()), str(ctx.now())]
        await ctx.step("b", ledger.do, "b")
        return seen

    async with kagzi, kagzi.create_worker():
        handle = await chances.start()
        result = await within(handle.result())
        fork = await handle.fork(at_step="b")
        assert await within(fork.result()) == result
        second = await fork.fork(at_step="b")
        assert await within(second.result()) == result
        begun = await handle.fork(at_step="a")
        assert (await within(begun.result()))[:4] == result[:4]

    assert ledger.done == ["a", "b", "b", "b", "a", "b"]


async def shows(handle: WorkflowHandle[Any], name: str) -> bool:
    return name in [step.name for step in await handle.history()]


async def test_an_open_run_is_forked_and_goes_on(any_database_url: str, ledger: Ledger, gates: Gates) -> None:
    kagzi = an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.1))

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step("a", ledger.do, "a")
        word = await ctx.wait_for(WORD)
        await ctx.step("held", gates.enter, word)
        return word

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await handle.signal(WORD, "first")
        await gates.reached("first")
        await until(lambda: shows(handle, "held"))
        at_the_step = await handle.fork(at_step="held")
        at_the_signal = await handle.fork(at_step="word")
        await gates.reached("first", times=2)
        await at_the_signal.signal(WORD, "second")
        await gates.reached("second")
        gates.open("first")
        gates.open("second")
        results = [await within(each.result()) for each in (handle, at_the_step, at_the_signal)]

    assert results == ["first", "first", "second"]
    assert ledger.done == ["a"]


async def test_a_failed_run_is_forked_at_the_step_that_failed(kagzi: Kagzi, ledger: Ledger) -> None:
    """Its failed executions belong to the source: the fork has all that the policy allows."""
    tries: list[str] = []

    async def charge(run: str) -> str:
        tries.append(run)
        raise ConnectionError("the service is down")

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step("a", ledger.do, "a")
        return await ctx.options(retry=RetryPolicy.fixed(0.01, max_attempts=2)).step("charge", charge, ctx.run_id)

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        with pytest.raises(WorkflowFailed):
            await within(handle.result())
        fork = await handle.fork(at_step="charge")
        with pytest.raises(WorkflowFailed):
            await within(fork.result())
        mended = await (await fork.fork(at_step="charge")).describe()

    assert tries[:4] == [handle.run_id] * 2 + [fork.run_id] * 2
    assert (ledger.done, mended.forked_from) == (["a"], fork.run_id)


async def test_a_run_that_was_retried_is_forked_at_what_its_attempts_did(kagzi: Kagzi, ledger: Ledger) -> None:
    is_mended = False

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> int:
        for name in "abc":
            await ctx.step(name, ledger.do, name)
        if not is_mended:
            raise ValueError("a fault in the code")
        await ctx.step("d", ledger.do, "d")
        return ctx.attempt

    async with kagzi:
        async with kagzi.create_worker():
            handle = await order.start()
            with pytest.raises(WorkflowFailed):
                await within(handle.result())
            await handle.retry()
            with pytest.raises(WorkflowFailed):
                await within(handle.result())
        is_mended = True
        ledger.done.clear()
        at_b = await handle.fork(at_step="b")  # in the present attempt, which has handed it out
        await handle.retry()
        at_c = await handle.fork(at_step="c")  # in an attempt that has not begun
        async with kagzi.create_worker():
            results = [await within(each.result()) for each in (at_b, at_c, handle)]

    assert results == [2, 3, 3]
    assert sorted(ledger.done) == sorted("bcd" + "cd" + "d")


async def test_a_fork_keeps_the_results_of_its_source_s_children(kagzi: Kagzi, ledger: Ledger, gates: Gates) -> None:
    """And hears of those that were only started how they have ended, or that it will not hear it."""

    @kagzi.workflow
    async def child(ctx: WorkflowContext, name: str) -> str:
        await ctx.step("held", gates.enter, name)
        return f"{name} done"

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> list[str]:
        first = await ctx.child("first", child, "first")
        started = [await ctx.start_child(name, child, name) for name in ("second", "third")]
        await ctx.step("a", ledger.do, "a")
        results = [first]
        for each in started:
            try:
                results.append(await each.result())
            except ChildFailed as failed:
                results.append(failed.error.type)
        return results

    async with kagzi, kagzi.create_worker():
        gates.open("first")
        handle = await parent.start()
        await gates.reached("third")
        gates.open("second")
        await until(lambda: is_completed(kagzi, "second"))
        fork = await handle.fork(at_step="a")
        assert await within(fork.result()) == ["first done", "second done", "ChildOfAnother"]
        gates.open("third")
        assert await within(handle.result()) == ["first done", "second done", "third done"]

    assert gates.entered.count("first") == 1


async def is_completed(kagzi: Kagzi, name: str) -> bool:
    runs = await kagzi.find_runs(workflow="child", status=RunStatus.COMPLETED)
    return [name] in [(await kagzi.handle(run.run_id).describe()).input for run in runs]


async def test_code_that_does_not_fit_the_history_is_told_so(kagzi: Kagzi, ledger: Ledger) -> None:
    """P16: also where another input leads elsewhere."""

    @kagzi.workflow
    async def order(ctx: WorkflowContext, item: str) -> None:
        await ctx.step(item, ledger.do, item)
        await ctx.step("ship", ledger.do, "ship")

    async with kagzi, kagzi.create_worker():
        handle = await order.start("pen")
        await within(handle.result())
        fork = await handle.fork(at_step="ship", input="ink")
        await until(lambda: asleep(fork))
        run = await fork.describe()

    assert run.error is not None
    assert run.error.type == "DivergenceError"
    assert ledger.done == ["pen", "ship"]


async def test_a_fork_can_have_another_version(kagzi: Kagzi, ledger: Ledger) -> None:
    async def first(ctx: WorkflowContext) -> str:
        await ctx.step("a", ledger.do, "a")
        await ctx.step("b", ledger.do, "b")
        return "first"

    async def second(ctx: WorkflowContext) -> str:
        await ctx.step("a", ledger.do, "a")
        await ctx.step("c", ledger.do, "c")
        return "second"

    kagzi.register_workflow_version("order", 1, first)
    kagzi.register_workflow_version("order", 2, second)
    async with kagzi, kagzi.create_worker():
        handle = await kagzi.start_workflow_version("order", 1)
        await within(handle.result())
        forks = [await handle.fork(at_step="b", version=version) for version in (None, 2)]
        assert [await within(each.result()) for each in forks] == ["first", "second"]
        with pytest.raises(VersionNotFound):
            await handle.fork(at_step="b", version=3)

    assert sorted(ledger.done) == ["a", "b", "b", "c"]


async def test_what_can_not_be_forked_is_refused(kagzi: Kagzi, ledger: Ledger) -> None:
    @kagzi.workflow
    async def order(ctx: WorkflowContext, number: int) -> None:
        for _ in range(2):
            await ctx.step("charge", ledger.do, "charge")
        await ctx.sleep("pause", 0.01)
        await ctx.step("ship", ledger.do, "ship")

    async with kagzi, kagzi.create_worker():
        handle = await order.options(id="order-7").start(1)
        await within(handle.result())
        with pytest.raises(ValueError, match=r"no step 'refund' in its history\. There are: 0/charge#1, 0/charge#2"):
            await handle.fork(at_step="refund")
        with pytest.raises(ValueError, match="2 operations that 'charge' may mean: 0/charge#1, 0/charge#2"):
            await handle.fork(at_step="charge")
        with pytest.raises(ValueError, match="its result can't be set"):
            await handle.fork(at_step="charge#2", set={"ship": 1})
        with pytest.raises(ValueError, match="no step 'price'"):
            await handle.fork(at_step="ship", set={"price": 1})
        with pytest.raises(ValueError, match="only results of steps can be set"):
            await handle.fork(at_step="ship", set={"pause": 1})
        with pytest.raises(ValueError, match="set twice"):
            await handle.fork(at_step="ship", set={"charge#1": 1, "0/charge#1": 2})
        with pytest.raises(PayloadError, match=r"0/charge#1"):
            await handle.fork(at_step="ship", set={"charge#1": object()})
        with pytest.raises(PayloadError, match="the input of workflow 'order'"):
            await handle.fork(at_step="ship", input="seven")
        with pytest.raises(ConflictError, match="'order-7' exists already") as taken:
            await handle.fork(at_step="ship", id="order-7")
        for nowhere in (NOBODY, "order-7"):
            with pytest.raises(RunNotFound):
                await kagzi.handle(nowhere).fork(at_step="ship")
        for wrong in ({"at_step": 1}, {"at_step": "ship", "set": [1]}, {"at_step": "ship", "set": {1: 1}}):
            with pytest.raises(TypeError):
                await handle.fork(**wrong)
        assert len(await kagzi.find_runs()) == 1

    assert taken.value.run_id == handle.run_id


async def test_a_run_that_was_cancelled_is_forked_from_before_that(kagzi: Kagzi, ledger: Ledger) -> None:
    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step("a", ledger.do, "a")
        try:
            return await ctx.wait_for(WORD)
        except asyncio.CancelledError:
            await ctx.step("clean", ledger.do, "clean")
            raise

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await until(lambda: asleep(handle))
        await handle.cancel()
        with pytest.raises(WorkflowCancelled):
            await within(handle.result())
        with pytest.raises(ValueError, match="was cancelled, or its body was over, before it came to step 'clean'"):
            await handle.fork(at_step="clean")
        fork = await handle.fork(at_step="a")
        await fork.signal(WORD, "go on")
        assert await within(fork.result()) == "go on"

    assert ledger.done == ["a", "clean", "a"]


async def test_an_answer_that_was_lost_makes_no_second_fork(kagzi: Kagzi, store: WatchedStore, ledger: Ledger) -> None:
    """P4."""

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step("a", ledger.do, "a")

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await within(handle.result())
        store.mute.add("fork")
        under_way = asyncio.create_task(handle.fork(at_step="a"))
        await until(lambda: store.trips["fork"] >= 2)
        store.mute.clear()
        fork = await within(under_way)
        await within(fork.result())
        assert len(await kagzi.find_runs()) == 2


async def test_a_fork_shows_what_its_source_showed_by_then(kagzi: Kagzi, ledger: Ledger) -> None:
    @kagzi.workflow
    async def display(ctx: WorkflowContext) -> None:
        await ctx.publish("at", 1)
        await ctx.publish("at", 2)
        await ctx.step("a", ledger.do, "a")
        await ctx.publish("at", 3)
        await ctx.wait_for(WORD)

    async with kagzi, kagzi.create_worker():
        handle = await display.start()
        await until(lambda: asleep(handle))
    async with kagzi:
        fork = await kagzi.handle(handle.run_id).fork(at_step="a")
        assert (await handle_value(kagzi, handle), await handle_value(kagzi, fork)) == (3, 2)


async def handle_value(kagzi: Kagzi, handle: WorkflowHandle[Any]) -> object:
    return await kagzi.handle(handle.run_id).value("at")
