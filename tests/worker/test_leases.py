"""Leases: what a worker does that was declared dead, can't renew, or owns what it doesn't know of."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from kagzi import Kagzi, RunStatus, WorkflowContext
from kagzi.model.claim import ClaimRequest
from kagzi.model.worker import WorkerState
from tests.app.applications import an_application, until, watch, within
from tests.app.watched_store import WatchedStore
from tests.worker.deaths import declare_dead
from tests.worker.gates import Gates


@pytest.fixture
def kagzi(any_database_url: str) -> Kagzi:
    """Its workers beat often, and have a minute's lease."""
    return an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.1))


async def test_p8_a_worker_declared_dead_drops_its_runs_registers_anew_and_finishes_them(
    kagzi: Kagzi, store: WatchedStore, gates: Gates
) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        first = await ctx.step("first", gates.enter, f"{name} first")
        return await ctx.step("second", gates.enter, f"{first} second")

    async with kagzi, kagzi.create_worker(worker_id="phoenix") as worker:
        gates.open("a first")
        handle = await visit.start("a")
        await gates.reached("a first second")
        former = worker.key

        await declare_dead(store.real, former)
        await gates.reached("a first second", times=2)
        inside, run = gates.inside, await handle.describe()
        gates.open_all()
        result = await within(handle.result())

        await until(lambda: is_shown_as(store, worker.key, WorkerState.RUNNING))
        registered = await store.workers("default")

    assert result == "a first second"
    assert worker.key != former
    assert run.worker_id == "phoenix"
    assert inside == 1, "the step of the execution that was dropped goes on"
    assert gates.entered == ["a first", "a first second", "a first second"]
    assert {(each.worker_id, each.state) for each in registered} == {
        ("phoenix", WorkerState.DEAD),
        ("phoenix", WorkerState.RUNNING),
    }


async def is_shown_as(store: WatchedStore, key: str, state: WorkerState) -> bool:
    return any(worker.key == key and worker.state is state for worker in await store.workers("default"))


async def test_p6_what_a_worker_writes_after_it_was_declared_dead_changes_nothing(
    any_database_url: str, gates: Gates
) -> None:
    kagzi = an_application(any_database_url)  # beats every ten seconds: does not notice
    store = watch(kagzi)

    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> str:
        return await ctx.step("slow", gates.enter, "slow")

    async with kagzi, kagzi.create_worker() as worker:
        handle = await visit.start()
        await gates.reached("slow")
        await until(lambda: is_shown_as(store, worker.key, WorkerState.RUNNING))  # its next beat is ten seconds away
        await declare_dead(store.real, worker.key)
        gates.open_all()
        await until(lambda: worker.run_count == 0)
        run, steps = await handle.describe(), await handle.history()

    assert (run.status, run.crashes, run.output) == (RunStatus.PENDING, 1, None)
    assert steps == []


async def test_p9_a_worker_that_cannot_renew_its_lease_starts_no_step_after_its_deadline(
    any_database_url: str, gates: Gates
) -> None:
    kagzi = an_application(
        any_database_url, heartbeat_interval=timedelta(seconds=0.1), lease=timedelta(seconds=1), max_step_threads=1
    )
    store = watch(kagzi)

    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> str:
        await ctx.step("before", gates.enter, "before")
        return await ctx.step("after", gates.enter, "after")

    async with kagzi, kagzi.create_worker() as worker:
        with store.unreachable("beat", "recover"):
            handle = await visit.start()
            await gates.reached("before")
            await until(lambda: not worker.may_start_steps)
            claims = store.trips["claim"]
            gates.open_all()
            await until(lambda: worker.run_count == 0, what="the run is dropped")
            entered, claimed_meanwhile = list(gates.entered), store.trips["claim"] - claims
        result = await within(handle.result())

    assert entered == ["before"]
    assert claimed_meanwhile == 0
    assert result == "after"
    assert gates.entered == ["before", "after"], "a checkpointed step ran again, or the next one not at all"


async def test_p9_a_step_that_waited_for_its_turn_past_the_deadline_is_not_started(
    any_database_url: str, gates: Gates
) -> None:
    kagzi = an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.1), lease=timedelta(seconds=1))
    store = watch(kagzi)

    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> list[str]:
        return await asyncio.gather(*(ctx.step(name, gates.enter, name) for name in ("first", "second")))

    async with kagzi, kagzi.create_worker(max_concurrent_steps=1) as worker:
        with store.unreachable("beat", "recover"):
            handle = await visit.start()
            await gates.reached("first")
            await until(lambda: not worker.may_start_steps)
            gates.open_all()
            await until(lambda: worker.run_count == 0)
            entered = list(gates.entered)
        result = await within(handle.result())

    assert entered == ["first"]
    assert result == ["first", "second"]


async def test_p8_the_runs_of_a_worker_that_vanished_move_to_another(any_database_url: str, gates: Gates) -> None:
    brief: dict[str, Any] = {"heartbeat_interval": timedelta(seconds=0.2), "lease": timedelta(seconds=1)}
    dying, heir = an_application(any_database_url, **brief), an_application(any_database_url, **brief)
    store = watch(dying)

    async def visit(ctx: WorkflowContext) -> str:
        await ctx.sleep("nap", 0.01)
        return await ctx.step("slow", gates.enter, "slow")

    ours = dying.register_workflow("visit", visit)
    heir.register_workflow("visit", visit)
    async with dying, heir:
        async with dying.create_worker() as worker:
            handle = await ours.start()
            await gates.reached("slow")
            # From now on it is cut off, and so as good as dead to everybody else.
            with store.unreachable():
                vanished = asyncio.get_running_loop().time()
                async with heir.create_worker(poll_interval=0.2):
                    await gates.reached("slow", times=2)
                    took = asyncio.get_running_loop().time() - vanished
                    gates.open_all()
                    result = await within(heir.handle(handle.run_id).result())
                worker.stop()
                worker.stop()
        run = await heir.handle(handle.run_id).describe()

    assert result == "slow"
    assert took < 1 + 0.2 + 1 + 2, "lease + poll + 1 s, and two for a busy machine"
    assert run.crashes == 1


async def test_runs_owned_in_the_store_and_unknown_in_memory_are_given_back(
    kagzi: Kagzi, store: WatchedStore, gates: Gates
) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    gates.open_all()
    async with kagzi, kagzi.create_worker() as worker:
        await until(lambda: store.trips["claim"])
        handle = await visit.options(delay=0.3).start("a")

        async def stolen() -> bool:
            """Claim in the worker's name, as if it had asked and the answer had been lost."""
            request = ClaimRequest(
                worker=worker.key, namespace="default", queues=("default",), workflows=(("visit", 1),), slots=1
            )
            return bool((await store.real.claim(request)).claims)

        # Either we or the worker itself gets it; only what we took is a stray.
        with store.unreachable("claim"):
            await until(stolen)
        result = await within(handle.result())
        run = await handle.describe()

    assert result == "a"
    assert (run.attempts, run.crashes) == (1, 0)


async def test_runs_whose_claim_was_never_answered_are_given_back_and_executed(
    kagzi: Kagzi, store: WatchedStore, gates: Gates
) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    gates.open_all()
    async with kagzi:
        handles = await kagzi.start_many(visit, ["a", "b", "c"])
        store.mute.add("claim")
        async with kagzi.create_worker():
            await until(lambda: store.trips["claim"] >= 2)
            store.mute.clear()
            results = [await within(handle.result()) for handle in handles]
        runs = [await handle.describe() for handle in handles]

    assert results == ["a", "b", "c"]
    assert sorted(gates.entered) == ["a", "b", "c"]
    assert [run.crashes for run in runs] == [0, 0, 0]


async def test_p14_a_worker_goes_on_by_itself_after_the_store_was_away(
    kagzi: Kagzi, store: WatchedStore, gates: Gates
) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        first = await ctx.step("first", gates.enter, name)
        return await ctx.step("second", gates.enter, first)

    async with kagzi, kagzi.create_worker() as worker:
        handle = await visit.start("a")
        await gates.reached("a")
        with store.unreachable():
            failed = store.trips["beat"]
            gates.open_all()
            await until(lambda: store.trips["beat"] > failed + 1)
            entered = list(gates.entered)
        result = await within(handle.result())

    assert entered == ["a"], "the second step began before the first was durable"
    assert result == "a"
    assert gates.entered == ["a", "a"]
    assert worker.run_count == 0


async def test_a_worker_can_be_dead_to_others_several_times_over(
    kagzi: Kagzi, store: WatchedStore, gates: Gates
) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    async with kagzi, kagzi.create_worker() as worker:
        handles = [await visit.start(name) for name in "abc"]
        for death in range(1, 4):
            await gates.reached("c", times=death)
            await gates.full(3)
            await declare_dead(store.real, worker.key)
        await gates.reached("c", times=4)
        gates.open_all()
        results = [await within(handle.result()) for handle in handles]
        await until(lambda: worker.free_slots == 100)

    assert results == ["a", "b", "c"]
