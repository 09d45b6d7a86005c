"""`crash_everywhere`: what survives it, and what it finds."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from datetime import timedelta
from itertools import count

import msgspec
import pytest

from kagzi import Kagzi, StepFailed, WorkflowContext, WorkflowFailed, step_info
from kagzi.model.claim import Claimed, ClaimRequest
from kagzi.store.sqlite.store import SqliteStore
from kagzi.testing import Environment, NotQuiet, stage


async def _double(number: int) -> int:
    return number * 2


def _triple(number: int) -> int:
    return number * 3


async def _fail() -> None:
    raise LookupError("not there")


async def test_patched_answers_the_same_after_a_crash_at_every_write(kagzi: Kagzi) -> None:
    """P16: also where the crash comes between the answer and its marker."""

    @kagzi.workflow
    async def changed(ctx: WorkflowContext, number: int) -> list[object]:
        async def branch(name: str) -> object:
            doubled = await ctx.step("double", _double, number)
            if ctx.patched(name):
                return await ctx.step("triple", _triple, doubled)
            return await ctx.step("double", _double, doubled)

        branches = await asyncio.gather(branch("first"), branch("second"))
        await ctx.sleep("night", timedelta(hours=8))
        return [*branches, ctx.patched("third")]

    async with Environment(kagzi) as env:
        handle = await changed.start(7)
        await env.advance(timedelta(hours=8))
        assert await handle.result() == [42, 42, True]

        report = await env.crash_everywhere(changed, 7)

    assert {f"marker of patch {name!r}" for name in ("first", "second", "third")} <= set(report.writes)


async def test_a_workflow_of_everything_survives_a_crash_at_every_write(kagzi: Kagzi) -> None:
    """P10, P11, P13, P15: with steps on the loop and in threads, gather, groups, sleeps, timeouts and failures."""

    @kagzi.workflow
    async def everything(ctx: WorkflowContext, number: int) -> dict[str, object]:
        first = await ctx.step("double", _double, number)
        both = [*await asyncio.gather(ctx.step("double", _double, first), ctx.step("triple", _triple, first))]
        await ctx.sleep("night", timedelta(hours=8))
        try:
            async with asyncio.timeout(10):
                await ctx.sleep("too long", 20)
        except TimeoutError:
            both.append(-1)
        try:
            await ctx.step("fail", _fail)
        except StepFailed as error:
            both.append(len(error.error.message))
        async with asyncio.TaskGroup() as group:
            left = group.create_task(ctx.step("double", _double, 5))
            right = group.create_task(ctx.sleep("nap", 0.5))
        assert right.done()
        chance = [ctx.random(), str(ctx.uuid4()), str(ctx.now()), ctx.run_id]
        return {"both": both, "left": left.result(), "chance": chance}

    async with Environment(kagzi) as env:
        report = await env.crash_everywhere(everything, 7)

    assert report.crashes == 2 * len(report.writes)
    assert report.writes[:3] == ("start of the run", "checkpoint of step 'double'", "checkpoint of step 'double'")
    assert report.writes[-1] == "completion of the run"
    assert Counter(report.writes)["parking of the run"] == 2
    assert Counter(report.writes)["failure of step 'fail'"] == 1


async def test_a_workflow_that_fails_fails_the_same_way_each_time(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def failing(ctx: WorkflowContext) -> None:
        await ctx.step("double", _double, 1)
        await ctx.step("fail", _fail)

    async with Environment(kagzi) as env:
        report = await env.crash_everywhere(failing)

    assert report.writes == (
        "start of the run",
        "checkpoint of step 'double'",
        "failure of step 'fail'",
        "failure of the run",
    )
    assert report.crashes == 8


async def test_a_step_runs_again_only_where_its_result_was_not_durable(kagzi: Kagzi) -> None:
    """P10: at least once until the checkpoint, never after, under one idempotency key."""
    keys: list[str] = []

    async def note() -> None:
        keys.append(step_info().idempotency_key)

    @kagzi.workflow
    async def one(ctx: WorkflowContext) -> None:
        await ctx.step("note", note)

    async with Environment(kagzi) as env:
        report = await env.crash_everywhere(one)

    # Once in each of the seven executions, and once more where the crash came just before the checkpoint.
    assert report.writes == ("start of the run", "checkpoint of step 'note'", "completion of the run")
    assert len(keys) == 1 + 6 + 1
    assert len(set(keys)) == 1


async def test_mocks_apply_and_the_application_is_as_before_afterwards(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def sleepy(ctx: WorkflowContext) -> int:
        await ctx.sleep("hour", 3600)
        return await ctx.step("double", _double, 4)

    async with Environment(kagzi) as env:
        mock = env.mock("double", 0)
        before = await sleepy.start()
        now = env.now()
        report = await env.crash_everywhere(sleepy)
        assert env.now() == now
        assert mock.count == 1 + report.crashes + 1
        assert len(await kagzi.find_runs()) == 1
        await env.advance(3600)
        assert await before.result() == 0


async def test_stand_ins_that_take_virtual_time_are_killed_with_their_worker(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def race(ctx: WorkflowContext) -> str:
        slow, quick = ctx.step("slow", _double, 1), ctx.step("quick", _double, 2)
        done, _ = await asyncio.wait([slow, quick], return_when=asyncio.FIRST_COMPLETED)
        slow.cancel()
        return "quick" if quick in done else "slow"

    async with Environment(kagzi) as env:

        async def takes_a_minute(number: int) -> int:
            await env.sleep(60)
            return number

        async def takes_a_second(number: int) -> int:
            await env.sleep(1)
            return number

        env.mock("slow", takes_a_minute)
        env.mock("quick", takes_a_second)
        report = await env.crash_everywhere(race)
        assert report.writes == ("start of the run", "checkpoint of step 'quick'", "completion of the run")


async def test_functions_in_threads_are_waited_for_before_another_worker_goes_on(kagzi: Kagzi) -> None:
    """The real crash ends them; a second one of the same step beside the first would be a fault of the rehearsal."""
    busy = threading.Lock()
    overlaps = []

    def slow(wait_s: float) -> None:
        if not busy.acquire(blocking=False):
            overlaps.append(wait_s)
            return
        threading.Event().wait(wait_s)
        busy.release()

    @kagzi.workflow
    async def threads(ctx: WorkflowContext) -> None:
        await asyncio.gather(ctx.step("double", _double, 1), ctx.step("slow", slow, 0.02))

    async with Environment(kagzi) as env:
        await env.crash_everywhere(threads)
    assert overlaps == []


# -- what it finds -------------------------------------------------------------------------------------------------


async def test_it_finds_a_result_that_comes_from_outside_of_the_record(kagzi: Kagzi) -> None:
    counter = count()

    @kagzi.workflow
    async def counting(ctx: WorkflowContext) -> int:
        number = next(counter)
        await ctx.step("double", _double, 1)
        return number

    async with Environment(kagzi) as env:
        with pytest.raises(AssertionError) as found:
            await env.crash_everywhere(counting)

    report = str(found.value)
    assert "workflow 'counting' does not survive a crash just before write 1 (start of the run)" in report
    assert "expected: COMPLETED with 0" in report
    assert "found:    COMPLETED with 1" in report
    assert "2. checkpoint of step 'double'" in report


async def test_it_finds_a_body_that_asks_for_another_step_each_time(kagzi: Kagzi) -> None:
    """P16: once a record is there, the run is set aside before any new side effect."""
    counter = count()

    @kagzi.workflow
    async def naming(ctx: WorkflowContext) -> str:
        name = f"step-{next(counter)}"
        env.mock(name, 1)
        await ctx.step(name, _double, 1)
        return "the same"

    async with Environment(kagzi) as env:
        with pytest.raises(AssertionError) as found:
            await env.crash_everywhere(naming)

    assert "was executed, which the execution without a crash never did" in str(found.value)


async def test_it_finds_a_side_effect_that_only_the_first_execution_of_a_body_has(kagzi: Kagzi) -> None:
    seen: set[str] = set()

    @kagzi.workflow
    async def once_only(ctx: WorkflowContext, customer: str) -> str:
        if customer not in seen:
            await ctx.step("greet", _double, 1)
            seen.add(customer)
        await ctx.step("serve", _double, 2)
        seen.discard(customer)
        return "served"

    async with Environment(kagzi) as env:
        with pytest.raises(AssertionError) as found:
            await env.crash_everywhere(once_only, "Ada")

    report = str(found.value)
    assert "a crash just before write 3 (checkpoint of step 'serve')" in report
    assert "does not fit the run's record" in report
    assert "greet" in report


async def test_it_finds_a_side_effect_that_only_a_recovered_run_has(kagzi: Kagzi) -> None:
    bodies = count()

    @kagzi.workflow
    async def apologetic(ctx: WorkflowContext) -> str:
        first_time = next(bodies) % 2 == 0
        await ctx.step("serve", _double, 2)
        if not first_time:
            await ctx.step("apologize", _double, 3)
        return "served"

    async with Environment(kagzi) as env:
        with pytest.raises(AssertionError, match="'0/apologize#1' was executed, which the execution without a crash"):
            await env.crash_everywhere(apologetic)


async def test_it_finds_a_store_that_forgets(kagzi: Kagzi, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(SqliteStore):
        async def claim(self, request: ClaimRequest) -> Claimed:
            claimed = await super().claim(request)
            forgotten = [msgspec.structs.replace(claim, history=()) for claim in claimed.claims]
            return msgspec.structs.replace(claimed, claims=tuple(forgotten))

    monkeypatch.setattr(stage, "SqliteStore", Forgetful)

    @kagzi.workflow
    async def simple(ctx: WorkflowContext) -> int:
        return await ctx.step("double", _double, 1)

    async with Environment(kagzi) as env:
        with pytest.raises(AssertionError) as found:
            await env.crash_everywhere(simple)

    assert "a crash just after write 2 (checkpoint of step 'double')" in str(found.value)
    assert "step '0/double#1' was executed again, though its result was stored already" in str(found.value)


async def test_the_application_is_usable_after_something_was_found(kagzi: Kagzi) -> None:
    numbers = count()

    @kagzi.workflow
    async def counting(ctx: WorkflowContext) -> int:
        return next(numbers)

    async with Environment(kagzi) as env:
        with pytest.raises(AssertionError):
            await env.crash_everywhere(counting)
        handle = await counting.start()
        await env.settle()
        assert await handle.result() >= 2


async def test_a_body_that_waits_for_nothing_is_a_failure_of_its_own(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def stuck(ctx: WorkflowContext) -> None:
        await asyncio.Event().wait()

    async with Environment(kagzi) as env:
        report = await env.crash_everywhere(stuck)
        handle = await stuck.start()
        with pytest.raises(WorkflowFailed, match="can't happen"):
            await handle.result()
    assert report.writes == ("start of the run", "failure of the run")


async def test_a_workflow_without_an_end_is_reported(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def endless(ctx: WorkflowContext) -> None:
        while True:
            await ctx.sleep("day", timedelta(days=1))

    async with Environment(kagzi, limit=0.1) as env:
        with pytest.raises(NotQuiet, match="runs still go on"):
            await env.crash_everywhere(endless)
