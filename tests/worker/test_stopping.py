"""Stopping: what is in flight finishes, the rest is given back at once, and nothing uses an attempt."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from datetime import timedelta

import pytest

from kagzi import Kagzi, RunStatus, StepStatus, Worker, WorkflowContext
from kagzi.model.run import Run
from kagzi.model.worker import WorkerState
from tests.app.applications import PATIENCE_S, an_application, until, within
from tests.app.watched_store import WatchedStore
from tests.worker.gates import Gates


@pytest.fixture
def kagzi(any_database_url: str) -> Kagzi:
    """Its workers let steps take a minute, so that what ends at once ends for another reason."""
    return an_application(any_database_url, graceful_shutdown_timeout=timedelta(seconds=60))


def counts(run: Run) -> tuple[int, int, int]:
    return run.attempts, run.crashes, run.wakeups


async def test_a_step_in_flight_finishes_and_is_checkpointed(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> str:
        first = await ctx.step("first", gates.enter, "first")
        return await ctx.step("second", gates.enter, f"{first}, second")

    async with kagzi:
        async with kagzi.create_worker() as worker:
            handle = await visit.start()
            await gates.reached("first")
            worker.stop()
            await until(lambda: worker.state is WorkerState.DRAINING)
            gates.open_all()
            await within(worker.shutdown())
            run, steps = await handle.describe(), await handle.history()
        async with kagzi.create_worker():
            result = await within(handle.result())

    assert run.status is RunStatus.PENDING
    assert counts(run) == (1, 0, 0)
    assert [(step.name, step.status) for step in steps] == [("first", StepStatus.COMPLETED)]
    assert result == "first, second"
    assert gates.entered == ["first", "first, second"]


async def test_a_step_that_waits_for_a_thread_is_not_begun_any_more(any_database_url: str) -> None:
    kagzi = an_application(any_database_url, max_step_threads=1, graceful_shutdown_timeout=timedelta(seconds=60))
    entered: list[str] = []
    door = threading.Event()

    def enter(name: str) -> str:
        entered.append(name)
        assert door.wait(PATIENCE_S)
        return name

    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", enter, name)

    async with kagzi:
        async with kagzi.create_worker() as worker:
            first, second = [await visit.start(name) for name in ("first", "second")]
            await until(lambda: len(worker.runner.running) == 2 and entered)
            worker.stop()
            await until(lambda: worker.run_count == 1)
            # A claim under way may bring it once more, to be given back again.
            await until(lambda: is_pending(kagzi, second.run_id))
            door.set()
            await within(worker.shutdown())
            waiting, steps = await second.describe(), await first.history()
        before = list(entered)
        async with kagzi.create_worker():
            results = [await within(handle.result()) for handle in (first, second)]

    assert before == ["first"]
    assert waiting.status is RunStatus.PENDING
    assert counts(waiting) == (1, 0, 0)
    assert [step.status for step in steps] == [StepStatus.COMPLETED]
    assert results == ["first", "second"]


async def test_what_only_waits_is_given_back_at_once(any_database_url: str) -> None:
    kagzi = an_application(any_database_url, park_after=timedelta(hours=1))

    @kagzi.workflow
    async def wait(ctx: WorkflowContext) -> str:
        await ctx.sleep("long", 600)
        return "done"

    async with kagzi:
        async with kagzi.create_worker(graceful_shutdown_timeout=60) as worker:
            handles = [await wait.start() for _ in range(3)]
            await until(lambda: worker.run_count == 3)
            worker.stop()
            await within(worker.shutdown(), 10)
        runs = [await handle.describe() for handle in handles]

    assert {run.status for run in runs} == {RunStatus.PENDING}
    assert {counts(run) for run in runs} == {(1, 0, 0)}


async def test_steps_that_wait_for_their_turn_are_not_started_by_a_worker_that_stops(
    kagzi: Kagzi, gates: Gates
) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    async with kagzi:
        async with kagzi.create_worker(max_concurrent_steps=1) as worker:
            handles = [await visit.start(name) for name in "abc"]
            await gates.reached("a")
            worker.stop()
            await until(lambda: is_pending(kagzi, handles[1].run_id))
            await until(lambda: is_pending(kagzi, handles[2].run_id))
            entered = list(gates.entered)
            gates.open_all()
            await within(worker.shutdown())
        runs = [await handle.describe() for handle in handles]

    assert entered == ["a"]
    assert [run.status for run in runs] == [RunStatus.COMPLETED, RunStatus.PENDING, RunStatus.PENDING]
    assert {counts(run) for run in runs} == {(1, 0, 0)}


async def is_pending(kagzi: Kagzi, run_id: str) -> bool:
    return await kagzi.handle(run_id).status() is RunStatus.PENDING


async def test_a_worker_that_stops_claims_nothing_more(kagzi: Kagzi, gates: Gates, store: WatchedStore) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    async with kagzi:
        async with kagzi.create_worker() as worker:
            await visit.start("a")
            await gates.reached("a")
            worker.stop()
            await until(lambda: worker.state is WorkerState.DRAINING)
            later = await visit.start("b")
            (latest,) = await kagzi.start_many(visit, ["c"])
            gates.open_all()
            await within(worker.shutdown())
        statuses = [await later.status(), await latest.status()]

    assert statuses == [RunStatus.PENDING, RunStatus.PENDING]
    assert gates.entered == ["a"]


async def test_a_second_stop_stops_at_once_and_gives_back_what_was_in_flight(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> str:
        return await ctx.step("slow", gates.enter, "slow")

    async with kagzi, kagzi.create_worker() as worker:
        handle = await visit.start()
        await gates.reached("slow")
        worker.stop()
        await until(lambda: worker.state is WorkerState.DRAINING)
        worker.stop()
        await within(worker.shutdown(), 10)
        run, steps, inside = await handle.describe(), await handle.history(), gates.inside

    assert run.status is RunStatus.PENDING
    assert counts(run) == (1, 0, 0)
    assert steps == []
    assert inside == 0, "the step's function was not cancelled"


async def test_two_stops_in_one_breath_stop_at_once(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> str:
        return await ctx.step("slow", gates.enter, "slow")

    async with kagzi, kagzi.create_worker() as worker:
        handle = await visit.start()
        await gates.reached("slow")
        worker.stop()
        worker.stop()
        await within(worker.shutdown(), 10)
        status = await handle.status()

    assert status is RunStatus.PENDING


async def test_a_second_stop_does_not_wait_for_a_claim_that_gets_no_answer(kagzi: Kagzi, store: WatchedStore) -> None:
    kagzi.register_workflow("visit", visit)

    async with kagzi, kagzi.create_worker() as worker:
        await until(lambda: store.answered["claim"])
        gate = store.hold("claim")
        worker.wake()
        await until(lambda: store.waiting["claim"])
        worker.stop()
        await until(lambda: worker.state is WorkerState.DRAINING)
        worker.stop()
        await within(worker.shutdown(), 10)
        gate.set()

    assert worker.state is WorkerState.STOPPED


async def visit(ctx: WorkflowContext) -> str:
    return "visited"


async def test_a_run_whose_claim_is_answered_while_the_worker_stops_is_given_back_unbegun(
    kagzi: Kagzi, store: WatchedStore, gates: Gates
) -> None:
    @kagzi.workflow
    async def enter(ctx: WorkflowContext) -> str:
        return await ctx.step("enter", gates.enter, "enter")

    async with kagzi:
        async with kagzi.create_worker() as worker:
            await until(lambda: store.answered["claim"])
            gate = store.hold("claim")
            (handle,) = await kagzi.start_many(enter, [()])
            await until(lambda: store.waiting["claim"])
            worker.stop()
            await until(lambda: worker.state is WorkerState.DRAINING)
            gate.set()
            await within(worker.shutdown(), 20)
        run = await handle.describe()

    assert run.status is RunStatus.PENDING
    assert counts(run) == (1, 0, 0)
    assert gates.entered == []


async def test_a_run_born_claimed_while_the_worker_stops_does_not_hold_it_up(
    kagzi: Kagzi, store: WatchedStore, gates: Gates
) -> None:
    @kagzi.workflow
    async def enter(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    async with kagzi:
        async with kagzi.create_worker() as worker:
            first = await enter.start("first")
            await gates.reached("first")
            gate = store.hold("start")
            starting = asyncio.ensure_future(enter.start("second"))
            await until(lambda: store.waiting["start"])
            worker.stop()
            await until(lambda: worker.runner.holding)
            gate.set()
            second = await within(starting)
            await until(lambda: is_pending(kagzi, second.run_id), what="the second run is given back")
            gates.open("first")
            await within(worker.shutdown(), 20)
        runs = [await first.describe(), await second.describe()]

    assert [run.status for run in runs] == [RunStatus.COMPLETED, RunStatus.PENDING]
    assert gates.entered == ["first"]
    assert {counts(run) for run in runs} == {(1, 0, 0)}


async def test_steps_that_outlast_the_time_for_stopping_are_given_back(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext) -> str:
        return await ctx.step("slow", gates.enter, "slow")

    async with kagzi:
        async with kagzi.create_worker(graceful_shutdown_timeout=0.3) as worker:
            handle = await visit.start()
            await gates.reached("slow")
            worker.stop()
            await within(worker.shutdown(), 10)
        run = await handle.describe()
        gates.open_all()
        async with kagzi.create_worker():
            result = await within(handle.result())
        again = await handle.describe()

    assert run.status is RunStatus.PENDING
    assert counts(run) == counts(again) == (1, 0, 0)
    assert result == "slow"
    assert gates.entered == ["slow", "slow"]


async def test_a_worker_that_has_left_is_shown_as_stopped_and_owns_nothing(kagzi: Kagzi, store: WatchedStore) -> None:
    workflow = kagzi.register_workflow("visit", visit)

    async with kagzi:
        async with kagzi.create_worker(worker_id="w1") as worker:
            await within((await workflow.start()).result())
        (registered,) = await store.workers("default")
        owned = await store.owned(worker.key)

    assert (registered.worker_id, registered.state) == ("w1", WorkerState.STOPPED)
    assert owned == []


@pytest.mark.slow
async def test_a_worker_on_its_own_that_has_lost_its_database_keeps_nobody_waiting_when_it_is_stopped(
    kagzi: Kagzi, store: WatchedStore, gates: Gates
) -> None:
    """What its runs could not write is waited for briefly, and not for the 30 seconds that the database is given."""

    @kagzi.workflow
    async def enter(ctx: WorkflowContext) -> str:
        return await ctx.step("enter", gates.enter, "enter")

    worker = kagzi.create_worker()
    serving = asyncio.ensure_future(worker.start())
    await until(lambda: worker.state is WorkerState.RUNNING)
    await enter.start()
    await gates.reached("enter")
    with store.unreachable():
        worker.stop()
        worker.stop()
        await within(serving, 20)

    assert worker.state is WorkerState.STOPPED


async def test_closing_the_application_stops_its_workers_first(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def enter(ctx: WorkflowContext) -> str:
        return await ctx.step("enter", gates.enter, "enter")

    await kagzi.open()
    worker = kagzi.create_worker()
    serving = asyncio.ensure_future(worker.start())
    await until(lambda: worker.state is WorkerState.RUNNING)
    handle = await enter.start()
    await gates.reached("enter")
    closing = asyncio.ensure_future(kagzi.close())
    await until(lambda: worker.state is WorkerState.DRAINING)
    gates.open_all()
    await within(closing)
    await within(serving)
    async with kagzi:
        run = await kagzi.handle(handle.run_id).describe()

    assert worker.state is WorkerState.STOPPED
    assert run.status is RunStatus.COMPLETED


async def test_a_signal_stops_a_worker_and_a_second_one_stops_it_at_once(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def enter(ctx: WorkflowContext) -> str:
        return await ctx.step("enter", gates.enter, "enter")

    async with kagzi:
        worker = kagzi.create_worker()
        serving = asyncio.ensure_future(worker.start())
        await until(lambda: worker.state is WorkerState.RUNNING)
        handle = await enter.start()
        await gates.reached("enter")
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: worker.state is WorkerState.DRAINING)
        still_serving = not serving.done()
        os.kill(os.getpid(), signal.SIGINT)
        await within(serving, 10)
        status = await handle.status()

    assert still_serving
    assert status is RunStatus.PENDING


async def test_one_signal_stops_every_worker_of_the_process(kagzi: Kagzi) -> None:
    kagzi.register_workflow("visit", visit)

    async with kagzi:
        workers = [kagzi.create_worker(), kagzi.create_worker(queues=["other"])]
        serving = [asyncio.ensure_future(worker.start()) for worker in workers]
        await until(lambda: all(worker.state is WorkerState.RUNNING for worker in workers))
        os.kill(os.getpid(), signal.SIGTERM)
        await within(asyncio.gather(*serving), 10)

    assert {worker.state for worker in workers} == {WorkerState.STOPPED}
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_two_workers_that_connect_the_application_together_each_live_their_own_life(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("visit", visit)
    first, second = kagzi.create_worker(queues=["first"]), kagzi.create_worker(queues=["second"])
    serving = [asyncio.ensure_future(worker.start()) for worker in (first, second)]
    await until(lambda: first.state is second.state is WorkerState.RUNNING)

    first.stop()
    await within(serving[0], 10)
    handle = await workflow.options(queue="second").start()
    result = await within(handle.result(), 10)
    second.stop()
    await within(serving[1], 10)

    assert result == "visited"


async def begins(worker: Worker) -> None:
    await until(lambda: worker.state is WorkerState.RUNNING)


async def test_a_worker_that_connected_the_application_disconnects_it_in_the_end(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("visit", visit)

    for _ in range(2):
        worker = kagzi.create_worker()
        serving = asyncio.ensure_future(worker.start())
        await begins(worker)
        result = await within((await workflow.start()).result())
        worker.stop()
        await within(serving)
        assert result == "visited"

        with pytest.raises(Exception, match="not connected"):
            await workflow.start()


async def test_a_worker_that_has_stopped_says_so_when_it_is_started_again(kagzi: Kagzi) -> None:
    async with kagzi:
        worker: Worker = kagzi.create_worker()
        async with worker:
            pass

        with pytest.raises(Exception, match="create_worker"):
            await within(worker.start(), 5)


async def test_a_worker_whose_block_was_cancelled_before_it_began_stops(kagzi: Kagzi, store: WatchedStore) -> None:
    registering = store.hold("register")
    async with kagzi:
        worker = kagzi.create_worker()
        entering = asyncio.create_task(worker.__aenter__())
        await until(lambda: store.waiting["register"])

        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        registering.set()

        await until(lambda: worker.state is WorkerState.STOPPED)
