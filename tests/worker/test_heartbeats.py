"""Signs of life of long steps: what is written of them, what the next execution has of them, and silence."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kagzi import (
    ErrorKind,
    Kagzi,
    RetryPolicy,
    StepBuilder,
    StepFailed,
    StepInterrupted,
    StepStatus,
    SyncWorkflowContext,
    WorkflowContext,
    step,
    step_info,
)
from tests.app.applications import an_application, until, watch, within
from tests.app.watched_store import WatchedStore
from tests.worker import computing
from tests.worker.deaths import declare_dead

SILENCE = 0.3


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("kind", ["async", "thread", "process"])
async def test_the_next_execution_sees_what_the_last_one_told(kagzi: Kagzi, kind: str) -> None:
    seen: list[Any] = []

    async def in_task() -> Any:
        return told_before()

    def told_before() -> Any:
        info = step_info()
        seen.append(info.heartbeat_details)
        for page in range(10):
            info.heartbeat({"page": page, "of": info.attempt})
        if info.attempt < 3:
            raise ConnectionError("lost")
        return info.heartbeat_details

    functions: dict[str, Any] = {"async": in_task, "thread": told_before, "process": computing.tell_and_fail}

    @kagzi.workflow
    async def index(ctx: WorkflowContext) -> Any:
        return await ctx.options(retry=RetryPolicy.fixed(0, max_attempts=3)).step("crawl", functions[kind])

    async with kagzi, kagzi.create_worker():
        handle = await index.start()
        result = await handle.result(timeout=60)

    assert result == {"page": 9, "of": 2}
    if kind != "process":
        assert seen == [None, {"page": 9, "of": 1}, {"page": 9, "of": 2}]


async def test_details_survive_the_death_of_the_worker(kagzi: Kagzi) -> None:
    seen, told = list[Any](), asyncio.Event()

    async def crawl() -> str:
        seen.append(step_info().heartbeat_details)
        if len(seen) == 1:
            step_info().heartbeat({"page": 7})
            told.set()
            await asyncio.sleep(600)
        return "done"

    @kagzi.workflow
    async def index(ctx: WorkflowContext) -> str:
        return await ctx.step("crawl", crawl)

    async with kagzi:
        worker = kagzi.create_worker(heartbeat_interval=timedelta(minutes=5), lease=timedelta(minutes=20))
        async with worker:
            handle = await index.start()
            await within(told.wait())

            async def is_stored() -> bool:
                return any(each.heartbeat_details == {"page": 7} for each in await handle.history())

            await until(is_stored)
            run, (shown,), (_, waits) = (
                await handle.describe(),
                await handle.history(),
                await kagzi.explain(handle.run_id),
            )
            await declare_dead(worker.store, worker.key)
            worker.stop()
            worker.stop()
        async with kagzi.create_worker():
            await handle.result(timeout=30)
        (finished,) = await handle.history()

    assert seen == [None, {"page": 7}]
    assert (shown.status, shown.attempts) == (StepStatus.RUNNING, 1)
    assert shown.heartbeat_at is not None
    assert "step 'crawl', whose last heartbeat was at" in run.waiting_for[0]
    assert run.waiting_for[0].endswith(': {"page": 7}')
    assert 's ago: {"page": 7}' in waits[0]
    assert len(waits) == 1
    assert (finished.status, finished.attempts) == (StepStatus.COMPLETED, 1)


async def test_however_often_a_step_tells_something_it_is_written_a_few_times_a_second(
    kagzi: Kagzi, store: WatchedStore
) -> None:
    took: list[float] = []

    async def crawl() -> None:
        info = step_info()
        for page in range(20_000):
            began = time.perf_counter()
            info.heartbeat(page)
            took.append(time.perf_counter() - began)
            if page % 100 == 0:
                await asyncio.sleep(0.005)

    @kagzi.workflow
    async def index(ctx: WorkflowContext) -> None:
        await ctx.step("crawl", crawl)

    async with kagzi, kagzi.create_worker():
        began = time.monotonic()
        handle = await index.start()
        await handle.result(timeout=60)
        lasted_s = time.monotonic() - began

    assert 1 <= store.trips["show"] <= lasted_s / 0.3 + 2
    assert sorted(took)[len(took) // 2] < 100e-6


async def test_nothing_is_written_of_a_step_that_tells_nothing(kagzi: Kagzi, store: WatchedStore) -> None:
    @kagzi.workflow
    async def quiet(ctx: WorkflowContext) -> int:
        return await ctx.step("sum", sum, [1, 2])

    async with kagzi, kagzi.create_worker():
        handle = await quiet.start()
        await handle.result(timeout=30)

    assert store.trips["show"] == 0


async def test_what_could_not_be_written_is_written_later(kagzi: Kagzi, store: WatchedStore) -> None:
    may_end = asyncio.Event()

    async def crawl() -> None:
        step_info().heartbeat("here")
        await may_end.wait()

    @kagzi.workflow
    async def index(ctx: WorkflowContext) -> None:
        await ctx.step("crawl", crawl)

    async with kagzi, kagzi.create_worker():
        store.failing.add("show")
        handle = await index.start()
        await until(lambda: store.trips["show"] >= 2)
        store.failing.clear()

        async def is_stored() -> bool:
            return any(each.heartbeat_details == "here" for each in await handle.history())

        await until(is_stored)
        may_end.set()
        await handle.result(timeout=30)


class Reversed:
    """A codec; nobody else can read what it has encoded."""

    def encode(self, text: str) -> str:
        return text[::-1]

    def decode(self, text: str) -> str:
        return text[::-1]


async def test_details_pass_through_the_codec(any_database_url: str) -> None:
    kagzi = an_application(any_database_url, codec=Reversed())
    store = watch(kagzi)

    async def crawl() -> Any:
        if step_info().attempt == 1:
            step_info().heartbeat({"page": 7})
            await until(lambda: store.answered["show"])
            raise ConnectionError("lost")
        return step_info().heartbeat_details

    @kagzi.workflow
    async def index(ctx: WorkflowContext) -> Any:
        return await ctx.options(retry=RetryPolicy.fixed(0)).step("crawl", crawl)

    async with kagzi, kagzi.create_worker():
        handle = await index.start()
        assert await handle.result(timeout=30) == {"page": 7}

    assert store.arguments["show"][0][0].heartbeat_details == '}7:"egap"{'


# -- silence -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "thread", "process"])
async def test_a_step_that_falls_silent_is_ended_and_executed_again(kagzi: Kagzi, notes: Path, kind: str) -> None:
    """Without a policy of its own, as after the death of its worker."""
    ended: list[str] = []
    told: list[bool] = []

    async def in_task(folder: str) -> Any:
        if step_info().attempt > 1:
            return step_info().heartbeat_details
        try:
            for page in range(3):
                step_info().heartbeat(page)
                await asyncio.sleep(SILENCE / 2)
            await asyncio.sleep(600)
        finally:
            ended.append("cancelled")

    def in_thread(folder: str) -> Any:
        info = step_info()
        if info.attempt > 1:
            return info.heartbeat_details
        for page in range(3):
            info.heartbeat(page)
            time.sleep(SILENCE / 2)
        while not info.cancelled:
            time.sleep(0.01)
        told.append(True)
        info.heartbeat("unheard")
        return "too late"

    functions: dict[str, Any] = {"async": in_task, "thread": in_thread, "process": computing.fall_silent}

    @kagzi.workflow
    async def index(ctx: WorkflowContext) -> Any:
        return await ctx.options(heartbeat_timeout=SILENCE * 3).step("crawl", functions[kind], str(notes))

    async with kagzi, kagzi.create_worker():
        handle = await index.start()
        assert await handle.result(timeout=60) == 2
        (stored,) = await handle.history()
        await until(lambda: kind != "thread" or told)

    (failed,) = stored.failed_attempts
    assert (failed.error.kind, failed.error.context) == (ErrorKind.TIMEOUT, {"timeout": "heartbeat"})
    assert "gave no sign of life for its heartbeat_timeout of 0.9 s" in failed.error.message
    assert (stored.attempts, ended) == (2, ["cancelled"] if kind == "async" else [])
    if kind == "process":
        assert computing.processes() == []


async def test_a_step_that_gives_signs_of_life_may_take_long(kagzi: Kagzi) -> None:
    @step(heartbeat_timeout=SILENCE * 2)
    def crawl() -> int:
        for _ in range(6):
            time.sleep(SILENCE / 2)
            step_info().heartbeat()
        return step_info().attempt

    @kagzi.workflow
    def index(ctx: SyncWorkflowContext) -> int:
        return ctx.step("crawl", crawl)

    async with kagzi, kagzi.create_worker():
        handle = await index.start()
        assert await handle.result(timeout=30) == 1


async def test_a_silent_step_fails_as_its_policy_says(kagzi: Kagzi) -> None:
    calls: list[int] = []

    async def crawl() -> None:
        calls.append(step_info().attempt)
        await asyncio.sleep(600)

    @kagzi.workflow
    async def index(ctx: WorkflowContext) -> list[str]:
        builder = StepBuilder("crawl").heartbeat_timeout(0.05).retry_policy(RetryPolicy.none())
        try:
            await builder.execute(ctx, crawl)
        except StepFailed as failed:
            return [failed.error.kind.value, failed.error.context["timeout"]]
        return []

    async with kagzi, kagzi.create_worker():
        handle = await index.start()
        assert await handle.result(timeout=30) == ["TIMEOUT", "heartbeat"]

    assert calls == [1]


async def test_a_silent_step_that_is_executed_at_most_once_is_in_doubt(kagzi: Kagzi) -> None:
    calls: list[int] = []

    async def charge() -> None:
        calls.append(step_info().attempt)
        await asyncio.sleep(600)

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        once = ctx.options(heartbeat_timeout=0.05, semantics="at_most_once", retry=RetryPolicy.fixed(0))
        try:
            await once.step("charge", charge)
        except StepInterrupted as interrupted:
            return str(interrupted.error.context["timeout"])
        return ""

    async with kagzi, kagzi.create_worker():
        handle = await buy.start()
        assert await handle.result(timeout=30) == "heartbeat"

    assert calls == [1]


async def test_a_blocked_event_loop_is_not_taken_for_silence(kagzi: Kagzi) -> None:
    """Whoever holds it up keeps others from being heard."""
    let_go = threading.Event()

    @step(heartbeat_timeout=0.2)
    async def crawl() -> int:
        for _ in range(20):
            step_info().heartbeat()
            await asyncio.sleep(0.02)
        return step_info().attempt

    async def block() -> None:
        let_go.wait(0.6)

    @kagzi.workflow
    async def index(ctx: WorkflowContext) -> int:
        crawling, _ = await asyncio.gather(crawl(), ctx.step("block", block))
        return crawling

    async with kagzi, kagzi.create_worker():
        handle = await index.start()
        assert await handle.result(timeout=30) == 1


def test_a_heartbeat_timeout_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="heartbeat_timeout of a step is 0"):
        step(heartbeat_timeout=0)
    with pytest.raises(ValueError, match="heartbeat_timeout of a step"):
        step(heartbeat_timeout=-1)
