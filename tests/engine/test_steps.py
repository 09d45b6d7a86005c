"""Steps on a real worker: where their functions run, what they see, and how they end."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from kagzi import Kagzi, Settings, StepFailed, WorkflowContext, WorkflowFailed, step, step_info
from kagzi.model.error import ErrorKind

_mood: contextvars.ContextVar[str] = contextvars.ContextVar("mood", default="calm")


@pytest.fixture
async def kagzi() -> AsyncIterator[Kagzi]:
    """An application in memory."""
    async with Kagzi("sqlite://") as application:
        yield application


async def run(kagzi: Kagzi, body: Any, **worker: Any) -> Any:
    """Execute a workflow function on a worker."""
    workflow: Any = kagzi.register_workflow("program", body)
    async with kagzi.create_worker(**worker):
        return await (await workflow.start()).result(timeout=20)


# -- where -------------------------------------------------------------------------------------------------------


async def test_async_functions_run_on_the_workers_loop_and_plain_ones_in_threads(kagzi: Kagzi) -> None:
    here = threading.current_thread().name

    async def on_the_loop() -> str:
        return threading.current_thread().name

    def in_a_thread() -> str:
        return threading.current_thread().name

    class Callable:
        async def __call__(self) -> str:
            return threading.current_thread().name

    async def body(ctx: WorkflowContext) -> list[str]:
        functions: list[Any] = [on_the_loop, functools.partial(on_the_loop), Callable(), in_a_thread]
        return [await ctx.step("where", function) for function in functions]

    *loop, thread = await run(kagzi, body)

    assert loop == [here] * 3
    assert thread.startswith("kagzi-step")


async def test_a_marked_method_is_a_step_by_call_and_by_ctx_step(kagzi: Kagzi) -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        @step
        def greet(self, whom: str) -> str:
            return f"{self.name} greets {whom}"

    shop = Shop("corner")

    async def body(ctx: WorkflowContext) -> list[str]:
        greeted: Any = shop.greet("a")
        return [await greeted, await ctx.step("greet", shop.greet, "b"), await ctx.step("greet", shop.greet, whom="c")]

    assert await run(kagzi, body) == [f"corner greets {whom}" for whom in "abc"]


async def test_a_lambda_that_makes_a_coroutine_is_awaited_on_the_loop(kagzi: Kagzi) -> None:
    async def on_the_loop(greeting: str) -> list[str]:
        return [greeting, threading.current_thread().name]

    async def body(ctx: WorkflowContext) -> object:
        return await ctx.step("greet", lambda: on_the_loop("hello"))

    assert await run(kagzi, body) == ["hello", threading.current_thread().name]


async def test_no_body_runs_inside_a_task_of_the_workers_loop(kagzi: Kagzi) -> None:
    """From CPython 3.14 on, a thread has one current task: a body that ran inside another could not run its own."""
    real = asyncio.get_running_loop()
    tasks: list[object] = []

    async def quick() -> None:
        return None

    async def body(ctx: WorkflowContext) -> None:
        try:
            tasks.append(asyncio.current_task(real))
            await ctx.step("thread", str, "x")
            tasks.append(asyncio.current_task(real))
            await ctx.step("loop", quick)
            tasks.append(asyncio.current_task(real))
            await asyncio.sleep(0.01)
            tasks.append(asyncio.current_task(real))
            await ctx.sleep("long", 5_000)
        finally:
            tasks.append(asyncio.current_task(real))

    workflow = kagzi.register_workflow("program", body)
    async with kagzi.create_worker():
        handle = await workflow.start()
        async with asyncio.timeout(20):
            while not (await handle.describe()).waiting_for:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    assert tasks == [None] * 5


async def test_what_a_step_sets_in_its_context_is_seen_by_no_other_step(kagzi: Kagzi) -> None:
    async def spoil() -> str:
        before = _mood.get()
        _mood.set("spoilt")
        return before

    async def body(ctx: WorkflowContext) -> list[str]:
        first = await ctx.step("spoil", spoil)
        rest = await asyncio.gather(*(ctx.step("spoil", spoil) for _ in range(3)))
        return [first, *rest, _mood.get(), await ctx.step("look", _mood.get)]

    assert await run(kagzi, body, max_concurrent_steps=1) == ["calm"] * 6


async def test_a_step_knows_about_itself(kagzi: Kagzi) -> None:
    def tell() -> list[Any]:
        told = step_info()
        return [told.run_id, told.step_id, told.name, told.attempt, told.idempotency_key, told.cancelled]

    async def body(ctx: WorkflowContext) -> list[Any]:
        await asyncio.gather(ctx.step("tell", tell), ctx.step("tell", tell))
        return [ctx.run_id, await ctx.step("tell", tell)]

    run_id, told = await run(kagzi, body)

    assert told == [run_id, "0/tell#3", "tell", 1, f"{run_id}:0/tell#3", False]


# -- how they end ------------------------------------------------------------------------------------------------


async def test_an_async_step_that_takes_too_long_is_cancelled_and_fails(kagzi: Kagzi) -> None:
    cancelled = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def body(ctx: WorkflowContext) -> None:
        await ctx.options(timeout=0.02).step("endless", endless)

    with pytest.raises(WorkflowFailed) as caught:
        await run(kagzi, body)

    assert cancelled.is_set()
    assert caught.value.error.kind is ErrorKind.TIMEOUT
    assert "longer than its timeout of 0.02 s" in caught.value.error.message


async def test_a_plain_step_that_takes_too_long_fails_and_learns_of_it(kagzi: Kagzi) -> None:
    learnt = threading.Event()

    def until_cancelled() -> None:
        told = step_info()
        while not told.cancelled:
            threading.Event().wait(0.005)
        learnt.set()

    async def body(ctx: WorkflowContext) -> str:
        try:
            await ctx.options(timeout=timedelta(milliseconds=20)).step("wait", until_cancelled)
        except Exception as error:
            return str(error)
        return ""

    assert "StepTimeout" in await run(kagzi, body)
    assert await asyncio.to_thread(learnt.wait, 10)


async def test_waiting_for_a_thread_does_not_count_as_a_steps_time() -> None:
    def take_a_while(number: int) -> int:
        threading.Event().wait(0.3)
        return number

    async def body(ctx: WorkflowContext) -> list[int]:
        patient = ctx.options(timeout=timedelta(seconds=0.8))
        return await asyncio.gather(*(patient.step("take a while", take_a_while, number) for number in range(5)))

    async with Kagzi(settings=Settings(database_url="sqlite://", max_step_threads=1)) as kagzi:
        assert await run(kagzi, body) == [0, 1, 2, 3, 4]


async def test_a_timeout_in_the_body_cancels_the_step(kagzi: Kagzi) -> None:
    cancelled = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def body(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.timeout(0.02):
                await ctx.step("endless", endless)
        except TimeoutError:
            return "too late"
        return ""

    assert await run(kagzi, body) == "too late"
    async with asyncio.timeout(10):
        await cancelled.wait()


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError, GeneratorExit, StopAsyncIteration, SystemExit, BaseException]
)
async def test_a_step_may_raise_anything(kagzi: Kagzi, error: type[BaseException]) -> None:
    async def raise_async() -> None:
        raise error("on the loop")

    def raise_in_thread() -> None:
        raise error("in a thread")

    async def body(ctx: WorkflowContext) -> list[str]:
        results = await asyncio.gather(
            ctx.step("async", raise_async), ctx.step("thread", raise_in_thread), return_exceptions=True
        )
        return [str(result) for result in results]

    for failure in await run(kagzi, body):
        assert error.__name__ in failure


async def test_an_error_that_cannot_be_told_fails_its_step_and_its_run_all_the_same(kagzi: Kagzi) -> None:
    class Loader:
        """What the traceback module asks for the source, and stumbles over."""

        def get_source(self, name: str) -> str:
            raise KeyError(name)

    fail = eval(compile("lambda: 1 / 0", "no_file.py", "eval"), {"__loader__": Loader(), "__name__": "no_file"})

    async def body(ctx: WorkflowContext) -> None:
        with pytest.raises(StepFailed, match="ZeroDivisionError"):
            await ctx.step("fail", fail)
        fail()

    with pytest.raises(WorkflowFailed) as failure:
        await run(kagzi, body)

    assert failure.value.error.type == "ZeroDivisionError"
    assert "can't be told" in failure.value.error.traceback


async def test_a_thread_may_raise_stop_iteration(kagzi: Kagzi) -> None:
    async def body(ctx: WorkflowContext) -> object:
        return await ctx.step("next", next, iter(()))

    with pytest.raises(WorkflowFailed, match="StopIteration"):
        await run(kagzi, body)


async def test_a_body_that_exits_fails_its_run_and_not_its_worker(kagzi: Kagzi) -> None:
    async def body(ctx: WorkflowContext) -> None:
        await ctx.step("double", str, "x")
        raise SystemExit(3)

    with pytest.raises(WorkflowFailed, match="SystemExit"):
        await run(kagzi, body)


# -- what they can't do ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("misuse", ["step", "sleep", "random", "uuid4", "await"])
async def test_the_context_of_a_body_is_refused_inside_a_step(kagzi: Kagzi, misuse: str) -> None:
    """It would be asked for by the first execution only: no replay executes the step again."""

    async def body(ctx: WorkflowContext) -> list[Any]:
        call = ctx.step("later", str, "later")

        async def misusing() -> object:
            match misuse:
                case "step":
                    return await ctx.step("inner", str, "x")
                case "sleep":
                    await ctx.sleep("inner", 0)
                    return None
                case "random":
                    return ctx.random()
                case "uuid4":
                    return str(ctx.uuid4())
                case _:
                    return await call

        def misusing_in_a_thread() -> object:
            return str(ctx.step("inner", str, "x") if misuse == "step" else ctx.random())

        steps = ctx.step("outer", misusing), ctx.step("outer", misusing_in_a_thread)
        failures = await asyncio.gather(*steps, return_exceptions=True)
        return [*map(str, failures), await call]

    workflow: Any = kagzi.register_workflow("program", body)
    async with kagzi.create_worker():
        handle = await workflow.start()
        *failures, later = await handle.result(timeout=20)
        history = await handle.history()

    assert [("outside of the workflow's body" in failure) for failure in failures] == [True, True]
    assert later == "later"
    assert sorted(step.step_id for step in history) == ["0/later#1", "0/outer#1", "0/outer#2"]
