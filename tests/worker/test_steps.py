"""Steps on a worker: how many at a time, where plain functions run, and what can be seen of them."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from datetime import timedelta
from typing import Any

import pytest

from kagzi import ErrorKind, Kagzi, KagziError, StepStatus, WorkflowContext, WorkflowFailed, step_info
from kagzi.engine.execution import Execution
from tests.app.applications import PATIENCE_S, an_application, until, within
from tests.worker.gates import Gates


async def test_no_more_steps_run_at_a_time_than_allowed_over_all_runs(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def fan_out(ctx: WorkflowContext, name: str) -> list[str]:
        return await asyncio.gather(*(ctx.step("enter", gates.enter, f"{name}{number}") for number in range(4)))

    async with kagzi, kagzi.create_worker(max_concurrent_steps=3):
        handles = [await fan_out.start(name) for name in "ab"]
        await gates.full(3)
        entered = list(gates.entered)
        gates.open(entered[0])
        await until(lambda: len(gates.entered) == 4)
        gates.open_all()
        results = [await within(handle.result()) for handle in handles]

    assert gates.most_inside == 3
    assert results == [["a0", "a1", "a2", "a3"], ["b0", "b1", "b2", "b3"]]


async def test_a_plain_function_runs_in_a_thread_and_knows_its_step(kagzi: Kagzi) -> None:
    def describe() -> tuple[str, str, int, str, bool, bool]:
        info = step_info()
        in_main = threading.current_thread() is threading.main_thread()
        return info.run_id, info.name, info.attempt, info.idempotency_key, info.cancelled, in_main

    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> list[tuple[str, str, int, str, bool, bool]]:
        return [await ctx.step("describe", describe), await ctx.step("describe", describe)]

    async with kagzi, kagzi.create_worker():
        handle = await work.start()
        first, second = await within(handle.result())

    assert first[:3] == second[:3] == (handle.run_id, "describe", 1)
    assert first[3] != second[3], "two steps share an idempotency key"
    assert first[4:] == (False, False)


async def test_p10_a_steps_idempotency_key_is_the_same_in_every_execution_of_it(kagzi: Kagzi, gates: Gates) -> None:
    keys: list[str] = []

    async def note() -> str:
        keys.append(step_info().idempotency_key)
        return await gates.enter("note")

    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> str:
        return await ctx.step("note", note)

    async with kagzi:
        async with kagzi.create_worker(graceful_shutdown_timeout=0):
            handle = await work.start()
            await gates.reached("note")
        gates.open_all()
        async with kagzi.create_worker():
            await within(handle.result())

    assert len(keys) == 2
    assert keys[0] == keys[1]


async def test_plain_functions_do_not_hold_up_the_event_loop_or_each_other(kagzi: Kagzi) -> None:
    together = threading.Barrier(4)

    def meet(number: int) -> int:
        together.wait(PATIENCE_S)
        return number

    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> list[int]:
        return await asyncio.gather(*(ctx.step("meet", meet, number) for number in range(4)))

    async with kagzi, kagzi.create_worker():
        result = await within((await work.start()).result())

    assert result == [0, 1, 2, 3]


async def test_a_plain_function_that_took_too_long_can_see_that_nobody_waits(kagzi: Kagzi) -> None:
    noticed = threading.Event()

    def slow() -> None:
        info = step_info()
        deadline = time.monotonic() + PATIENCE_S
        while not info.cancelled and time.monotonic() < deadline:
            time.sleep(0.005)
        if info.cancelled:
            noticed.set()

    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> None:
        await ctx.options(timeout=0.1).step("slow", slow)

    async with kagzi, kagzi.create_worker():
        with pytest.raises(WorkflowFailed, match=r"timeout of 0\.1 s") as failure:
            await within((await work.start()).result())
        await until(noticed.is_set)

    assert failure.value.error.kind is ErrorKind.TIMEOUT


async def test_a_plain_function_of_a_step_that_lost_a_race_can_see_that_nobody_waits(
    kagzi: Kagzi, gates: Gates
) -> None:
    noticed, began = threading.Event(), threading.Event()

    def slow() -> None:
        info = step_info()
        began.set()
        deadline = time.monotonic() + PATIENCE_S
        while not info.cancelled and time.monotonic() < deadline:
            time.sleep(0.005)
        if info.cancelled:
            noticed.set()

    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> str:
        loser, winner = ctx.step("slow", slow), ctx.step("quick", gates.enter, "quick")
        either: list[asyncio.Future[Any]] = [loser, winner]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        loser.cancel()
        return await winner

    async with kagzi, kagzi.create_worker():
        handle = await work.start()
        await until(began.is_set)
        gates.open_all()
        result = await within(handle.result())
        await until(noticed.is_set)
        steps = await handle.history()

    assert result == "quick"
    assert [step.name for step in steps] == ["quick"]


async def test_a_step_that_runs_for_long_is_shown_while_it_does(any_database_url: str, gates: Gates) -> None:
    kagzi = an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.1))

    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> str:
        await ctx.step("brief", asyncio.sleep, 0)
        return await ctx.step("long", gates.enter, "long")

    async with kagzi, kagzi.create_worker():
        handle = await work.start()
        await gates.reached("long")

        async def is_shown() -> bool:
            return len(await handle.history()) == 2

        await until(is_shown)
        shown = await handle.history()
        gates.open_all()
        await within(handle.result())
        done = await handle.history()

    assert [(step.name, step.status, step.attempts) for step in shown] == [
        ("brief", StepStatus.COMPLETED, 1),
        ("long", StepStatus.RUNNING, 1),
    ]
    assert shown[1].started_at is not None
    assert shown[1].finished_at is None
    assert [(step.name, step.status, step.attempts) for step in done] == [
        ("brief", StepStatus.COMPLETED, 1),
        ("long", StepStatus.COMPLETED, 1),
    ]
    assert done[1].started_at == shown[1].started_at


async def test_a_step_that_waited_for_its_turn_counts_from_when_it_began(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> None:
        await asyncio.gather(ctx.step("first", gates.enter, "a"), ctx.step("second", gates.enter, "b"))

    async with kagzi, kagzi.create_worker(max_concurrent_steps=1) as worker:
        handle = await work.start()
        await gates.reached("a")
        later = worker.clock.now() + timedelta(seconds=0.2)
        await until(lambda: worker.clock.now() >= later)
        gates.open_all()
        await within(handle.result())
        first, second = await handle.history()

    assert first.started_at is not None
    assert second.started_at is not None
    assert first.started_at < later <= second.started_at


async def test_step_info_outside_of_a_step_is_refused(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> None:
        step_info()

    with pytest.raises(KagziError, match="outside of a step"):
        step_info()
    async with kagzi, kagzi.create_worker():
        with pytest.raises(WorkflowFailed, match="outside of a step"):
            await within((await work.start()).result())


async def test_a_run_that_sleeps_in_the_store_leaves_nothing_in_memory(any_database_url: str) -> None:
    kagzi = an_application(any_database_url, park_after=timedelta(0))

    class Held:
        """Something that the body holds while it sleeps."""

    held: list[weakref.ref[Held]] = []

    @kagzi.workflow
    async def nap(ctx: WorkflowContext) -> None:
        thing = Held()
        held.append(weakref.ref(thing))
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.sleep("one", 3600))
            group.create_task(ctx.sleep("two", 3600))
        del thing

    gc.collect()
    left_by_others = {id(found) for found in gc.get_objects() if isinstance(found, Execution)}
    async with kagzi, kagzi.create_worker() as worker:
        handles = [await nap.start() for _ in range(20)]
        await until(lambda: len(held) == 20 and worker.run_count == 0)
        gc.collect()
        alive = [reference for reference in held if reference() is not None]
        executions = [
            found for found in gc.get_objects() if isinstance(found, Execution) and id(found) not in left_by_others
        ]
        runs = [await handle.describe() for handle in handles]

    assert alive == []
    assert executions == []
    assert {run.waiting_for for run in runs} != {()}
    assert all("one" in run.waiting_for[0] for run in runs)


@pytest.mark.parametrize(("nap_s", "parks"), [(0.1, False), (0.6, True)])
async def test_a_short_wait_stays_in_memory_and_a_long_one_does_not(
    any_database_url: str, nap_s: float, parks: bool
) -> None:
    kagzi = an_application(any_database_url, park_after=timedelta(seconds=0.3))

    @kagzi.workflow
    async def nap(ctx: WorkflowContext) -> None:
        await ctx.sleep("nap", nap_s)

    async with kagzi, kagzi.create_worker():
        handle = await nap.start()
        await within(handle.result())
        run = await handle.describe()

    assert run.wakeups == int(parks)
