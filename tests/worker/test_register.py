"""What a worker tells of itself in the register: its states as they come, its load, and what it is asked there."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from datetime import timedelta

import pytest

from kagzi import Kagzi, RegisteredWorker, RunStatus, StoreUnavailable, Worker, WorkerState, WorkflowContext
from kagzi.model.worker import Beat, BeatAnswer, Recovery
from tests.app.applications import an_application, until, watch, within
from tests.app.watched_store import WatchedStore
from tests.worker.deaths import declare_dead
from tests.worker.gates import Gates


async def shown(kagzi: Kagzi, worker: Worker) -> RegisteredWorker:
    """The worker as everybody sees it."""
    (found,) = [each for each in await kagzi.find_workers(ended=True) if each.key == worker.key]
    return found


async def is_shown_as(kagzi: Kagzi, worker: Worker, state: WorkerState) -> bool:
    return (await shown(kagzi, worker)).state is state


# -- states ------------------------------------------------------------------------------------------------------


async def test_each_state_is_shown_when_it_begins_and_not_a_heartbeat_later(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> str:
        return await ctx.step("enter", gates.enter, "enter")

    async with kagzi:
        async with kagzi.create_worker(heartbeat_interval=300, lease=600) as worker:
            await until(lambda: is_shown_as(kagzi, worker, WorkerState.RUNNING))
            handle = await visit.start()
            await gates.reached("enter")
            worker.stop()
            await until(lambda: is_shown_as(kagzi, worker, WorkerState.DRAINING))
            gates.open_all()
            await within(worker.shutdown())
        last = await shown(kagzi, worker)
        status = await handle.status()

    assert last.state is WorkerState.STOPPED
    assert status is RunStatus.COMPLETED


async def test_a_worker_is_starting_until_it_takes_runs(kagzi: Kagzi, store: WatchedStore) -> None:
    gate = store.hold("beat")

    async with kagzi, kagzi.create_worker() as worker:
        await until(lambda: store.waiting["beat"])
        before = await shown(kagzi, worker)
        gate.set()
        await until(lambda: is_shown_as(kagzi, worker, WorkerState.RUNNING))

    assert before.state is WorkerState.STARTING
    assert before.load == {}


async def test_a_worker_that_starts_no_step_any_more_says_so_at_the_same_moment(kagzi: Kagzi, gates: Gates) -> None:
    """Whoever sees it drain can rely on it: the step in flight is the last."""

    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> None:
        for _ in range(1000):
            await ctx.step("enter", gates.enter, "enter")

    gates.open_all()
    async with kagzi, kagzi.create_worker() as worker:
        await visit.start()
        await gates.reached("enter", times=3)
        worker.stop()
        await until(lambda: worker.state is not WorkerState.RUNNING)
        await asyncio.sleep(0)
        entered = len(gates.entered)
        await within(worker.shutdown())

    assert len(gates.entered) == entered < 1000


async def test_a_build_is_shown(any_database_url: str) -> None:
    named, nameless = an_application(any_database_url, build_id="1f3a"), an_application(any_database_url)

    async with named, nameless, named.create_worker() as one, nameless.create_worker() as other:
        builds = [(await shown(named, worker)).build_id for worker in (one, other)]

    assert builds == ["1f3a", None]


# -- load --------------------------------------------------------------------------------------------------------


async def test_the_load_is_what_the_worker_has_to_do(any_database_url: str, gates: Gates) -> None:
    kagzi = an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.1))

    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    @kagzi.workflow
    async def sleep(ctx: WorkflowContext) -> None:
        await ctx.sleep("long", 3600)

    async with kagzi, kagzi.create_worker(max_concurrent_steps=2) as worker:
        await sleep.start()
        for name in "abc":
            await visit.start(name)

        async def is_told() -> bool:
            load = (await shown(kagzi, worker)).load
            expected = {"runs": 3, "steps": 2, "steps_waiting": 1, "parked": 1}
            return expected.items() <= load.items()

        await until(is_told)
        load = (await shown(kagzi, worker)).load
        gates.open_all()

        async def is_idle() -> bool:
            return bool((await shown(kagzi, worker)).load["runs"] == 0)

        await until(is_idle)

    assert set(load) >= {"loop_lag_ms", "cpu", "journal_backlog", "uptime_s"}
    assert all(value >= 0 for value in load.values())
    if sys.platform == "linux":
        assert 10 < load["memory_mib"] < 4000


async def test_a_blocked_event_loop_is_told_with_the_next_heartbeat(any_database_url: str) -> None:
    kagzi = an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.2))

    @kagzi.workflow
    async def block(ctx: WorkflowContext) -> None:
        await ctx.step("block", blocked)

    async def blocked() -> None:
        threading.Event().wait(0.5)

    async with kagzi, kagzi.create_worker() as worker:
        handle = await block.start()
        worst = 0.0

        async def is_told() -> bool:
            nonlocal worst
            worst = max(worst, (await shown(kagzi, worker)).load.get("loop_lag_ms", 0.0))
            return bool(worst > 300)

        await within(handle.result())
        await until(is_told)


async def test_a_heartbeat_is_one_trip_and_its_load_is_short(kagzi: Kagzi, store: WatchedStore) -> None:
    async with kagzi, kagzi.create_worker():
        await until(lambda: store.trips["beat"])

    (beat, *_) = store.arguments["beat"]
    assert isinstance(beat, Beat)
    assert beat.load is not None
    assert isinstance(json.loads(beat.load), dict)
    assert len(beat.load) < 300


# -- orders ------------------------------------------------------------------------------------------------------


async def test_a_worker_that_is_asked_to_drain_does_so_at_once(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    async with kagzi:
        async with kagzi.create_worker(worker_id="w1", heartbeat_interval=300, lease=600) as worker:
            await until(lambda: is_shown_as(kagzi, worker, WorkerState.RUNNING))
            first = await visit.start("a")
            await gates.reached("a")
            asked = await kagzi.drain_worker("w1")
            await until(lambda: worker.state is WorkerState.DRAINING)
            second = await visit.start("b")
            gates.open_all()
            await until(lambda: is_shown_as(kagzi, worker, WorkerState.STOPPED))
        statuses = [await first.status(), await second.status()]

    assert asked.key == worker.key
    assert worker.is_retired
    assert statuses == [RunStatus.COMPLETED, RunStatus.PENDING]
    assert gates.entered == ["a"]


async def test_a_worker_that_no_hint_reaches_learns_from_its_heartbeat_that_it_is_to_drain(
    any_database_url: str,
) -> None:
    kagzi = an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.2))

    worker = kagzi.create_worker(worker_id="w1")
    worker._hinted = lambda hint: None  # type: ignore[method-assign] # hints may be lost
    async with kagzi, worker:
        await kagzi.drain_worker("w1")
        await until(lambda: worker.state is WorkerState.STOPPED)

    assert worker.is_retired


async def test_a_worker_that_is_asked_twice_still_lets_its_steps_finish(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> str:
        return await ctx.step("enter", gates.enter, "enter")

    async with kagzi, kagzi.create_worker(worker_id="w1") as worker:
        handle = await visit.start()
        await gates.reached("enter")
        for _ in range(3):
            await kagzi.drain_worker("w1")
            await until(lambda: worker.state is WorkerState.DRAINING)
        gates.open_all()
        await within(worker.shutdown())
        status = await handle.status()

    assert status is RunStatus.COMPLETED


async def test_only_the_worker_that_is_meant_drains(kagzi: Kagzi) -> None:
    async with kagzi, kagzi.create_worker(worker_id="w1") as one, kagzi.create_worker(worker_id="w2") as other:
        await kagzi.drain_worker("w1")
        await until(lambda: one.state is WorkerState.STOPPED)

        assert other.state is WorkerState.RUNNING
        assert not other.is_retired


async def test_a_worker_declared_dead_before_it_heard_of_the_drain_does_not_come_back(
    kagzi: Kagzi, store: WatchedStore
) -> None:
    worker = kagzi.create_worker(worker_id="w1", heartbeat_interval=0.5)
    worker._hinted = lambda hint: None  # type: ignore[method-assign] # hints may be lost
    async with kagzi, worker:
        await until(lambda: is_shown_as(kagzi, worker, WorkerState.RUNNING))
        gate = store.hold("beat")
        await until(lambda: store.waiting["beat"])
        await kagzi.drain_worker("w1")
        await declare_dead(store.real, worker.key)
        gate.set()
        await until(lambda: worker.state is WorkerState.STOPPED)
        registered = await kagzi.find_workers(ended=True)

    assert worker.is_retired
    assert [each.state for each in registered] == [WorkerState.DEAD]


# -- beginning ---------------------------------------------------------------------------------------------------


async def test_a_worker_whose_registration_got_no_answer_is_not_shown_twice(any_database_url: str) -> None:
    """P4: the same registration goes again."""
    kagzi = an_application(any_database_url)
    store = watch(kagzi)
    worker = kagzi.create_worker()

    async with kagzi:
        store.mute.add("register")
        with pytest.raises(StoreUnavailable):
            await within(worker.start())
        store.mute.clear()
        async with worker:
            registered = await kagzi.find_workers(ended=True)

    assert [each.key for each in registered] == [worker.key]


@pytest.mark.parametrize("verb", ["open", "register"])
async def test_a_worker_that_is_stopped_while_it_waits_for_the_database_stops_at_once(
    any_database_url: str, verb: str
) -> None:
    kagzi = an_application(any_database_url)
    store = watch(kagzi)
    gate = store.hold(verb)
    worker = kagzi.create_worker()

    working = asyncio.ensure_future(worker.start())
    await until(lambda: store.waiting[verb])
    worker.stop()
    await within(working, 5)
    gate.set()

    assert worker.state is WorkerState.STOPPED


async def test_a_worker_that_was_stopped_before_it_began_never_begins(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    store = watch(kagzi)
    worker = kagzi.create_worker()

    worker.stop()
    await within(worker.start(), 5)

    assert worker.state is WorkerState.STOPPED
    assert not store.trips["register"]


# -- failing -----------------------------------------------------------------------------------------------------


async def broken(*_: object) -> BeatAnswer:
    raise ZeroDivisionError("a defect")


async def test_a_heartbeat_that_fails_is_tried_again_while_the_lease_lasts(
    any_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    kagzi = an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.2))
    store = watch(kagzi)

    async with kagzi, kagzi.create_worker() as worker:
        await until(lambda: is_shown_as(kagzi, worker, WorkerState.RUNNING))
        vars(store)["beat"] = broken
        await until(lambda: sum("A heartbeat failed" in record.message for record in caplog.records) >= 2)
        del vars(store)["beat"]
        beats = store.trips["beat"]
        await until(lambda: store.trips["beat"] > beats)

        assert worker.state is WorkerState.RUNNING


async def test_a_worker_whose_heartbeat_fails_for_good_says_so_at_once_claims_no_more_and_raises(
    any_database_url: str, caplog: pytest.LogCaptureFixture, gates: Gates
) -> None:
    kagzi = an_application(any_database_url, heartbeat_interval=timedelta(seconds=0.2), lease=timedelta(seconds=1))
    store = watch(kagzi)

    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> str:
        return await ctx.step("enter", gates.enter, "enter")

    async with kagzi:
        worker = await kagzi.create_worker().__aenter__()
        handle = await visit.start()
        await gates.reached("enter")
        vars(store)["beat"] = broken
        await until(lambda: worker.state is WorkerState.STOPPED)  # the block would not be left yet
        critical = [record for record in caplog.records if record.levelname == "CRITICAL"]
        claims = store.trips["claim"]
        worker.wake()
        with pytest.raises(ZeroDivisionError):
            await worker.__aexit__(None, None, None)
        status = await handle.status()

    assert len(critical) == 1
    assert critical[0].__dict__["loop"].startswith("kagzi-heartbeat")
    assert critical[0].exc_info is not None
    assert store.trips["claim"] == claims
    assert status is RunStatus.PENDING
    assert gates.inside == 0


async def test_recovery_that_fails_does_not_end_the_worker(
    any_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """P23: whatever one row does to recovery, every worker meets it."""
    kagzi = an_application(any_database_url)
    store = watch(kagzi)

    async def visit(ctx: WorkflowContext) -> str:
        return "visited"

    async def stumble(*_: object) -> Recovery:
        raise ZeroDivisionError("a row")

    workflow = kagzi.register_workflow("visit", visit)
    vars(store)["recover"] = stumble
    async with kagzi, kagzi.create_worker():
        await until(lambda: any("Recovery of dead workers' runs failed" in each.message for each in caplog.records))
        result = await within((await workflow.start()).result())

    assert result == "visited"
