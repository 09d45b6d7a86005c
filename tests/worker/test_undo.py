"""Undoing the completed steps of a run that fails or is cancelled, the last completed first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kagzi import (
    ErrorKind,
    Kagzi,
    RetryPolicy,
    Run,
    Signal,
    Step,
    StepBuilder,
    StepFailed,
    SyncWorkflowContext,
    Workflow,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowFailed,
    WorkflowHandle,
    step,
    step_info,
)
from kagzi.settings import Settings
from kagzi.testing import replay
from tests.app.applications import until
from tests.app.watched_store import WatchedStore
from tests.faults.database import harm, query
from tests.worker.gates import Gates
from tests.worker.test_cancelling import until_status

DAY = timedelta(days=1)
NEVER = Signal("never", bool)


class World:
    """What steps do, and what is undone of it: `do` gives a receipt, which `undo` wants to see."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.troubles: dict[str, int] = {}
        """How often the undo of a name fails before it succeeds."""

    async def do(self, name: str) -> str:
        self.log.append(f"do {name}")
        return f"receipt of {name}"

    async def undo(self, result: str, name: str) -> None:
        assert result == f"receipt of {name}"
        if self.troubles.get(name, 0) > 0:
            self.troubles[name] -= 1
            self.log.append(f"fail {name}")
            raise ConnectionError(f"no answer for {name}")
        self.log.append(f"undo {name}")

    async def fail(self, text: str = "no carrier") -> None:
        raise LookupError(text)

    @property
    def undone(self) -> list[str]:
        return [line for line in self.log if not line.startswith("do ")]


@pytest.fixture
def world() -> World:
    return World()


async def the_failure_of(handle: WorkflowHandle[Any]) -> WorkflowFailed:
    with pytest.raises(WorkflowFailed) as failed:
        await handle.result(timeout=30)
    return failed.value


async def the_cancellation_of(handle: WorkflowHandle[Any]) -> WorkflowCancelled:
    with pytest.raises(WorkflowCancelled) as ended:
        await handle.result(timeout=30)
    return ended.value


def named(steps: list[Step]) -> list[tuple[str, str, str]]:
    return [(each.name, each.kind, each.status) for each in steps]


async def test_completed_steps_are_undone_in_reverse_order(kagzi: Kagzi, world: World) -> None:
    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        undoable = ctx.options(undo=world.undo)
        await undoable.step("stock", world.do, "stock")
        await ctx.step("note", world.do, "note")
        await undoable.step("charge", world.do, "charge")
        await ctx.step("ship", world.fail)

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        failed = await the_failure_of(handle)
        steps = await handle.history()

    assert world.log == ["do stock", "do note", "do charge", "undo charge", "undo stock"]
    assert failed.error.message.endswith("no carrier")
    assert "failed_undos" not in failed.error.context
    assert named(steps)[-4:] == [
        ("ship", "STEP", "FAILED"),
        ("end", "ENDING", "COMPLETED"),
        ("undo charge", "STEP", "COMPLETED"),
        ("undo stock", "STEP", "COMPLETED"),
    ]


async def test_the_order_is_that_of_completion_not_of_the_calls(kagzi: Kagzi, world: World) -> None:
    gates = Gates()

    async def undo(result: str, name: str) -> None:
        world.log.append(f"undo {result}")

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        undoable = ctx.options(undo=undo)
        await ctx.gather(*(undoable.step(name, gates.enter, name) for name in "abc"))
        async with ctx.options(undo=undo).parallel("group") as group:
            group.step("d", gates.enter, "d")
        await ctx.options(undo=undo).map("each", gates.enter, ["e"])
        raise LookupError("not there")

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await gates.full(3)
        for name in "bca":
            gates.open(name)
            await until_recorded(handle, name)
        gates.open_all()
        await the_failure_of(handle)

    assert world.log == ["undo e", "undo d", "undo a", "undo c", "undo b"]


async def test_what_failed_or_was_interrupted_is_not_undone(kagzi: Kagzi, world: World) -> None:
    gates = Gates()

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        undoable = ctx.options(undo=lambda result, name: world.undo(result, name))
        await undoable.step("stock", world.do, "stock")
        with pytest.raises(StepFailed):
            await undoable.step("caught", world.fail, "caught")
        await ctx.gather(undoable.step("slow", gates.enter, "slow"), ctx.step("ship", world.fail))

    async with kagzi, kagzi.create_worker():
        await the_failure_of(await order.start())
        await gates.full(0)

    assert world.undone == ["undo stock"]


async def test_a_workflow_that_ends_well_undoes_nothing(kagzi: Kagzi, world: World) -> None:
    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> str:
        await ctx.options(undo=world.undo).step("charge", world.do, "charge")
        try:
            await ctx.step("ship", world.fail)
        except StepFailed:
            return "given up"
        return "done"

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        assert await handle.result(timeout=30) == "given up"
        assert [each.kind for each in await handle.history()] == ["STEP", "STEP"]

    assert world.undone == []


@pytest.mark.parametrize("whose", ["of the undo", "of the step", "of the workflow"])
async def test_an_undo_is_tried_again(any_database_url: str, world: World, whose: str) -> None:
    kagzi = Kagzi(settings=Settings(database_url=any_database_url, park_after=timedelta(0)))
    policy = RetryPolicy.fixed(0.01, max_attempts=4)
    keys: list[str] = []

    async def undo(result: str, name: str) -> None:
        keys.append(step_info().idempotency_key)
        await world.undo(result, name)

    function = step(retry=policy)(undo) if whose == "of the undo" else undo
    options: dict[str, Any] = {"step_retry": policy} if whose == "of the workflow" else {}

    @kagzi.workflow(**options)
    async def order(ctx: WorkflowContext) -> None:
        retry = policy if whose == "of the step" else None
        await ctx.options(undo=world.undo).step("stock", world.do, "stock")
        await ctx.options(undo=function, retry=retry, key="order-7").step("charge", world.do, "charge")
        raise LookupError("not there")

    world.troubles["charge"] = 3
    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        error = (await the_failure_of(handle)).error
        undone = next(each for each in await handle.history() if each.name == "undo charge")

    assert world.undone == [*["fail charge"] * 3, "undo charge", "undo stock"]
    assert (undone.attempts, len(undone.failed_attempts)) == (4, 3)
    assert keys == [f"{handle.run_id}:undo.0/undo charge#1"] * 4
    assert (error.type, error.context) == ("LookupError", {})


async def test_a_run_sleeps_between_the_executions_of_an_undo(any_database_url: str, world: World) -> None:
    kagzi = Kagzi(settings=Settings(database_url=any_database_url, park_after=timedelta(0)))

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        retry = RetryPolicy.fixed(3600, max_attempts=2)
        await ctx.options(undo=world.undo, retry=retry).step("charge", world.do, "charge")
        raise LookupError("not there")

    world.troubles["charge"] = 1
    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await until_status(handle, "SLEEPING")
        await handle.cancel()  # too late: it is ending already
        await until_status(handle, "SLEEPING")
        run = await handle.describe()
        assert "step 'undo charge', retrying at" in run.waiting_for[0]
        await handle.terminate("never mind")
        assert (await the_cancellation_of(handle)).reason == "never mind"

    assert world.undone == ["fail charge"]


async def test_an_undo_that_fails_for_good_does_not_keep_the_others(kagzi: Kagzi, world: World) -> None:
    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        for name in ("stock", "charge", "pack"):
            await ctx.options(undo=world.undo).step(name, world.do, name)
        raise LookupError("not there")

    world.troubles["charge"] = 1
    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        error = (await the_failure_of(handle)).error
        steps = await handle.history()

    assert world.undone == ["undo pack", "fail charge", "undo stock"]
    assert (error.type, error.message) == ("LookupError", "not there")
    assert error.context["failed_undos"] == [{"step": "undo charge", "error": "ConnectionError: no answer for charge"}]
    assert [each.name for each in steps if each.status == "FAILED"] == ["undo charge"]


async def test_an_undo_that_can_not_be_called_is_refused_at_the_call(kagzi: Kagzi, world: World) -> None:
    async def undo(result: str) -> None:
        raise AssertionError("it was to be refused")

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.options(undo=undo).step("charge", world.do, "charge")

    @kagzi.workflow
    async def other(ctx: WorkflowContext) -> None:
        await ctx.options(undo="undo").step("charge", world.do, "charge")  # type: ignore[arg-type] # the point

    async with kagzi, kagzi.create_worker():
        errors = [(await the_failure_of(await workflow.start())).error for workflow in (order, other)]

    assert [error.type for error in errors] == ["TypeError"] * 2
    assert "the undo of step 'charge' gets the step's result" in errors[0].message
    assert "as in undo(result, an argument); but it takes (result: " in errors[0].message
    assert errors[1].message == "undo must be a function of the step's result and arguments, not 'undo'."
    assert world.log == []


# -- cancelling ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("park_after", [timedelta(0), DAY], ids=["parked", "warm"])
@pytest.mark.parametrize("wait", ["sleep", "signal", "step retry", "step"])
async def test_a_cancelled_run_is_undone(any_database_url: str, world: World, park_after: timedelta, wait: str) -> None:
    kagzi = Kagzi(settings=Settings(database_url=any_database_url, park_after=park_after))
    reached, gates = asyncio.Event(), Gates()

    async def fail() -> None:
        reached.set()
        raise ConnectionError("again later")

    async def work() -> None:
        reached.set()
        await gates.enter("work")

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.options(undo=world.undo).step("stock", world.do, "stock")
        await ctx.options(undo=world.undo).step("charge", world.do, "charge")
        if wait == "step":
            await ctx.step("work", work)
        elif wait == "step retry":
            await ctx.options(retry=RetryPolicy.fixed(3600, max_attempts=9)).step("fail", fail)
        reached.set()
        if wait == "sleep":
            await ctx.sleep("long", DAY / 2)
        else:
            await ctx.wait_for(NEVER, timeout=DAY / 2)

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await reached.wait()
        if park_after == timedelta(0) and wait != "step":
            await until_status(handle, "SLEEPING")
        await handle.cancel("enough")
        assert (await the_cancellation_of(handle)).reason == "enough"
        assert await handle.status() == "CANCELLED"

    assert world.undone == ["undo charge", "undo stock"]


async def test_undoing_is_not_cut_off_by_the_grace(any_database_url: str, world: World) -> None:
    settings = Settings(database_url=any_database_url, cancel_grace=timedelta(milliseconds=50), park_after=timedelta(0))
    kagzi, gates = Kagzi(settings=settings), Gates()

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        retry = RetryPolicy.fixed(0.1, max_attempts=5)
        await ctx.options(undo=world.undo, retry=retry).step("charge", world.do, "charge")
        try:
            await ctx.sleep("long", DAY)
        finally:
            await ctx.step("clean", gates.enter, "clean")  # which is cut off

    world.troubles["charge"] = 3
    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await until_status(handle, "SLEEPING")
        await handle.cancel("why")
        assert (await the_cancellation_of(handle)).reason == "why"
        assert "clean" not in [each.name for each in await handle.history()]

    assert world.undone == [*["fail charge"] * 3, "undo charge"]


async def test_a_cancellation_in_the_wait_for_another_attempt_undoes_what_the_first_has_done(
    kagzi: Kagzi, world: World
) -> None:
    attempts: list[int] = []

    @kagzi.workflow(retry=RetryPolicy.fixed(3600, max_attempts=9))
    async def order(ctx: WorkflowContext) -> None:
        attempts.append(ctx.attempt)
        undoable = ctx.options(undo=world.undo)
        await undoable.step("stock", world.do, "stock")
        await ctx.sleep("nap", 0.01)
        await ctx.gather(undoable.step("charge", world.do, "charge"), undoable.step("pack", world.do, "pack"))
        await ctx.publish("state", "packed")
        await undoable.step("invoice", world.do, "invoice")
        raise ConnectionError("again later")

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await until_status(handle, "PENDING", attempts=2)
        assert world.undone == []
        await handle.cancel()
        await the_cancellation_of(handle)

    assert attempts == [1, 2]
    assert sorted(world.log[:4]) == ["do charge", "do invoice", "do pack", "do stock"]
    assert world.undone[0] == "undo invoice"
    assert sorted(world.undone[1:3]) == ["undo charge", "undo pack"]
    assert world.undone[3:] == ["undo stock"]


async def test_only_the_last_attempt_of_a_run_undoes(any_database_url: str, world: World) -> None:
    kagzi = Kagzi(settings=Settings(database_url=any_database_url, park_after=timedelta(0)))

    @kagzi.workflow(retry=RetryPolicy.fixed(0.01, max_attempts=3))
    async def order(ctx: WorkflowContext) -> None:
        await ctx.options(undo=world.undo).step("charge", world.do, "charge")
        world.log.append(f"do attempt {ctx.attempt}")
        if ctx.attempt == 2:
            await ctx.options(undo=world.undo).step("pack", world.do, "pack")
        raise ConnectionError("again later")

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await the_failure_of(handle)
        assert (await handle.describe()).attempts == 3

    assert world.undone == ["undo charge"], "the last attempt has not come to the other"
    assert world.log.count("do charge") == 1


async def test_a_deadline_undoes(kagzi: Kagzi, world: World) -> None:
    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.options(undo=world.undo).step("charge", world.do, "charge")
        await ctx.sleep("long", DAY)

    async with kagzi, kagzi.create_worker():
        failed = await the_failure_of(await order.options(timeout=1).start())

    assert failed.error.kind == ErrorKind.TIMEOUT
    assert world.undone == ["undo charge"]


# -- other ways to end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["stuck", "unfit result", "exit", "cancelled itself"])
async def test_every_failure_of_a_body_undoes(kagzi: Kagzi, world: World, ending: str) -> None:
    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> int:
        await ctx.options(undo=world.undo).step("charge", world.do, "charge")
        if ending == "stuck":
            await asyncio.Event().wait()
        elif ending == "exit":
            raise SystemExit(3)
        elif ending == "cancelled itself":
            raise asyncio.CancelledError
        return "no number"  # type: ignore[return-value] # the point of the test

    async with kagzi, kagzi.create_worker():
        await the_failure_of(await order.start())

    assert world.undone == ["undo charge"]


async def test_what_the_body_left_running_is_stopped_before_anything_is_undone(kagzi: Kagzi, world: World) -> None:
    gates, stopped = Gates(), asyncio.Event()

    async def work() -> None:
        try:
            await gates.enter("work")
        except asyncio.CancelledError:
            stopped.set()
            raise

    async def undo(result: str, name: str) -> None:
        assert stopped.is_set()
        await world.undo(result, name)

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        async def beside() -> None:
            await ctx.step("work", work)
            await ctx.step("more", world.do, "more")

        task = asyncio.create_task(beside())
        await ctx.options(undo=undo).step("charge", world.do, "charge")
        await ctx.sleep("nap", 0.01)
        assert not task.done()
        raise LookupError("not there")

    async with kagzi, kagzi.create_worker():
        await the_failure_of(await order.start())

    assert world.log == ["do charge", "undo charge"]


async def test_another_worker_goes_on_undoing(kagzi: Kagzi, world: World) -> None:
    gates = Gates()

    async def slow(result: str, name: str) -> None:
        await gates.enter(name)
        await world.undo(result, name)

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        for name in ("stock", "charge", "pack"):
            await ctx.options(undo=slow).step(name, world.do, name)
        raise LookupError("not there")

    async with kagzi:
        handle = await order.start()
        gates.open("pack")
        async with kagzi.create_worker():
            await gates.reached("charge")
            asyncio.get_running_loop().call_later(0.05, gates.open, "charge")
        assert world.undone == ["undo pack", "undo charge"]
        assert not (await handle.status()).is_terminal
        gates.open_all()
        async with kagzi.create_worker():
            await the_failure_of(handle)

    assert world.undone == ["undo pack", "undo charge", "undo stock"]


async def test_what_was_undone_is_done_again_where_the_run_goes_on_by_hand(kagzi: Kagzi, world: World) -> None:
    keys: list[str] = []
    carriers: list[str] = []

    async def charge(name: str) -> str:
        keys.append(step_info().idempotency_key)
        return await world.do(name)

    async def refund(receipt: str, name: str) -> None:
        keys.append(step_info().idempotency_key)
        await world.undo(receipt, name)

    async def ship() -> str:
        if not carriers:
            raise LookupError("no carrier")
        return carriers.pop()

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> str:
        await ctx.step("note", world.do, "note")
        await ctx.options(undo=world.undo).step("stock", world.do, "stock")
        await ctx.options(undo=refund).step("charge", charge, "charge")
        return await ctx.step("ship", ship)

    world.troubles["stock"] = 1  # which stays reserved
    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await the_failure_of(handle)
        await handle.retry()
        await the_failure_of(handle)
        carriers.append("parcel")
        await handle.retry()
        assert await handle.result(timeout=30) == "parcel"
        history = [each.step_id for each in await handle.history()]

    first = ["do note", "do stock", "do charge", "undo charge", "fail stock"]
    assert world.log == [*first, "do charge", "undo charge", "undo stock", "do stock", "do charge"]
    assert len(set(keys)) == 5, "whoever knows a key takes it for what was done before"
    assert len(history) == len(set(history))


async def test_a_run_that_goes_on_by_hand_after_undoing_can_change_its_worker(kagzi: Kagzi, world: World) -> None:
    gates, keys = Gates(), list[str]()

    async def charge(name: str) -> str:
        keys.append(step_info().idempotency_key)
        if len(keys) > 1:
            await gates.enter(name)
        return await world.do(name)

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.options(undo=world.undo).step("charge", charge, "charge")
        if ctx.attempt == 1:
            raise LookupError("not there")

    async with kagzi:
        handle = await order.start()
        async with kagzi.create_worker(graceful_shutdown_timeout=0.1):
            await the_failure_of(handle)
            await handle.retry()
            await gates.reached("charge")
        gates.open_all()
        async with kagzi.create_worker():
            await handle.result(timeout=30)

    assert len(keys) == 3
    assert keys[0] != keys[1]
    assert keys[1] == keys[2], "whoever executes it then"


async def test_a_fork_undoes_what_it_has_taken_over_and_begins_before_the_undoing(kagzi: Kagzi, world: World) -> None:
    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.options(undo=world.undo).step("charge", world.do, "charge")
        await ctx.step("ship", world.fail)

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await the_failure_of(handle)
        await the_failure_of(await handle.fork(at_step="ship"))
        with pytest.raises(ValueError, match="its body was over, before it came to step 'undo charge'"):
            await handle.fork(at_step="undo charge")

    assert world.log == ["do charge", "undo charge", "undo charge"]


async def test_what_was_done_before_a_run_continued_as_new_stays_done(kagzi: Kagzi, world: World) -> None:
    @kagzi.workflow
    async def order(ctx: WorkflowContext, name: str) -> None:
        await ctx.options(undo=world.undo).step(name, world.do, name)
        if name == "first":
            ctx.continue_as_new("second")
        raise LookupError("not there")

    async with kagzi, kagzi.create_worker():
        await the_failure_of(await order.start("first"))

    assert world.log == ["do first", "do second", "undo second"]


async def test_an_order_that_is_being_recorded_when_the_body_fails_does_not_interrupt_its_undos(
    kagzi: Kagzi, store: WatchedStore, world: World
) -> None:
    """P20: the body's failure is durable first."""

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        for name in ("stock", "charge"):
            await ctx.options(undo=world.undo, retry=RetryPolicy.fixed(0.05, max_attempts=3)).step(name, world.do, name)
        await ctx.sleep("nap", 0.1)
        raise LookupError("not there")

    world.troubles["charge"] = 2
    async with kagzi, kagzi.create_worker() as worker:
        handle = await order.start()
        await until_recorded(handle, "charge")
        gate = store.hold("commit")
        await until(lambda: store.waiting["commit"] > 0, what="the end of the nap is on its way")
        await handle.cancel()
        await until(lambda: all(each._mail.is_ordering for each in worker.slots.executions()), what="the order, too")
        gate.set()
        failed = await the_failure_of(handle)

    assert failed.error.message == "not there"
    assert world.undone == ["fail charge", "fail charge", "undo charge", "undo stock"]


async def test_a_transaction_is_undone_by_a_transaction(kagzi: Kagzi, any_database_url: str) -> None:
    """P12."""
    is_postgres = any_database_url.startswith("postgres")
    create = "CREATE TABLE public.seats (name text)" if is_postgres else "CREATE TABLE seats (name text)"

    if is_postgres:

        async def book(conn: Any, name: str) -> str:
            await conn.execute("INSERT INTO public.seats VALUES ($1)", name)
            return name

        async def free(conn: Any, booked: str, name: str) -> None:
            await conn.execute("DELETE FROM public.seats WHERE name = $1", booked)
            if name == "13":
                raise LookupError("there is none")

    else:

        def book(conn: Any, name: str) -> str:  # type: ignore[misc] # one of both
            conn.execute("INSERT INTO seats VALUES (?)", (name,))
            return name

        def free(conn: Any, booked: str, name: str) -> None:  # type: ignore[misc] # one of both
            conn.execute("DELETE FROM seats WHERE name = ?", (booked,))
            if name == "13":
                raise LookupError("there is none")

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        undoable = ctx.options(undo=free)
        await ctx.gather(*(undoable.transaction("book", book, name) for name in ("12", "13", "14")))
        with pytest.raises(TypeError, match=r"free\(conn, result\); but it takes"):
            undoable.transaction("book", lambda conn: "x")
        raise LookupError("not there")

    async with kagzi:
        harm(any_database_url, create)
        async with kagzi.create_worker():
            handle = await order.start()
            error = (await the_failure_of(handle)).error

    seats = query(any_database_url, "SELECT name FROM public.seats" if is_postgres else "SELECT name FROM seats")
    assert error.type == "LookupError"
    assert [each["step"] for each in error.context["failed_undos"]] == ["undo book"]
    assert [row[0] for row in seats] == ["13"]


# -- faces ---------------------------------------------------------------------------------------------------------


async def test_a_def_workflow_is_undone(kagzi: Kagzi, world: World) -> None:
    @kagzi.workflow
    def order(ctx: SyncWorkflowContext) -> None:
        undoable = ctx.options(undo=world.undo)
        undoable.step("stock", world.do, "stock")
        assert undoable.submit("charge", world.do, "charge").result() == "receipt of charge"
        with ctx.parallel("group") as group:
            group.options(undo=world.undo).submit("pack", world.do, "pack")
        StepBuilder("label").undo(world.undo).execute(ctx, world.do, "label")
        raise LookupError("not there")

    async with kagzi, kagzi.create_worker():
        await the_failure_of(await order.start())

    assert world.undone == ["undo label", "undo pack", "undo charge", "undo stock"]


async def test_a_function_brings_its_own_undo(kagzi: Kagzi, world: World) -> None:
    class Shop:
        @step
        async def refund(self, receipt: str, name: str, *, cents: int) -> None:
            await world.undo(receipt, name)
            world.log.append(f"undo {cents}")

        @step
        async def charge(self, name: str, *, cents: int) -> str:
            return await world.do(name)

    shop = Shop()

    def release(receipt: str, name: str) -> None:
        world.log.append(f"undo {name} in a thread")

    @step("reserve", undo=release)
    async def reserve(name: str) -> str:
        return await world.do(name)

    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        await reserve("stock")
        await ctx.options(undo=shop.refund).step("charge", shop.charge, "charge", cents=7)
        await StepBuilder("label").undo(world.undo).execute(ctx, world.do, "label")
        raise LookupError("not there")

    async with kagzi, kagzi.create_worker():
        await the_failure_of(await order.start())

    assert world.undone == ["undo label", "undo charge", "undo 7", "undo stock in a thread"]


async def until_recorded(handle: WorkflowHandle[Any], name: str) -> None:
    async with asyncio.timeout(30):
        while name not in [each.name for each in await handle.history() if each.finished_at is not None]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# -- other code ----------------------------------------------------------------------------------------------------


async def test_a_run_whose_undo_the_code_has_lost_rests_until_it_is_back(any_database_url: str, world: World) -> None:
    """P16."""
    settings = Settings(database_url=any_database_url, park_after=timedelta(0))

    def register(kagzi: Kagzi, undo: Callable[..., Any] | None) -> Workflow[[], None]:
        @kagzi.workflow("order")
        async def order(ctx: WorkflowContext) -> None:
            retry = RetryPolicy.fixed(0.5, max_attempts=9)
            for name in ("stock", "charge"):
                await ctx.options(undo=undo, retry=retry).step(name, world.do, name)
            raise LookupError("not there")

        return order

    world.troubles["stock"] = 1
    async with Kagzi(settings=settings) as fitting:
        order = register(fitting, world.undo)
        async with fitting.create_worker():
            handle = await order.start()
            await until_undone(world, "fail stock")
            await until_status(handle, "SLEEPING")
        async with Kagzi(settings=settings) as other:
            register(other, None)
            async with other.create_worker():
                await until_described(handle, lambda run: run.error is not None)
                run = await handle.describe()
        async with fitting.create_worker():
            failed = await the_failure_of(handle)

    assert run.status == "SLEEPING"
    assert "undo charge" in run.waiting_for[0]
    assert failed.error.message == "not there"
    assert world.undone == ["undo charge", "fail stock", "undo stock"]


async def test_the_record_of_a_run_that_was_undone_is_replayed(kagzi: Kagzi, world: World) -> None:
    @kagzi.workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.options(undo=world.undo).step("charge", world.do, "charge")
        raise LookupError("not there")

    async with kagzi, kagzi.create_worker():
        handle = await order.start()
        await the_failure_of(handle)
        await replay(kagzi, handle.run_id)

    assert world.log == ["do charge", "undo charge"]


async def until_undone(world: World, line: str) -> None:
    await until(lambda: line in world.log, what=line)


async def until_described(handle: WorkflowHandle[Any], fits: Callable[[Run], bool]) -> None:
    async with asyncio.timeout(30):
        while not fits(await handle.describe()):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
