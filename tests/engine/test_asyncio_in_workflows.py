"""asyncio in workflow bodies: what only waits works and survives a crash after each commit; I/O is refused."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from kagzi import WorkflowContext
from kagzi.engine.forbidden import FORBIDDEN
from kagzi.engine.loop import WorkflowLoop
from kagzi.model.run import RunStatus
from tests.engine.host import BEGINNING, COLD, WARM, World, survive

BOTH = pytest.mark.parametrize("park_after", [WARM, COLD], ids=["warm", "parked"])


def double(number: int) -> int:
    return 2 * number


def fail() -> int:
    raise ValueError("no")


# -- what works --------------------------------------------------------------------------------------------------


@BOTH
def test_gather_gives_results_in_the_order_of_its_arguments(park_after: timedelta) -> None:
    async def late(ctx: WorkflowContext) -> int:
        await asyncio.sleep(60)
        return await ctx.step("double", double, 1)

    async def body(ctx: WorkflowContext) -> list[int]:
        return list(await asyncio.gather(late(ctx), ctx.step("double", double, 2), ctx.step("double", double, 3)))

    assert survive(body, park_after=park_after).value == [2, 4, 6]


@BOTH
def test_gather_can_keep_going_through_failures(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[str]:
        calls = ctx.step("fail", fail), ctx.step("double", double, 2)
        return [str(result) for result in await asyncio.gather(*calls, return_exceptions=True)]

    assert survive(body, park_after=park_after).value == ["step 'fail' failed: ValueError: no", "4"]


@BOTH
def test_a_task_group_takes_coroutines_and_step_calls(park_after: timedelta) -> None:
    async def inner(ctx: WorkflowContext, number: int) -> int:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(ctx.step("double", double, number))
            group.create_task(ctx.sleep("rest", 5))
        return first.result()

    async def body(ctx: WorkflowContext) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(inner(ctx, number)) for number in range(3)]
        return [task.result() for task in tasks]

    assert survive(body, park_after=park_after).value == [0, 2, 4]


@BOTH
def test_a_failure_in_a_task_group_cancels_the_others(park_after: timedelta) -> None:
    seen: list[str] = []

    async def patient(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("long", 5_000)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def body(ctx: WorkflowContext) -> list[str]:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(patient(ctx))
                group.create_task(ctx.step("fail", fail))
        except ExceptionGroup as errors:
            return [str(error) for error in errors.exceptions]
        return []

    assert survive(body, park_after=park_after).value == ["step 'fail' failed: ValueError: no"]
    assert seen


@BOTH
def test_a_timeout_cuts_a_sleep_short(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[str]:
        try:
            async with asyncio.timeout(10):
                await ctx.sleep("long", 5_000)
        except TimeoutError:
            return [str(ctx.now()), await ctx.step("say", str, "too late")]
        return []

    assert survive(body, park_after=park_after).value == [str(BEGINNING + timedelta(seconds=10)), "too late"]


@BOTH
def test_a_timeout_at_a_moment_can_be_moved(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> str:
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout_at(loop.time() + 10)
        try:
            async with limit:
                limit.reschedule(loop.time() + 100)
                await asyncio.sleep(50)
                await asyncio.sleep(500)
        except TimeoutError:
            assert limit.expired()
        return str(ctx.now())

    assert survive(body, park_after=park_after).value == str(BEGINNING + timedelta(seconds=100))


@BOTH
def test_wait_for_gives_the_value_or_times_out(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[object]:
        value = await asyncio.wait_for(ctx.step("double", double, 4), 10)
        try:
            await asyncio.wait_for(ctx.sleep("long", 100), 10)
        except TimeoutError:
            return [value, "too late"]
        return [value]

    assert survive(body, park_after=park_after).value == [8, "too late"]


@BOTH
def test_wait_can_end_with_the_first(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[object]:
        step, sleep = ctx.step("double", double, 4), asyncio.create_task(ctx.sleep("long", 5_000))
        racers: set[asyncio.Future[Any]] = {step, sleep}
        done, late = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        sleep.cancel()
        return [step in done, sleep in late, step.result()]

    assert survive(body, park_after=park_after).value == [True, True, 8]


@BOTH
def test_wait_can_end_with_the_first_failure(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[object]:
        sleep = asyncio.create_task(ctx.sleep("long", 5_000))
        racers: set[asyncio.Future[Any]] = {ctx.step("double", double, 4), ctx.step("fail", fail), sleep}
        done, late = await asyncio.wait(racers, return_when=asyncio.FIRST_EXCEPTION)
        return [len(done), sleep in late]

    assert survive(body, park_after=park_after).value == [2, True]


@BOTH
def test_wait_can_end_with_its_timeout(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> int:
        sleep = asyncio.create_task(ctx.sleep("long", 5_000))
        done, _ = await asyncio.wait({sleep}, timeout=20)
        return len(done)

    assert survive(body, park_after=park_after).value == 0


@BOTH
def test_shield_keeps_a_step_from_being_cancelled(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[object]:
        async def work() -> int:
            await asyncio.sleep(30)
            return await ctx.step("double", double, 4)

        task = asyncio.create_task(work())
        try:
            await asyncio.wait_for(asyncio.shield(task), 10)
        except TimeoutError:
            return ["too late", await task]
        return []

    assert survive(body, park_after=park_after).value == ["too late", 8]


@BOTH
def test_tasks_that_wait_for_each_other_are_told_once_each_that_they_are_cancelled(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        tasks: list[asyncio.Task[None]] = []

        async def wait_for(other: int) -> None:
            await tasks[other]

        tasks += [asyncio.create_task(wait_for(1)), asyncio.create_task(wait_for(0))]
        await ctx.sleep("a while", 1)
        tasks[0].cancel()
        return [task.cancelling() for task in tasks]

    assert survive(body, park_after=park_after).value == [1, 1]


@BOTH
def test_an_event_a_queue_and_a_condition_hand_over_between_tasks(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        go, changed, taken = asyncio.Event(), asyncio.Condition(), list[int]()

        async def produce() -> None:
            await go.wait()
            for number in range(3):
                await queue.put(await ctx.step("double", double, number))

        async def consume() -> None:
            for _ in range(3):
                await asyncio.sleep(10)
                taken.append(await queue.get())
                async with changed:
                    changed.notify_all()

        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            group.create_task(consume())
            await asyncio.sleep(60)
            go.set()
            async with changed:
                await changed.wait_for(lambda: len(taken) == 3)
        return taken

    assert survive(body, park_after=park_after).value == [0, 2, 4]


@BOTH
def test_locks_and_semaphores_let_tasks_in_one_after_the_other(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[str]:
        lock, pair, order = asyncio.Lock(), asyncio.Semaphore(2), list[str]()

        async def alone(number: int) -> None:
            async with lock:
                await asyncio.sleep(5)
                order.append(f"alone {await ctx.step('double', double, number)}")

        async def in_pairs(number: int) -> None:
            async with pair:
                await asyncio.sleep(20)
                order.append(f"pair {number} {ctx.now() - BEGINNING}")

        await asyncio.gather(*map(alone, range(2)), *map(in_pairs, range(3)))
        return order

    expected = ["alone 0", "alone 2", "pair 0 0:00:20", "pair 1 0:00:20", "pair 2 0:00:40"]
    assert survive(body, park_after=park_after).value == expected


@BOTH
def test_a_barrier_holds_tasks_until_all_have_come(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[str]:
        barrier = asyncio.Barrier(3)

        async def come(after: int) -> str:
            await asyncio.sleep(after)
            await barrier.wait()
            return str(ctx.now() - BEGINNING)

        return await asyncio.gather(*map(come, (1, 7, 30)))

    assert survive(body, park_after=park_after).value == ["0:00:30"] * 3


@BOTH
def test_as_completed_of_the_context_gives_results_as_they_come(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[int]:
        async def after(seconds: int) -> int:
            await asyncio.sleep(seconds)
            return seconds

        return [value async for value in ctx.as_completed(after(30), after(10), ctx.step("double", double, 1))]

    assert survive(body, park_after=park_after).value == [2, 10, 30]


@BOTH
def test_asyncio_as_completed_works_over_tasks_and_step_calls(park_after: timedelta) -> None:
    async def body(ctx: WorkflowContext) -> list[object]:
        task = asyncio.create_task(asyncio.sleep(10, "slept"))
        calls: list[asyncio.Future[Any]] = [task, ctx.step("double", double, 1), ctx.step("double", double, 2)]
        return [await each for each in asyncio.as_completed(calls)]

    assert survive(body, park_after=park_after).value == [2, 4, "slept"]


def test_an_async_generator_that_is_left_early_ends_within_the_body() -> None:
    ended: list[object] = []

    async def body(ctx: WorkflowContext) -> int:
        async def numbers() -> AsyncIterator[int]:
            try:
                for number in range(3):
                    yield await ctx.step("double", double, number)
            finally:
                ended.append(asyncio.get_running_loop())

        async for number in numbers():
            return number
        return -1

    async def among_other_tasks() -> None:  # whose loop has hooks of its own for asynchronous generators
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: done.set_result(World(body).finish()))
        assert (await done).value == 0

    asyncio.run(among_other_tasks())

    assert [type(loop) for loop in ended] == [WorkflowLoop]


# -- what is refused ---------------------------------------------------------------------------------------------


async def _ordered(ctx: WorkflowContext) -> None:
    async def work() -> None: ...

    coroutines = [work(), work()]
    try:
        for each in asyncio.as_completed(coroutines):
            await each
    finally:
        for coroutine in coroutines:
            coroutine.close()


async def _outside_lock(ctx: WorkflowContext) -> None:
    await _lock.acquire()


async def _reader(ctx: WorkflowContext) -> None:
    with socket.socket() as connection:
        asyncio.get_running_loop().add_reader(connection, print)


def _loop() -> Any:
    return asyncio.get_running_loop()


async def _on_signal(ctx: WorkflowContext) -> None:
    _loop().add_signal_handler(signal.SIGUSR1, print)


async def _in_executor(ctx: WorkflowContext) -> None:
    await _loop().run_in_executor(None, print)


async def _from_thread(ctx: WorkflowContext) -> None:
    _loop().call_soon_threadsafe(print)


_lock = asyncio.Lock()

REFUSED: dict[str, tuple[Callable[[WorkflowContext], Awaitable[object]], str, str]] = {
    "open_connection": (lambda ctx: asyncio.open_connection("localhost", 1), "loop.create_connection", "ctx.step"),
    "start_server": (lambda ctx: asyncio.start_server(print, "localhost", 0), "loop.create_server", "ctx.step"),
    "getaddrinfo": (lambda ctx: _loop().getaddrinfo("localhost", 1), "loop.getaddrinfo", "ctx.step"),
    "subprocess": (lambda ctx: asyncio.create_subprocess_exec("true"), "loop.subprocess_exec", "ctx.step"),
    "shell": (lambda ctx: asyncio.create_subprocess_shell("true"), "loop.subprocess_shell", "ctx.step"),
    "to_thread": (lambda ctx: asyncio.to_thread(print), "loop.run_in_executor", "plain functions in a thread"),
    "run_in_executor": (_in_executor, "loop.run_in_executor", "plain functions in a thread"),
    "call_soon_threadsafe": (_from_thread, "loop.call_soon_threadsafe", "plain functions in a thread"),
    "add_reader": (_reader, "loop.add_reader", "ctx.step"),
    "add_signal_handler": (_on_signal, "loop.add_signal_handler", "The worker handles"),
    "as_completed": (_ordered, "asyncio.as_completed over bare coroutines", "ctx.as_completed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_touches_the_world_is_refused_naming_the_call_and_the_cure(name: str) -> None:
    forbidden, call, cure = REFUSED[name]

    async def body(ctx: WorkflowContext) -> None:
        await forbidden(ctx)

    outcome = World(body).finish()

    assert outcome.status is RunStatus.FAILED
    assert outcome.error is not None
    assert outcome.error[1] == "WorkflowIOError"
    assert call in outcome.error[2]
    assert cure in outcome.error[2]


def test_a_future_of_the_real_loop_is_refused() -> None:
    outer = asyncio.new_event_loop()
    try:
        future = outer.create_future()

        async def body(ctx: WorkflowContext) -> None:
            await future

        outcome = World(body).finish()
    finally:
        outer.close()

    assert outcome.error is not None
    assert outcome.error[1] == "WorkflowIOError"
    assert "made outside of the workflow" in outcome.error[2]


def test_a_lock_that_the_real_loop_uses_is_refused() -> None:
    lock = asyncio.Lock()

    async def body(ctx: WorkflowContext) -> None:
        await lock.acquire()

    async def while_it_is_held() -> str:
        await lock.acquire()
        waiting = asyncio.ensure_future(lock.acquire())
        await asyncio.sleep(0)
        outcome = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: outcome.set_result(World(body).finish()))
        try:
            return str((await outcome).error)
        finally:
            waiting.cancel()

    error = asyncio.run(while_it_is_held())

    assert "WorkflowIOError" in error
    assert "ctx.step" in error


def test_every_method_of_an_event_loop_is_carried_out_or_refused() -> None:
    methods = {name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("_")}

    missing = {name for name in methods if name not in vars(WorkflowLoop)}

    assert missing == set()
    assert methods >= FORBIDDEN.keys()
