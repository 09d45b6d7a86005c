"""Steps that are executed at most once: marked before they begin, and settled where they were interrupted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kagzi import (
    NOT_EXECUTED,
    ErrorKind,
    Kagzi,
    RetryPolicy,
    RetryPredicate,
    StepBuilder,
    StepFailed,
    StepInterrupted,
    StepStatus,
    SyncWorkflowContext,
    WorkerState,
    WorkflowContext,
    WorkflowFailed,
    step,
    step_info,
)
from kagzi.testing import Environment
from tests.app.applications import until, within
from tests.app.watched_store import WatchedStore
from tests.worker import computing
from tests.worker.deaths import declare_dead
from tests.worker.gates import Gates


class Charges:
    """An account that is charged; `lost` is what nobody hears of."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.asked: list[int] = []
        self.answers: list[Any] = []
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()

    async def charge(self, amount: int) -> str:
        """Charge, and take long to say so the first time."""
        self.calls.append(amount)
        self.began.set()
        if len(self.calls) == 1:
            await self.may_end.wait()
        return f"charged {amount}"

    async def find(self, amount: int) -> Any:
        """Say what became of it, as the test wants it."""
        self.asked.append(amount)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def charges() -> Charges:
    return Charges()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def calls_in(folder: Path) -> int:
    """How often a step of computing.py left a note."""
    return len(list(folder.iterdir()))


async def killed_in_the_call(kagzi: Kagzi, charges: Charges, start: Callable[[], Any]) -> Any:
    """Start a run, have its worker declared dead while it charges, and give the run's handle."""
    worker = kagzi.create_worker(heartbeat_interval=timedelta(minutes=5), lease=timedelta(minutes=20))
    async with worker:
        handle = await start()
        await within(charges.began.wait())
        await declare_dead(worker.store, worker.key)
        worker.stop()
        worker.stop()
    return handle


async def test_a_step_is_marked_durably_before_its_function_is_called(kagzi: Kagzi) -> None:
    seen: list[Any] = []

    @step(semantics="at_most_once")
    async def charge() -> str:
        steps = await kagzi.handle(step_info().run_id).history()
        seen.extend((step.name, step.status, step.attempts) for step in steps)
        return "charged"

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        return await charge()

    async with kagzi, kagzi.create_worker():
        handle = await buy.start()
        assert await handle.result(timeout=30) == "charged"
        (stored,) = await handle.history()

    assert seen == [("charge", StepStatus.RUNNING, 1)]
    assert (stored.status, stored.output) == (StepStatus.COMPLETED, "charged")


async def test_a_step_that_was_interrupted_is_not_executed_again(kagzi: Kagzi, charges: Charges) -> None:
    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> list[str]:
        told = []
        call = ctx.options(semantics="at_most_once").step("charge", charges.charge, 5)
        for _ in range(2):
            try:
                await call
            except StepInterrupted as interrupted:
                told += [interrupted.step, interrupted.error.kind.value, str(interrupted.error.retryable)]
        await ctx.sleep("so that it is replayed", 1)
        try:
            await call
        except StepInterrupted as interrupted:
            told.append(interrupted.error.type)
        return told

    async with kagzi:
        handle = await killed_in_the_call(kagzi, charges, buy.start)
        async with kagzi.create_worker():
            told = await handle.result(timeout=30)
        (stored, _) = await handle.history()

    assert charges.calls == [5]
    assert told == ["charge", "INTERRUPTED", "False"] * 2 + ["StepInterrupted"]
    assert (stored.status, [each.attempt for each in stored.failed_attempts]) == (StepStatus.FAILED, [1])


async def test_an_interrupted_step_fails_the_run_for_good(kagzi: Kagzi, charges: Charges) -> None:
    @kagzi.workflow(retry=RetryPolicy.fixed(0, max_attempts=3))
    async def buy(ctx: WorkflowContext) -> str:
        return await ctx.options(semantics="at_most_once").step("charge", charges.charge, 5)

    async with kagzi:
        handle = await killed_in_the_call(kagzi, charges, buy.start)
        async with kagzi.create_worker():
            with pytest.raises(WorkflowFailed) as failed:
                await handle.result(timeout=30)

    assert (failed.value.error.kind, failed.value.error.type) == (ErrorKind.INTERRUPTED, "StepInterrupted")
    assert charges.calls == [5]


async def test_later_attempts_of_the_run_do_not_execute_it_either(kagzi: Kagzi, charges: Charges) -> None:
    """What failed is executed anew by a later attempt; nobody knows of this step that it has."""

    @kagzi.workflow(retry=RetryPolicy.fixed(0, max_attempts=3), retry_if=RetryPredicate.ON_ANY_ERROR)
    async def buy(ctx: WorkflowContext) -> str:
        return await ctx.options(semantics="at_most_once").step("charge", charges.charge, 5)

    async with kagzi:
        handle = await killed_in_the_call(kagzi, charges, buy.start)
        async with kagzi.create_worker():
            with pytest.raises(WorkflowFailed):
                await handle.result(timeout=30)
            attempts = (await handle.describe()).attempts
            await handle.retry()
            with pytest.raises(WorkflowFailed):
                await handle.result(timeout=30)

    assert attempts == 3
    assert charges.calls == [5]


async def test_reconcile_gives_the_result_of_what_has_happened(kagzi: Kagzi, charges: Charges) -> None:
    charges.answers = ["charged 5, as was found out"]

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        once = ctx.options(semantics="at_most_once", reconcile=charges.find)
        return await once.step("charge", charges.charge, 5)

    async with kagzi:
        handle = await killed_in_the_call(kagzi, charges, buy.start)
        async with kagzi.create_worker():
            assert await handle.result(timeout=30) == "charged 5, as was found out"

    assert (charges.calls, charges.asked) == ([5], [5])


async def test_a_step_that_did_not_happen_is_executed_under_a_new_mark(kagzi: Kagzi, charges: Charges) -> None:
    charges.answers = [NOT_EXECUTED]

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        builder = StepBuilder("charge").semantics("at_most_once", reconcile=charges.find)
        return await builder.execute(ctx, charges.charge, 5)

    async with kagzi:
        handle = await killed_in_the_call(kagzi, charges, buy.start)
        async with kagzi.create_worker():
            assert await handle.result(timeout=30) == "charged 5"

    assert (charges.calls, charges.asked) == ([5, 5], [5])


async def test_a_reconcile_that_fails_is_asked_again_as_the_policy_says(kagzi: Kagzi, charges: Charges) -> None:
    charges.answers = [ConnectionError("no bank"), "found"]

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        policy = RetryPolicy.fixed(0, max_attempts=2)
        once = ctx.options(semantics="at_most_once", reconcile=charges.find, retry=policy)
        return await once.step("charge", charges.charge, 5)

    async with kagzi:
        handle = await killed_in_the_call(kagzi, charges, buy.start)
        async with kagzi.create_worker():
            assert await handle.result(timeout=30) == "found"

    assert (charges.calls, charges.asked) == ([5], [5, 5])


async def test_a_reconcile_that_finds_out_nothing_leaves_the_step_interrupted(kagzi: Kagzi, charges: Charges) -> None:
    charges.answers = [ValueError("no such account")]

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        once = ctx.options(semantics="at_most_once", reconcile=charges.find)
        try:
            return await once.step("charge", charges.charge, 5)
        except StepInterrupted as interrupted:
            return interrupted.error.causes[0].message

    async with kagzi:
        handle = await killed_in_the_call(kagzi, charges, buy.start)
        async with kagzi.create_worker():
            assert await handle.result(timeout=30) == "no such account"

    assert charges.calls == [5]


async def test_what_the_function_raises_is_an_outcome_and_tried_again(kagzi: Kagzi) -> None:
    calls: list[int] = []

    def charge() -> str:
        calls.append(step_info().attempt)
        if len(calls) < 3:
            raise ConnectionError("refused")
        return "charged"

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        policy = RetryPolicy.fixed(0, max_attempts=3)
        return await ctx.options(semantics="at_most_once", retry=policy).step("charge", charge)

    async with kagzi, kagzi.create_worker():
        handle = await buy.start()
        assert await handle.result(timeout=30) == "charged"

    assert calls == [1, 2, 3]


async def test_what_the_function_raises_is_a_failure_like_any_other(kagzi: Kagzi) -> None:
    def charge() -> str:
        raise ConnectionError("refused")

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        try:
            return await ctx.options(semantics="at_most_once").step("charge", charge)
        except StepFailed as failed:
            return type(failed).__name__

    async with kagzi, kagzi.create_worker():
        handle = await buy.start()
        assert await handle.result(timeout=30) == "StepFailed"


async def test_a_result_that_cannot_be_kept_does_not_have_it_executed_again(kagzi: Kagzi) -> None:
    calls: list[str] = []

    def charge() -> object:
        calls.append("charge")
        return object()

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        policy = RetryPolicy.fixed(0, max_attempts=3)
        eager = ctx.options(semantics="at_most_once", retry=policy, retry_if=RetryPredicate.ON_ANY_ERROR)
        try:
            await eager.step("charge", charge)
        except StepInterrupted as interrupted:
            return interrupted.error.causes[0].type
        return "kept"

    async with kagzi, kagzi.create_worker():
        handle = await buy.start()
        assert await handle.result(timeout=30) == "PayloadError"

    assert calls == ["charge"]


async def test_a_step_that_takes_too_long_is_in_doubt_and_not_tried_again(kagzi: Kagzi, charges: Charges) -> None:
    """Its policy would have it executed again; but it may have happened."""
    policy = RetryPolicy.fixed(0, max_attempts=3)

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> Any:
        once = ctx.options(semantics="at_most_once", timeout=0.05, retry=policy)
        try:
            return await once.step("charge", charges.charge, 5)
        except StepInterrupted as interrupted:
            return [interrupted.error.causes[0].kind.value, interrupted.error.context["timeout"]]

    async with kagzi, kagzi.create_worker():
        handle = await buy.start()
        assert await handle.result(timeout=30) == ["TIMEOUT", "attempt"]

    assert charges.calls == [5]


async def test_a_step_that_takes_too_long_is_reconciled(kagzi: Kagzi, charges: Charges) -> None:
    charges.answers = [NOT_EXECUTED]

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        once = ctx.options(semantics="at_most_once", timeout=0.2, reconcile=charges.find)
        return await once.step("charge", charges.charge, 5)

    async with kagzi, kagzi.create_worker():
        handle = await buy.start()
        assert await handle.result(timeout=30) == "charged 5"

    assert (charges.calls, charges.asked) == ([5, 5], [5])


async def test_a_thread_that_takes_too_long_may_still_do_it_so_nobody_asks(kagzi: Kagzi, charges: Charges) -> None:
    let_go, calls = threading.Event(), list[str]()

    def charge(amount: int) -> None:
        calls.append("charge")
        let_go.wait(30)

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        once = ctx.options(semantics="at_most_once", timeout=0.1, reconcile=charges.find)
        try:
            await once.step("charge", charge, 5)
        except StepInterrupted:
            return "interrupted"
        return "charged"

    async with kagzi, kagzi.create_worker():
        handle = await buy.start()
        assert await handle.result(timeout=30) == "interrupted"
        let_go.set()

    assert (calls, charges.asked) == (["charge"], [])


async def test_a_process_that_dies_leaves_its_step_in_doubt(kagzi: Kagzi, notes: Path) -> None:
    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        policy = RetryPolicy.fixed(0, max_attempts=3)
        once = ctx.options(semantics="at_most_once", retry=policy, retry_if=RetryPredicate.ON_ANY_ERROR)
        try:
            await once.step("charge", computing.note_and_die, str(notes))
        except StepInterrupted as interrupted:
            return interrupted.error.causes[0].type
        return "charged"

    async with kagzi, kagzi.create_worker():
        handle = await buy.start()
        assert await handle.result(timeout=30) == "StepProcessDied"

    assert calls_in(notes) == 1


async def test_a_def_workflow_gets_the_same_error(kagzi: Kagzi, charges: Charges) -> None:
    @kagzi.workflow
    def buy(ctx: SyncWorkflowContext) -> str:
        try:
            return ctx.options(semantics="at_most_once").step("charge", charges.charge, 5)
        except StepInterrupted:
            return "interrupted"

    async with kagzi:
        handle = await killed_in_the_call(kagzi, charges, buy.start)
        async with kagzi.create_worker():
            assert await handle.result(timeout=30) == "interrupted"

    assert charges.calls == [5]


# -- faults around the mark ----------------------------------------------------------------------------------------


async def test_nothing_is_executed_before_the_mark_is_answered_for(
    kagzi: Kagzi, store: WatchedStore, charges: Charges
) -> None:
    """P4: the mark may be there, but that is not known yet; once it is, it is ours."""
    charges.may_end.set()

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        return await ctx.options(semantics="at_most_once").step("charge", charges.charge, 5)

    async with kagzi, kagzi.create_worker():
        store.mute.add("commit")
        handle = await buy.start()
        await until(lambda: store.trips["commit"] >= 3)
        calls = list(charges.calls)
        store.mute.clear()
        assert await handle.result(timeout=30) == "charged 5"

    assert (calls, charges.calls) == ([], [5])


@pytest.mark.parametrize("kind", ["async", "thread", "process"])
async def test_a_worker_that_lost_its_lease_while_it_marked_executes_nothing(
    kagzi: Kagzi, store: WatchedStore, notes: Path, kind: str
) -> None:
    """P5, P6: it was frozen, or cut off; whoever has the run now executes the step, and it alone."""
    pids: list[str] = []

    async def in_task(folder: str) -> str:
        pids.append("task")
        return "done"

    def in_thread(folder: str) -> str:
        pids.append("thread")
        return "done"

    functions: dict[str, Any] = {"async": in_task, "thread": in_thread, "process": computing.note}

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        return await ctx.options(semantics="at_most_once").step("charge", functions[kind], str(notes))

    async with kagzi:
        frozen = kagzi.create_worker(heartbeat_interval=timedelta(minutes=5), lease=timedelta(minutes=20))
        async with frozen:
            held = store.hold("commit")
            handle = await buy.start()
            await until(lambda: store.waiting["commit"])
            await declare_dead(store.real, frozen.key)
            held.set()
            await until(lambda: store.answered["commit"])
            await until(lambda: frozen.run_count == 0)
        async with kagzi.create_worker():
            await handle.result(timeout=30)

    # Once it has registered anew, the frozen worker is one of those that can have it.
    assert len(pids) + calls_in(notes) == 1


async def test_an_execution_whose_lease_ran_out_after_its_mark_waits_until_it_is_renewed(
    kagzi: Kagzi, store: WatchedStore, charges: Charges
) -> None:
    """P9: somebody could ask at this moment what became of it."""
    charges.may_end.set()

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        return await ctx.options(semantics="at_most_once").step("charge", charges.charge, 5)

    async with kagzi:
        worker = kagzi.create_worker(heartbeat_interval=timedelta(seconds=0.1), lease=timedelta(seconds=1))
        async with worker:
            held, beats, recoveries = store.hold("commit"), store.hold("beat"), store.hold("recover")
            handle = await buy.start()
            await until(lambda: store.waiting["commit"])
            await until(lambda: not worker.may_start_steps)
            held.set()
            await until(lambda: store.answered["commit"])
            await asyncio.sleep(0.2)
            calls = list(charges.calls)
            beats.set()
            assert await handle.result(timeout=30) == "charged 5"
            recoveries.set()

    assert (calls, charges.calls) == ([], [5])


async def test_a_draining_worker_gives_back_what_waits_for_a_thread_without_a_mark(kagzi: Kagzi, gates: Gates) -> None:
    """Nothing has begun, so nothing may be in doubt."""
    let_go, calls = threading.Event(), list[str]()

    def block() -> None:
        let_go.wait(30)

    def charge() -> str:
        calls.append("charge")
        return "charged"

    @kagzi.workflow
    async def hog(ctx: WorkflowContext) -> None:
        await ctx.step("block", block)

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        return await ctx.options(semantics="at_most_once").step("charge", charge)

    async with kagzi:
        worker = kagzi.create_worker()
        limit = kagzi.settings.max_step_threads
        async with worker:
            for _ in range(limit):
                await hog.start()
            await until(lambda: len([each for each in worker.runner.running if not each.waits]) >= limit)
            handle = await buy.start()
            await until(lambda: any(each.waits for each in worker.runner.running))
            worker.drain()
            await until(lambda: not any(each.waits for each in worker.runner.running))
            let_go.set()
        async with kagzi.create_worker():
            assert await handle.result(timeout=30) == "charged"

    assert calls == ["charge"]


# -- what can't be ---------------------------------------------------------------------------------------------


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match='semantics must be "at_least_once" or "at_most_once"'):
        step(semantics="exactly_once")  # type: ignore[call-overload] # what is refused
    with pytest.raises(ValueError, match='reconcile goes with semantics="at_most_once"'):
        step(reconcile=print)
    with pytest.raises(TypeError, match="reconcile must be a function"):
        step(semantics="at_most_once", reconcile="print")  # type: ignore[call-overload] # what is refused


async def test_an_outcome_of_the_function_is_none_of_the_marker(kagzi: Kagzi) -> None:
    """NOT_EXECUTED is for reconcile; a function that returns it has been executed."""

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        try:
            await ctx.options(semantics="at_most_once").step("charge", lambda: NOT_EXECUTED)
        except StepInterrupted as interrupted:
            return interrupted.error.causes[0].type
        return "kept"

    async with kagzi, kagzi.create_worker():
        handle = await buy.start()
        assert await handle.result(timeout=30) == "PayloadError"


async def test_a_step_that_can_be_undone_is_executed_at_most_once_too(kagzi: Kagzi, charges: Charges) -> None:
    """It was not completed, as far as anybody knows, so it is not undone."""
    undone: list[str] = []

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        once = ctx.options(semantics="at_most_once", undo=lambda result, amount: undone.append(result))
        return await once.step("charge", charges.charge, 5)

    async with kagzi:
        handle = await killed_in_the_call(kagzi, charges, buy.start)
        async with kagzi.create_worker():
            with pytest.raises(WorkflowFailed, match="StepInterrupted"):
                await handle.result(timeout=30)

    assert (charges.calls, undone) == ([5], [])


async def test_a_draining_worker_leaves_what_did_not_happen_to_others(kagzi: Kagzi, charges: Charges) -> None:
    """It finds out that it did not happen while it drains: it begins nothing more, and does not wait for it either."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def find(amount: int) -> Any:
        asked.set()
        await may_answer.wait()
        return NOT_EXECUTED

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        return await ctx.options(semantics="at_most_once", reconcile=find).step("charge", charges.charge, 5)

    async with kagzi:
        handle = await killed_in_the_call(kagzi, charges, buy.start)
        async with kagzi.create_worker(graceful_shutdown_timeout=timedelta(minutes=5)) as draining:
            await within(asked.wait())
            draining.drain()
            await until(lambda: draining.state is WorkerState.DRAINING)
            may_answer.set()
            await until(lambda: draining.run_count == 0)
        calls = list(charges.calls)
        async with kagzi.create_worker():
            assert await handle.result(timeout=30) == "charged 5"

    assert (calls, charges.calls) == ([5], [5, 5])


async def test_a_run_that_rests_does_not_execute_what_did_not_happen(kagzi: Kagzi, charges: Charges) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def find(amount: int) -> Any:
        asked.set()
        await may_answer.wait()
        return NOT_EXECUTED

    @kagzi.workflow
    async def buy(ctx: WorkflowContext) -> str:
        return await ctx.options(semantics="at_most_once", reconcile=find).step("charge", charges.charge, 5)

    async with kagzi:
        handle = await killed_in_the_call(kagzi, charges, buy.start)
        async with kagzi.create_worker(poll_interval=timedelta(seconds=0.1)) as worker:
            await within(asked.wait())
            await handle.pause()
            await until(lambda: not any(execution.may_go_on for execution in worker.slots.executions()))
            may_answer.set()
            await until(lambda: worker.run_count == 0)
            calls = list(charges.calls)
            await handle.resume()
            assert await handle.result(timeout=30) == "charged 5"

    assert (calls, charges.calls) == ([5], [5, 5])


async def test_what_never_happened_is_executed_until_the_total_timeout_is_used_up() -> None:
    kagzi, began = Kagzi("sqlite://"), list[float]()

    async def never_happened() -> object:
        return NOT_EXECUTED

    async def hang() -> None:
        began.append((env.now() - start).total_seconds())
        await env.sleep(3600)

    @kagzi.workflow
    async def hanging(ctx: WorkflowContext) -> Any:
        once = ctx.options(semantics="at_most_once", reconcile=never_happened, timeout=20, total_timeout=50)
        try:
            await once.step("hang", hang)
        except StepFailed as error:
            return [type(error).__name__, str(error.error.kind), error.error.context]
        return "done"

    async with Environment(kagzi) as env:
        start = env.now()
        handle = await hanging.start()
        await env.advance(60)
        outcome = await handle.result(timeout=30)
        (hung,) = await handle.history()

    assert began == [0, 20, 40]
    assert outcome == ["StepFailed", "TIMEOUT", {"timeout": "total"}]
    assert hung.status is StepStatus.FAILED
