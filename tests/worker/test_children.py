"""Child workflows: started once, awaited durably, looked after when their parent ends."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from kagzi import (
    ChildFailed,
    ConflictError,
    ErrorKind,
    Kagzi,
    ParentClose,
    RetryPolicy,
    RetryPredicate,
    RunStatus,
    Signal,
    StepKind,
    StepStatus,
    SyncWorkflowContext,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowHandle,
)
from tests.app.applications import watch

GO, STOP = Signal("go"), Signal("stop")


@pytest.fixture
def kagzi(any_database_url: str) -> Kagzi:
    return Kagzi(any_database_url)


async def test_a_child_gives_its_result(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def double(ctx: WorkflowContext, number: int) -> int:
        return await ctx.step("double", lambda: number * 2)

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> list[int]:
        first = await ctx.child("first", double, 1)
        return [first, *await ctx.gather(ctx.child("second", double, 2), ctx.child("third", "double", 3))]

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        assert await handle.result(timeout=30) == [2, 4, 6]
        first, second, third = await handle.history()
        child = await kagzi.handle(first.child_run_id or "").describe()
        listed = await kagzi.find_runs(parent=handle.run_id, workflow="double", limit=2)
        rest = await kagzi.find_runs(parent=handle.run_id, cursor=listed[-1].run_id)

    assert [step.kind for step in (first, second, third)] == [StepKind.CHILD] * 3
    assert {run.run_id for run in (*listed, *rest)} == {step.child_run_id for step in (first, second, third)}
    assert (len(listed), len(rest), child.deadline) == (2, 1, None)
    assert (child.workflow, child.parent_run_id, child.status) == ("double", handle.run_id, RunStatus.COMPLETED)


async def test_a_parent_holds_nothing_while_its_child_goes_on(kagzi: Kagzi) -> None:
    release = asyncio.Event()

    async def wait() -> str:
        await release.wait()
        return "done"

    @kagzi.workflow
    async def slow(ctx: WorkflowContext) -> str:
        return await ctx.step("wait", wait)

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> str:
        return await ctx.child("slow", slow)

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        run = await until_asleep(handle)
        (open_step,) = await handle.history()
        release.set()
        assert await handle.result(timeout=30) == "done"

    assert open_step.status is StepStatus.RUNNING
    assert run.waiting_for == (f"child 'slow' ({open_step.child_run_id})",)


async def test_a_child_that_fails_raises_in_its_parent(kagzi: Kagzi) -> None:
    def fail() -> None:
        raise ValueError("no good")

    @kagzi.workflow
    async def bad(ctx: WorkflowContext) -> None:
        await ctx.step("fail", fail)

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> tuple[str, str, str]:
        try:
            await ctx.child("bad", bad)
        except ChildFailed as failed:
            await ctx.sleep("a while", timedelta(milliseconds=1))
            return failed.error.type, failed.error.message, failed.child_run_id
        raise AssertionError("it did not fail")

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        kind, message, child_run_id = await handle.result(timeout=30)
        step, _ = await handle.history()

    assert (kind, message) == ("StepFailed", "step 'fail' failed: ValueError: no good")
    assert child_run_id == step.child_run_id


async def test_a_child_has_a_time_limit_of_its_own(kagzi: Kagzi) -> None:
    """P20."""

    @kagzi.workflow
    async def sleeper(ctx: WorkflowContext) -> None:
        await ctx.sleep("long", timedelta(days=1))

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> dict[str, Any]:
        try:
            await ctx.options(timeout=1).child("sleeper", sleeper)
        except ChildFailed as failed:
            return {"kind": failed.error.kind.value, **failed.error.context}
        return {}

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        assert await handle.result(timeout=30) == {"kind": "TIMEOUT", "timeout": "run"}
        (step,) = await handle.history()
        child = await kagzi.handle(step.child_run_id or "").describe()

    assert child.deadline == child.created_at + timedelta(seconds=1)


async def test_what_a_child_cannot_have_is_refused_at_the_call(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def child(ctx: WorkflowContext) -> None: ...

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> str:
        with pytest.raises(TypeError, match="child 'first' can't have an undo"):
            ctx.options(undo=print).child("first", child)
        return "refused"

    async with kagzi, kagzi.create_worker():
        assert await (await parent.start()).result(timeout=30) == "refused"


async def test_a_thousand_children_cost_each_what_a_hundred_do(kagzi: Kagzi) -> None:
    """Each child's end is read about once, whether its parent is waiting for it by then or starts others."""
    store = watch(kagzi)

    @kagzi.workflow
    async def same(ctx: WorkflowContext, number: int) -> int:
        return number

    @kagzi.workflow
    async def awaits(ctx: WorkflowContext, children: int) -> int:
        return sum(await asyncio.gather(*(ctx.child("same", same, number) for number in range(children))))

    @kagzi.workflow
    async def starts(ctx: WorkflowContext, children: int) -> int:
        handles = [await ctx.start_child("same", same, number) for number in range(children)]
        return sum([await handle.result() for handle in handles])

    async with kagzi, kagzi.create_worker():
        for parent in (awaits, starts):
            read = 0
            real = store.real.mail

            async def counting(*asked: Any, real: Any = real) -> Any:
                nonlocal read
                mail = await real(*asked)
                read += sum(len(each) for each in mail.messages.values())
                return mail

            store.real.mail = counting  # type: ignore[method-assign,assignment]
            handle = await parent.start(1000)
            assert await handle.result(timeout=60) == 499_500
            store.real.mail = real  # type: ignore[method-assign]
            assert read < 3 * 1000  # two may look at the same moment; with the square it were half a million


async def test_a_started_child_goes_on_beside_its_parent(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def double(ctx: WorkflowContext, number: int) -> int:
        return number * 2

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> tuple[str, int, int]:
        child = await ctx.options(queue="default", id="the-double").start_child("double", double, 21)
        await ctx.sleep("a while", timedelta(milliseconds=1))
        return child.run_id, await child.result(), await child.result()

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        run_id, first, again = await handle.result(timeout=30)
        found = await kagzi.find_runs(id="the-double")

    assert (first, again) == (42, 42)
    assert [run.run_id for run in found] == [run_id]


async def test_a_sync_workflow_has_children(kagzi: Kagzi) -> None:
    @kagzi.workflow
    def double(ctx: SyncWorkflowContext, number: int) -> int:
        return number * 2

    @kagzi.workflow
    def parent(ctx: SyncWorkflowContext) -> tuple[int, int]:
        handle = ctx.start_child("first", double, 1)
        return handle.result(), ctx.child("second", double, 2)

    async with kagzi, kagzi.create_worker():
        assert await (await parent.start()).result(timeout=30) == (2, 4)


async def test_a_child_whose_id_is_taken_is_a_conflict(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def double(ctx: WorkflowContext, number: int) -> int:
        return number * 2

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> str:
        try:
            await ctx.options(id="mine").child("double", double, 21)
        except ConflictError as conflict:
            await ctx.sleep("a while", timedelta(milliseconds=1))
            return conflict.id
        raise AssertionError("there was no conflict")

    async with kagzi, kagzi.create_worker():
        await double.options(id="mine").start(1)
        assert await (await parent.start()).result(timeout=30) == "mine"


async def test_a_child_of_an_unknown_workflow_fails(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> str:
        try:
            await ctx.child("nobody", "nobody")
        except ChildFailed as failed:
            return failed.error.type
        raise AssertionError("it did not fail")

    async with kagzi, kagzi.create_worker():
        assert await (await parent.start()).result(timeout=30) == "WorkflowNotRegistered"


async def test_a_further_attempt_keeps_what_its_children_have_made(kagzi: Kagzi) -> None:
    """A child that completed is handed out; one that failed is started anew."""
    tries: list[str] = []

    def flaky() -> str:
        tries.append("flaky")
        if len(tries) == 1:
            raise ConnectionError("once")
        return "now"

    @kagzi.workflow
    async def good(ctx: WorkflowContext) -> str:
        return ctx.run_id

    @kagzi.workflow
    async def bad(ctx: WorkflowContext) -> str:
        return await ctx.step("flaky", flaky)

    @kagzi.workflow(retry=RetryPolicy.fixed(0.01, max_attempts=3), retry_if=RetryPredicate.ON_ANY_ERROR)
    async def parent(ctx: WorkflowContext) -> tuple[str, str]:
        return await ctx.child("good", good), await ctx.child("bad", bad)

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        child_run_id, now = await handle.result(timeout=30)
        goods = await kagzi.find_runs(workflow="good")
        bads = await kagzi.find_runs(workflow="bad")

    assert now == "now"
    assert [run.run_id for run in goods] == [child_run_id]
    assert [run.status for run in bads] == [RunStatus.COMPLETED, RunStatus.FAILED]


async def test_a_further_attempt_does_not_wait_for_a_child_that_was_given_up_and_cleans_up(kagzi: Kagzi) -> None:
    """It starts one of its own. A child that nobody has given up is awaited."""
    answer, cleaned = Signal("answer", int), Signal("cleaned", int)

    @kagzi.workflow
    async def slow(ctx: WorkflowContext, name: str) -> int:
        try:
            return await ctx.wait_for(answer)
        except asyncio.CancelledError:
            await ctx.wait_for(cleaned)
            raise

    async def wait_for(ctx: WorkflowContext, name: str) -> int:
        return await ctx.child(name, slow, name)

    @kagzi.workflow(retry=RetryPolicy.fixed(0.01, max_attempts=2), retry_if=RetryPredicate.ON_ANY_ERROR)
    async def parent(ctx: WorkflowContext) -> int:
        kept = asyncio.create_task(wait_for(ctx, "kept"))
        try:
            async with asyncio.timeout(0.5 if ctx.attempt == 1 else None):
                given_up = await ctx.child("given up", slow, "given up")
        except TimeoutError:
            raise LookupError("once") from None
        return given_up + await kept

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        async with asyncio.timeout(30):
            while len(runs := await kagzi.find_runs(parent=handle.run_id)) < 3:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)
        children = [await kagzi.handle(run.run_id).describe() for run in reversed(runs)]
        first = {child.input[0]: kagzi.handle(child.run_id) for child in children[:2]}
        await first["given up"].signal(cleaned, 1)
        await first["kept"].signal(answer, 1)
        await kagzi.handle(children[2].run_id).signal(answer, 2)
        result = await handle.result(timeout=30)

    assert result == 3


async def until_asleep(handle: WorkflowHandle[Any]) -> Any:
    """Wait until the run sleeps."""
    async with asyncio.timeout(30):
        # ASYNC110: nobody tells when a run has parked.
        while (await handle.status()) is not RunStatus.SLEEPING:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return await handle.describe()


@pytest.mark.parametrize("policy", ParentClose)
async def test_open_children_are_looked_after_when_their_parent_ends(kagzi: Kagzi, policy: ParentClose) -> None:
    @kagzi.workflow
    async def patient(ctx: WorkflowContext) -> str:
        try:
            await ctx.wait_for(GO)
        except asyncio.CancelledError:
            await ctx.step("tidy up", lambda: "tidy")
            raise
        return "went"

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> str:
        child = await ctx.options(parent_close=policy).start_child("patient", patient)
        await ctx.wait_for(GO)
        return child.run_id

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        await until_asleep(handle)
        (step,) = await handle.history()
        child = kagzi.handle(step.child_run_id or "")
        await until_asleep(child)
        await handle.signal(GO, None)
        await handle.result(timeout=30)
        if policy is ParentClose.ABANDON:
            await child.signal(GO, None)
            assert await child.result(timeout=30) == "went"
        else:
            with pytest.raises(WorkflowCancelled, match="its parent has ended"):
                await child.result(timeout=30)
        tidied = [step.name for step in await child.history() if step.kind is StepKind.STEP]

    assert tidied == (["tidy up"] if policy is ParentClose.CANCEL else [])


async def test_a_child_whose_parent_was_terminated_is_looked_after_by_any_worker(kagzi: Kagzi) -> None:
    """P14: whoever ended the parent has no part in it."""

    @kagzi.workflow
    async def patient(ctx: WorkflowContext) -> None:
        await ctx.wait_for(GO)

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.child("patient", patient)

    async with kagzi:
        async with kagzi.create_worker():
            handle = await parent.start()
            await until_asleep(handle)
            (step,) = await handle.history()
            child = kagzi.handle(step.child_run_id or "")
            await until_asleep(child)
        await handle.terminate()
        async with kagzi.create_worker():
            with pytest.raises(WorkflowCancelled):
                await child.result(timeout=30)


async def test_a_child_that_is_given_up_is_cancelled(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def patient(ctx: WorkflowContext) -> None:
        await ctx.wait_for(GO)

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> int:
        first, _ = await ctx.race(ctx.child("patient", patient), ctx.wait_for(STOP))
        await ctx.wait_for(GO)
        return first

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        await until_asleep(handle)
        (step,) = await handle.history()
        await handle.signal(STOP, None)
        with pytest.raises(WorkflowCancelled, match="given it up"):
            await kagzi.handle(step.child_run_id or "").result(timeout=30)
        await handle.signal(GO, None)
        assert await handle.result(timeout=30) == 1


async def test_a_cancelled_child_raises_in_its_parent(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def patient(ctx: WorkflowContext) -> None:
        await ctx.wait_for(GO)

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> tuple[ErrorKind, str]:
        try:
            await ctx.child("patient", patient)
        except ChildFailed as failed:
            return failed.error.kind, failed.error.message
        raise AssertionError("it was not cancelled")

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        await until_asleep(handle)
        (step,) = await handle.history()
        await kagzi.handle(step.child_run_id or "").cancel("not needed")
        assert await handle.result(timeout=30) == (ErrorKind.CANCELLED, "not needed")


async def test_a_cancelled_parent_cancels_the_child_that_it_awaits(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def patient(ctx: WorkflowContext) -> None:
        await ctx.wait_for(GO)

    @kagzi.workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.child("patient", patient)

    async with kagzi, kagzi.create_worker():
        handle = await parent.start()
        await until_asleep(handle)
        (step,) = await handle.history()
        await handle.cancel()
        for run_id in (handle.run_id, step.child_run_id or ""):
            with pytest.raises(WorkflowCancelled):
                await kagzi.handle(run_id).result(timeout=30)
