"""The workflows that are run while faults happen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kagzi import Event, Kagzi, RetryPolicy, Signal, Update, Workflow, WorkflowContext, step_info
from tests.faults.ledger import Execution, Ledger

STEPS = 5
TOO_LATE = "too late"


@dataclass(frozen=True)
class Pace:
    """How long each step works and how long the run sleeps between its second and third, in seconds."""

    work_s: float = 0.02
    nap_s: float = 0.5


class Steps:
    """Functions that note in a ledger that they began."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def work(self, before: str, pace: Pace) -> str:
        """Work for a while; each execution returns another token."""
        token = self._begin(before)
        await asyncio.sleep(pace.work_s)
        return token

    def work_in_thread(self, before: str, pace: Pace) -> str:
        """The same as a plain function."""
        token = self._begin(before)
        time.sleep(pace.work_s)
        return token

    async def undo(self, token: str, before: str, pace: Pace) -> None:
        """Undo what gave that token; fails the first time."""
        self._begin(token)
        await asyncio.sleep(pace.work_s)
        if step_info().attempt == 1:
            raise ConnectionError("no answer yet")

    def _begin(self, before: str) -> str:
        info, token = step_info(), uuid.uuid4().hex
        self._ledger.append(
            Execution(
                run_id=info.run_id,
                step_id=info.step_id,
                attempt=info.attempt,
                pid=os.getpid(),
                token=token,
                before=before,
                at=time.monotonic(),
            )
        )
        return token


Chain = Workflow[[Pace], list[str]]


def register_chain(kagzi: Kagzi, ledger: Ledger) -> Chain:
    """Register `chain`: five steps in a row, the fourth in a thread, with a durable sleep before the third."""
    steps = Steps(ledger)

    @kagzi.workflow("chain")
    async def chain(ctx: WorkflowContext, pace: Pace) -> list[str]:
        tokens: list[str] = []
        before = ""
        for place in range(1, STEPS + 1):
            if place == 3:
                await ctx.sleep("nap", pace.nap_s)
            function = steps.work_in_thread if place == 4 else steps.work
            before = await ctx.step(f"step-{place}", function, before, pace)
            tokens.append(before)
        return tokens

    return chain


BRANCHES = 50
KILLS = 30


def register_group(kagzi: Kagzi, ledger: Ledger) -> Workflow[[Pace], list[str]]:
    """Register `group`: fifty branches in a parallel group, twelve at a time. Each waits until so many workers were
    killed (bytes of the file `kills` beside the ledger) that thirty kills are spread over all of them."""
    steps = Steps(ledger)
    kills = ledger.path.with_name("kills")

    async def branch(number: int, pace: Pace) -> str:
        token = await steps.work(str(number), pace)
        while kills.stat().st_size < number * KILLS // BRANCHES:  # noqa: ASYNC110 - another process kills
            await asyncio.sleep(0.01)
        return token

    @kagzi.workflow("group")
    async def group(ctx: WorkflowContext, pace: Pace) -> list[str]:
        async with ctx.parallel("branches", max_concurrency=12) as branches:
            calls = [branches.step("branch", branch, number, pace) for number in range(1, BRANCHES + 1)]
        return [call.result() for call in calls]

    return group


def register_saga(kagzi: Kagzi, ledger: Ledger) -> Workflow[[Pace], None]:
    """Register `saga`: five steps with undos, the last three side by side. It then sleeps for `nap_s` and fails."""
    steps = Steps(ledger)

    @kagzi.workflow("saga")
    async def saga(ctx: WorkflowContext, pace: Pace) -> None:
        undoable = ctx.options(undo=steps.undo, retry=RetryPolicy.fixed(0.05, max_attempts=None))
        await undoable.step("step-1", steps.work, "", pace)
        await undoable.step("step-2", steps.work_in_thread, "", pace)
        await ctx.gather(*(undoable.step(f"step-{place}", steps.work, "", pace) for place in range(3, STEPS + 1)))
        await ctx.sleep("nap", pace.nap_s)
        raise LookupError("no carrier")

    return saga


def register_hedge(kagzi: Kagzi, ledger: Ledger) -> Workflow[[Pace], str]:
    """Register `hedge`: one step, given up after `nap_s`."""
    steps = Steps(ledger)

    @kagzi.workflow("hedge")
    async def hedge(ctx: WorkflowContext, pace: Pace) -> str:
        try:
            async with asyncio.timeout(pace.nap_s):
                return await ctx.step("slow", steps.work, "", pace)
        except TimeoutError:
            return TOO_LATE

    return hedge


def register_clock(kagzi: Kagzi) -> Workflow[[], float]:
    """Register `clock`, which tells the wall clock of the worker."""

    @kagzi.workflow("clock")
    async def clock(ctx: WorkflowContext) -> float:
        return await ctx.step("look", _wall_clock)

    return clock


NUMBER = Signal("number", int)
DOUBLE = Update("double", int, int)


def register_listen(kagzi: Kagzi) -> Workflow[[float], list[int]]:
    """Register `listen`, which gives the numbers that it was sent within some seconds; after every third it works."""

    @kagzi.workflow("listen")
    async def listen(ctx: WorkflowContext, seconds: float) -> list[int]:
        numbers: list[int] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    numbers.append(await ctx.wait_for(NUMBER))
                    await ctx.publish("count", len(numbers))
                    if len(numbers) % 3 == 0:
                        await ctx.step("work", asyncio.sleep, 0.02)
        return numbers

    return listen


def register_answer(kagzi: Kagzi) -> Workflow[[int], int]:
    """Register `answer`, which answers so many updates and gives their sum."""

    @kagzi.workflow("answer")
    async def answer(ctx: WorkflowContext, updates: int) -> int:
        total = 0
        for _ in range(updates):
            request = await ctx.wait_for(DOUBLE)
            total += request.value
            await request.reply(2 * request.value)
        return total

    return answer


NEWS = Event("news", int)


def register_follow(kagzi: Kagzi) -> Workflow[[int, float], list[int]]:
    """Register `follow`, which gives so many news; it waits for each for a while, does something else, and waits
    again."""

    @kagzi.workflow("follow")
    async def follow(ctx: WorkflowContext, count: int, patience_s: float) -> list[int]:
        numbers: list[int] = []
        while len(numbers) < count:
            news = asyncio.ensure_future(ctx.wait_for_event(NEWS, lookback=3600))
            other = asyncio.ensure_future(ctx.step("other", asyncio.sleep, patience_s * (len(numbers) % 3 + 1) / 2))
            waited: set[asyncio.Future[Any]] = {news, other}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if news.done():
                numbers.append(news.result())
            elif len(numbers) % 2:
                with contextlib.suppress(TimeoutError):
                    numbers.append(await asyncio.wait_for(news, patience_s))
            news.cancel()
            other.cancel()
        return numbers

    return follow


def register_catch(kagzi: Kagzi) -> Workflow[[str], int]:
    """Register `catch`, which waits for the news of a key and gives up after half a minute."""

    @kagzi.workflow("catch")
    async def catch(ctx: WorkflowContext, key: str) -> int:
        return await ctx.wait_for_event(NEWS, key=key, timeout=30, lookback=30)

    return catch


def register_handle_news(kagzi: Kagzi) -> Workflow[[int], int]:
    """Register `handle-news`, of which each of the news starts a run."""

    @kagzi.on_event(NEWS)
    @kagzi.workflow("handle-news")
    async def handle(ctx: WorkflowContext, number: int) -> int:
        return number

    return handle


async def _wall_clock() -> float:
    return time.time()


def step_id(place: int) -> str:
    """The identity of the chain's step at a place from 1."""
    return f"0/step-{place}#1"


def register_family(kagzi: Kagzi, ledger: Ledger) -> Workflow[[int], list[str]]:
    """A parent with children that start together, of which each executes one step; it gives the children's tokens."""
    steps = Steps(ledger)

    @kagzi.workflow("child", version=1)
    async def child(ctx: WorkflowContext, pace: Pace) -> str:
        if pace.nap_s:
            await ctx.sleep("nap", pace.nap_s)
        return await ctx.step("work", steps.work, "", pace)

    @kagzi.workflow("parent", version=1)
    async def parent(ctx: WorkflowContext, children: int) -> list[str]:
        paces = [Pace(work_s=0.01 * place, nap_s=0.1 * (place % 3)) for place in range(children)]
        first = await ctx.start_child("first", child, paces[0])
        others = await ctx.gather(*(ctx.child("other", child, pace) for pace in paces[1:]))
        return [await first.result(), *others]

    return parent


def register_pair(kagzi: Kagzi, ledger: Ledger) -> tuple[Workflow[[Pace], str], Workflow[[Pace], str]]:
    """Register `brief`, which is one step long, and `pair`, which has it for its only child."""
    steps = Steps(ledger)

    @kagzi.workflow("brief")
    async def brief(ctx: WorkflowContext, pace: Pace) -> str:
        return await ctx.step("last", steps.work, "", pace)

    @kagzi.workflow("pair")
    async def pair(ctx: WorkflowContext, pace: Pace) -> str:
        return await ctx.child("only", brief, pace)

    return brief, pair


ROUNDS_OF_A_LOOP = 12


def register_loop(kagzi: Kagzi, ledger: Ledger) -> Workflow[[int, list[int]], list[int]]:
    """Register `loop`: a step and a signal in each run, then the next run; gives the numbers in the order received."""
    steps = Steps(ledger)

    @kagzi.workflow("loop")
    async def loop(ctx: WorkflowContext, rounds: int, numbers: list[int]) -> list[int]:
        await ctx.step("work", steps.work, "", Pace(work_s=0.01))
        numbers.append(await ctx.wait_for(NUMBER))
        if rounds > 1:
            ctx.continue_as_new(rounds - 1, numbers)
        return numbers

    return loop


def register_stumble(kagzi: Kagzi, ledger: Ledger, mended: Path) -> Workflow[[], list[str]]:
    """Register `stumble`: of its three steps the last fails until the file `mended` is there."""
    steps = Steps(ledger)

    async def stumble() -> str:
        token = await steps.work("", Pace(work_s=0.01))
        if not os.path.exists(mended):  # noqa: ASYNC240, PTH110 - a local file, and the step has nothing else to do
            raise LookupError("not mended yet")
        return token

    @kagzi.workflow("stumble")
    async def stumbling(ctx: WorkflowContext) -> list[str]:
        tokens = [await ctx.step(name, steps.work, "", Pace(work_s=0.01)) for name in ("first", "second")]
        return [*tokens, await ctx.step("third", stumble)]

    return stumbling
