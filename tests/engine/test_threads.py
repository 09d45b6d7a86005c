"""Threads for steps: bounded, and not starved by functions that never return."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kagzi.engine.threads import StepThreads
from tests.app.applications import PATIENCE_S, until, within

_mood: contextvars.ContextVar[str] = contextvars.ContextVar("mood", default="calm")


class Stuck:
    """Functions that do not return before they are let go of."""

    def __init__(self) -> None:
        self.entered = 0
        self._released = threading.Event()
        self._lock = threading.Lock()

    def enter(self) -> str:
        with self._lock:
            self.entered += 1
        assert self._released.wait(60)
        return "late"

    def let_go(self) -> None:
        self._released.set()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    functions = Stuck()
    yield functions
    functions.let_go()


async def give_up(threads: StepThreads, stuck: Stuck, count: int) -> list[asyncio.Task[str]]:
    """Let so many functions get stuck, and wait for them no longer."""
    before = stuck.entered
    calls = [asyncio.create_task(threads.call(stuck.enter, label={"step": "stuck"})) for _ in range(count)]
    await until(lambda: stuck.entered == before + count)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    return calls


async def test_no_more_functions_run_at_a_time_than_allowed(stuck: Stuck) -> None:
    threads = StepThreads(2)
    calls = [asyncio.create_task(threads.call(stuck.enter, label={})) for _ in range(5)]
    await until(lambda: stuck.entered == 2)

    stuck.let_go()

    assert await within(asyncio.gather(*calls)) == ["late"] * 5
    assert threads._count == 2
    threads.close()


async def test_threads_that_are_given_up_are_replaced_and_their_results_are_dropped(stuck: Stuck) -> None:
    threads = StepThreads(2)
    given_up = await give_up(threads, stuck, 2)

    result = await within(threads.call(lambda: "done", label={}))
    stuck.let_go()
    await until(lambda: threads._busy == 0)

    assert result == "done"
    assert all(call.cancelled() for call in given_up)
    threads.close()


async def test_replaced_threads_are_bounded_as_well_and_come_back_into_use(stuck: Stuck) -> None:
    threads = StepThreads(2)
    await give_up(threads, stuck, 2)
    await give_up(threads, stuck, 2)

    waiting = [asyncio.create_task(threads.call(lambda: "done", label={})) for _ in range(4)]
    for _ in range(20):
        await asyncio.sleep(0)

    assert not any(call.done() for call in waiting)
    assert threads._count == 4
    stuck.let_go()
    assert await within(asyncio.gather(*waiting)) == ["done"] * 4
    assert threads._count == 4
    threads.close()


async def test_a_thread_that_does_not_come_back_is_named(stuck: Stuck, caplog: pytest.LogCaptureFixture) -> None:
    threads = StepThreads(1, grace_s=0.01)

    await give_up(threads, stuck, 1)
    await until(lambda: caplog.records)

    (record,) = caplog.records
    assert record.__dict__["step"] == "stuck"
    assert 'executor="process"' in record.getMessage()
    threads.close()


async def test_a_thread_that_comes_back_in_time_is_not_named(stuck: Stuck, caplog: pytest.LogCaptureFixture) -> None:
    threads = StepThreads(1, grace_s=1.0)

    await give_up(threads, stuck, 1)
    stuck.let_go()
    await until(lambda: threads._busy == 0)
    await asyncio.sleep(1.2)  # what must not happen has no event

    assert caplog.records == []
    threads.close()


async def test_what_is_given_up_as_it_returns_counts_once(stuck: Stuck) -> None:
    """The thread's answer and the cancellation may meet in one turn of the loop."""
    threads = StepThreads(1)
    call = asyncio.create_task(threads.call(stuck.enter, label={}))
    await until(lambda: stuck.entered)

    stuck.let_go()
    told: Any = asyncio.get_running_loop()
    deadline = time.monotonic() + PATIENCE_S
    while not told._ready and time.monotonic() < deadline:  # without a turn of the loop
        time.sleep(0.001)  # noqa: ASYNC251 - the loop must stand still
    call.cancel()
    await asyncio.wait({call})

    assert (threads._busy, threads._given_up, threads._places._value) == (0, 0, 1)
    threads.close()


async def test_what_is_given_up_before_its_turn_never_runs(stuck: Stuck) -> None:
    threads = StepThreads(1)
    ran: list[str] = []
    busy = asyncio.create_task(threads.call(stuck.enter, label={}))
    waiting = asyncio.create_task(threads.call(lambda: ran.append("ran"), label={}))
    await until(lambda: stuck.entered == 1)

    waiting.cancel()
    stuck.let_go()
    await within(busy)
    await within(threads.call(lambda: None, label={}))

    assert ran == []
    threads.close()


async def test_what_is_given_up_before_its_thread_comes_to_it_never_runs() -> None:
    threads = StepThreads(1)
    await threads.call(int, label={})  # its thread is there, and waits
    ran: list[str] = []
    call = threads.call(lambda: ran.append("late"), label={})

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(60)  # no other thread goes on before this one waits for something
    try:
        call.send(None)
        assert threads.is_busy
        with pytest.raises(asyncio.CancelledError):
            call.throw(asyncio.CancelledError())
    finally:
        sys.setswitchinterval(interval_s)
    await until(lambda: not threads.is_busy)

    assert ran == []
    assert await within(threads.call(int, label={})) == 0
    threads.close()


async def test_a_function_sees_the_callers_context_and_changes_only_its_own() -> None:
    threads = StepThreads(1)

    def change() -> str:
        before = _mood.get()
        _mood.set("changed")
        return before

    _mood.set("mine")
    first, second = [await threads.call(change, label={}) for _ in range(2)]

    assert (first, second, _mood.get()) == ("mine", "mine", "mine")
    threads.close()


async def test_a_thread_keeps_nothing_of_what_it_ran() -> None:
    class Held:
        """Something that a function takes and gives."""

    threads = StepThreads(1)
    held = [Held()]
    reference = weakref.ref(held[0])

    await threads.call(held.pop, label={})
    gc.collect()

    await until(lambda: reference() is None, what="the thread lets go")
    threads.close()


STUCK_PROGRAM = """
import asyncio, threading
from kagzi import Kagzi, WorkflowContext

kagzi = Kagzi("sqlite://")

@kagzi.workflow
async def work(ctx: WorkflowContext) -> None:
    await ctx.options(timeout=0.05).step("stuck", threading.Event().wait)

async def main() -> None:
    async with kagzi, kagzi.create_worker():
        try:
            await (await work.start()).result()
        except Exception as error:
            print(error.error.type)

asyncio.run(main())
"""


def test_a_function_that_never_returns_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(STUCK_PROGRAM)

    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=True)

    assert ended.stdout.split() == ["StepFailed"]
