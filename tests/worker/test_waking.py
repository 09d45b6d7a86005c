"""What wakes a worker that polls every ten minutes only: hints, starts beside it, and the next due time it knows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kagzi import Kagzi, RunStatus, WorkflowContext
from tests.app.applications import an_application, until, within
from tests.app.watched_store import WatchedStore


async def quick(ctx: WorkflowContext, number: int) -> int:
    return number


async def until_idle(store: WatchedStore) -> None:
    """Wait until the worker has claimed and found nothing."""
    await until(lambda: store.trips["claim"] >= 1, what="the first claim")


async def test_a_start_in_another_application_wakes_an_idle_worker(any_database_url: str, kagzi: Kagzi) -> None:
    kagzi.register_workflow("quick", quick)
    client = an_application(any_database_url)
    there = client.register_workflow("quick", quick)

    async with kagzi, kagzi.create_worker(), client:
        results = [await within((await there.start(number)).result(), 5) for number in range(5)]

    assert results == [0, 1, 2, 3, 4]


async def test_a_start_beside_the_worker_wakes_it(kagzi: Kagzi, store: WatchedStore) -> None:
    workflow = kagzi.register_workflow("quick", quick)

    async with kagzi, kagzi.create_worker():
        await until_idle(store)
        (handle,) = await kagzi.start_many(workflow, [1])  # never eager
        result = await within(handle.result(), 5)

    assert result == 1


@pytest.mark.parametrize("delay", [timedelta(0), 0.4])
async def test_a_delayed_run_starts_on_time_and_never_early(
    kagzi: Kagzi, store: WatchedStore, delay: timedelta | float
) -> None:
    workflow = kagzi.register_workflow("quick", quick)

    async with kagzi, kagzi.create_worker():
        await until_idle(store)
        handle = await workflow.options(delay=delay).start(1)
        await within(handle.result(), 5)
        run = await handle.describe()

    assert run.started_at is not None
    late = run.started_at - run.created_at - (delay if isinstance(delay, timedelta) else timedelta(seconds=delay))
    assert timedelta(0) <= late < timedelta(seconds=3)


async def test_a_delayed_run_started_elsewhere_is_taken_on_time(any_database_url: str, kagzi: Kagzi) -> None:
    kagzi.register_workflow("quick", quick)
    client = an_application(any_database_url)
    there = client.register_workflow("quick", quick)

    # No hint tells of a run that is for later, so this one is found by polling, at the latest.
    async with kagzi, kagzi.create_worker(poll_interval=0.1), client:
        handle = await there.options(delay=0.3).start(1)
        result = await within(handle.result(), 5)

    assert result == 1


async def test_a_moment_in_the_past_is_due_at_once_and_one_ahead_is_shown(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("quick", quick)
    ahead = datetime.now(UTC) + timedelta(days=400)

    async with kagzi, kagzi.create_worker():
        past = await workflow.options(at=datetime(2001, 2, 3, tzinfo=UTC)).start(1)
        future = await workflow.options(at=ahead).start(2)
        await within(past.result(), 5)
        run = await future.describe()

    assert run.status is RunStatus.PENDING
    assert run.wake_at == ahead


async def test_p18_a_sleep_in_the_store_ends_on_time_with_nobody_polling(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def naps(ctx: WorkflowContext) -> int:
        for number in range(3):
            await ctx.sleep(f"nap {number}", 0.4)
        return 3

    async with kagzi, kagzi.create_worker():
        handle = await naps.start()
        await within(handle.result(), 10)
        run = await handle.describe()

    assert run.wakeups == 3
    assert run.started_at is not None
    assert run.finished_at is not None
    assert timedelta(seconds=1.2) <= run.finished_at - run.started_at < timedelta(seconds=6)


async def test_runs_that_are_due_one_after_another_are_each_taken_on_time(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("quick", quick)

    async with kagzi, kagzi.create_worker():
        handles = [await workflow.options(delay=delay).start(1) for delay in (0.6, 0.2, 0.4)]
        for handle in handles:
            await within(handle.result(), 5)
        runs = [await handle.describe() for handle in handles]

    started = [run.started_at for run in runs if run.started_at is not None]
    assert sorted(started) == [started[1], started[2], started[0]]


async def test_a_worker_finds_by_polling_what_no_hint_told_it(any_database_url: str) -> None:
    kagzi, client = an_application(any_database_url), an_application(any_database_url)
    kagzi.register_workflow("quick", quick)
    there = client.register_workflow("quick", quick)
    async with kagzi, client:
        worker = kagzi.create_worker(poll_interval=0.1)
        worker._hinted = lambda hint: None  # type: ignore[method-assign] # hints may be lost
        async with worker:
            results = [await within((await there.start(number)).result(), 10) for number in range(3)]

    assert results == [0, 1, 2]


async def test_an_idle_worker_hardly_asks_the_store_anything(kagzi: Kagzi, store: WatchedStore) -> None:
    workflow = kagzi.register_workflow("quick", quick)

    async with kagzi, kagzi.create_worker():
        await until_idle(store)
        for number in range(5):
            await within((await workflow.start(number)).result(), 5)
        claims = store.trips["claim"]

    assert claims <= 8
