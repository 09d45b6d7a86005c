"""Eager starts: where client and worker share a process and a slot is free, the run is born claimed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from kagzi import ConflictError, Kagzi, OutcomeUnknown, RunStatus, StoreUnavailable, WorkflowContext
from tests.app.applications import an_application, until, watch, within
from tests.app.watched_store import WatchedStore
from tests.worker.gates import Gates


async def visit(ctx: WorkflowContext, name: str) -> str:
    return name


async def test_a_run_started_beside_a_worker_needs_no_claim(kagzi: Kagzi, store: WatchedStore) -> None:
    workflow = kagzi.register_workflow("visit", visit)

    async with kagzi, kagzi.create_worker():
        await until(lambda: store.trips["claim"] == 1)
        results = [await within((await workflow.start(name)).result()) for name in "abc"]
        claims, starts, reads = store.trips["claim"], store.trips["start"], store.trips["outcomes"]

    assert results == ["a", "b", "c"]
    assert claims <= 2  # a listener that has connected hints once that something may be due
    assert starts == 3
    assert reads <= 3
    assert all(run.owner is not None for (run,) in store.arguments["start"])


async def test_a_run_born_claimed_looks_like_any_other(kagzi: Kagzi, store: WatchedStore) -> None:
    workflow = kagzi.register_workflow("visit", visit)

    async with kagzi, kagzi.create_worker():
        handle = await workflow.options(id="a visit", tags=["t"], attributes={"n": 1}, priority=3).start("a")
        await within(handle.result())
        run = await handle.describe()

    assert (run.id, run.tags, run.attributes, run.priority) == ("a visit", ("t",), {"n": 1}, 3)
    assert (run.status, run.attempts, run.crashes, run.wakeups) == (RunStatus.COMPLETED, 1, 0, 0)
    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.created_at <= run.started_at <= run.finished_at


async def test_without_a_free_slot_the_run_waits_for_its_turn(kagzi: Kagzi, store: WatchedStore, gates: Gates) -> None:
    @kagzi.workflow
    async def wait(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    async with kagzi, kagzi.create_worker(max_concurrent_workflows=1):
        first = await wait.start("a")
        await gates.reached("a")
        second = await wait.start("b")
        status = await second.status()
        gates.open_all()
        results = [await within(first.result()), await within(second.result())]

    assert status is RunStatus.PENDING
    assert results == ["a", "b"]
    assert [run.owner is None for (run,) in store.arguments["start"]] == [False, True]


@pytest.mark.parametrize("options", [{"queue": "other"}, {"namespace": "other"}, {"delay": 60}])
async def test_a_run_that_no_worker_here_may_take_now_is_born_pending(
    kagzi: Kagzi, store: WatchedStore, options: dict[str, object]
) -> None:
    workflow = kagzi.register_workflow("visit", visit)

    async with kagzi, kagzi.create_worker():
        handle = await workflow.options(**options).start("a")
        status = await handle.status()

    assert status is RunStatus.PENDING
    assert [run.owner for (run,) in store.arguments["start"]] == [None]


async def test_p1_a_second_start_with_one_id_gets_the_first_run_and_keeps_no_slot(
    kagzi: Kagzi, gates: Gates, store: WatchedStore
) -> None:
    @kagzi.workflow
    async def wait(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    async with kagzi, kagzi.create_worker(max_concurrent_workflows=3) as worker:
        handles = await asyncio.gather(*(wait.options(id="one").start("a") for _ in range(20)))
        with pytest.raises(ConflictError):
            await wait.options(id="one").start("b")
        await gates.reached("a")
        free = worker.free_slots
        gates.open_all()
        results = {await within(handle.result()) for handle in handles}

    assert len({handle.run_id for handle in handles}) == 1
    assert results == {"a"}
    assert gates.entered == ["a"]
    assert free == 2


async def test_a_start_that_never_reached_the_store_keeps_no_slot(any_database_url: str) -> None:
    kagzi = an_application(any_database_url, store_timeout=timedelta(seconds=1))
    store = watch(kagzi)
    workflow = kagzi.register_workflow("visit", visit)
    async with kagzi, kagzi.create_worker(max_concurrent_workflows=1) as worker:
        with store.unreachable("start"), pytest.raises((StoreUnavailable, OutcomeUnknown)):
            await workflow.start("a")
        free = worker.free_slots
        result = await within((await workflow.start("b")).result())

    assert free == 1
    assert result == "b"


async def test_p4_a_start_whose_answer_was_lost_is_stored_once_and_executed_once(
    kagzi: Kagzi, store: WatchedStore, gates: Gates
) -> None:
    @kagzi.workflow
    async def wait(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    gates.open_all()
    async with kagzi, kagzi.create_worker():
        store.mute.add("start")
        starting = asyncio.ensure_future(wait.start("a"))
        await until(lambda: store.trips["start"] >= 2)
        store.mute.clear()
        handle = await within(starting)
        result = await within(handle.result())
        runs = await kagzi.find_runs()

    assert result == "a"
    assert [run.run_id for run in runs] == [handle.run_id]
    assert gates.entered == ["a"]


async def test_a_start_given_up_while_its_commit_was_under_way_is_executed_all_the_same(
    any_database_url: str, gates: Gates
) -> None:
    kagzi = an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.1))
    store = watch(kagzi)

    @kagzi.workflow
    async def wait(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    gates.open_all()
    async with kagzi, kagzi.create_worker(max_concurrent_workflows=2) as worker:
        gate = store.hold("start")
        starting = asyncio.ensure_future(wait.start("a"))
        await until(lambda: store.waiting["start"])
        starting.cancel()
        await asyncio.wait({starting})
        del store.held["start"]
        gate.set()
        await gates.reached("a")
        await until(lambda: worker.free_slots == 2)
        (run,) = await kagzi.find_runs()

    assert run.status is RunStatus.COMPLETED
