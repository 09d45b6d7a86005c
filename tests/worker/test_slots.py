"""A worker's slots: filled, refilled, and by whom."""

from __future__ import annotations

from datetime import timedelta

from kagzi import Kagzi, RunStatus, WorkflowContext
from tests.app.applications import an_application, until, within
from tests.app.watched_store import WatchedStore
from tests.worker.gates import Gates


async def test_slots_are_filled_up_to_their_number_and_no_further(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    async with kagzi:
        handles = await kagzi.start_many(visit, [f"visitor {number}" for number in range(10)])
        async with kagzi.create_worker(max_concurrent_workflows=3):
            await gates.full(3)

            running = await kagzi.find_runs(status="running")
            pending = await kagzi.find_runs(status="pending")
            gates.open_all()
            results = [await within(handle.result()) for handle in handles]

    assert (len(running), len(pending)) == (3, 7)
    assert results == [f"visitor {number}" for number in range(10)]
    assert gates.most_inside == 3


async def test_a_slot_that_falls_free_is_refilled_at_once_while_others_are_busy(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    async with kagzi:
        await kagzi.start_many(visit, ["a", "b", "c", "d"])
        async with kagzi.create_worker(max_concurrent_workflows=2):
            await gates.full(2)
            first, second = gates.entered

            gates.open(second)
            await gates.reached("c")
            gates.open("c")
            await gates.reached("d")
            entered, inside = list(gates.entered), gates.inside
            gates.open_all()

    assert entered == [first, second, "c", "d"]
    assert inside == 2


async def test_the_longest_due_run_goes_first(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    gates.open_all()
    async with kagzi:
        handles = [await visit.start(name) for name in "abcdef"]
        async with kagzi.create_worker(max_concurrent_workflows=1):
            await until(lambda: len(gates.entered) == len(handles))  # whoever awaits a run locks it for a moment
            for handle in handles:
                await within(handle.result())

    assert gates.entered == list("abcdef")


async def test_higher_priority_goes_first_and_then_who_is_due_longest(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    gates.open_all()
    async with kagzi:
        handles = [
            await visit.options(priority=priority).start(name)
            for name, priority in [("low", -100), ("plain", 0), ("high", 100), ("plain too", 0), ("high too", 100)]
        ]
        async with kagzi.create_worker(max_concurrent_workflows=1):
            await until(lambda: len(gates.entered) == len(handles))
            for handle in handles:
                await within(handle.result())

    assert gates.entered == ["high", "high too", "plain", "plain too", "low"]


async def test_a_worker_takes_runs_of_its_own_queues_only(kagzi: Kagzi, gates: Gates) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    gates.open_all()
    async with kagzi:
        other = await visit.options(queue="other").start("other")
        mail = await visit.options(queue="mail").start("mail")
        default = await visit.start("default")
        async with kagzi.create_worker(queues=["mail", "default"]):
            await within(mail.result())
            await within(default.result())
            left = await other.status()
        async with kagzi.create_worker(queues=["other"]):
            await within(other.result())

    assert left is RunStatus.PENDING
    assert gates.entered[-1] == "other"


async def test_p17_a_run_of_a_version_that_no_worker_has_waits_for_one_that_has(
    any_database_url: str, kagzi: Kagzi
) -> None:
    @kagzi.workflow("order")
    async def first(ctx: WorkflowContext) -> str:
        return "first"

    newer = an_application(any_database_url)

    @newer.workflow("order", version=2)
    async def second(ctx: WorkflowContext) -> str:
        return "second"

    async with kagzi, newer:
        waiting = await second.start()
        async with kagzi.create_worker():
            done = await first.start()
            of_first = await within(done.result())
            status = await waiting.status()
        async with newer.create_worker():
            of_second = await within(waiting.result())
        described = await waiting.describe()

    assert (of_first, status, of_second) == ("first", RunStatus.PENDING, "second")
    assert described.version == 2


async def test_two_workers_share_what_is_due_and_no_run_is_executed_twice(
    any_database_url: str, kagzi: Kagzi, gates: Gates
) -> None:
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    other = an_application(any_database_url)
    ours, theirs = kagzi.register_workflow("visit", visit), other.register_workflow("visit", visit)
    names = [f"visitor {number}" for number in range(12)]
    async with kagzi, other:
        handles = await kagzi.start_many(ours, names[:6]) + await other.start_many(theirs, names[6:])
        async with kagzi.create_worker(max_concurrent_workflows=4) as one:
            await gates.full(4)
            async with other.create_worker(max_concurrent_workflows=4) as two:
                await gates.full(8)
                running = await kagzi.find_runs(status=RunStatus.RUNNING)
                gates.open_all()
                results = {await within(handle.result()) for handle in handles}

    owners = [run.worker_id for run in running]
    assert results == set(names)
    assert sorted(gates.entered) == sorted(names)
    assert {owners.count(one.worker_id), owners.count(two.worker_id)} == {4}


async def test_a_run_that_sleeps_long_frees_its_slot_and_takes_one_again_when_it_is_due(
    kagzi: Kagzi, gates: Gates
) -> None:
    @kagzi.workflow
    async def nap(ctx: WorkflowContext) -> str:
        await ctx.sleep("nap", 1.0)
        return "rested"

    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    async with kagzi, kagzi.create_worker(max_concurrent_workflows=1) as worker:
        sleeper = await nap.start()
        visitor = await visit.start("a")
        await gates.reached("a")
        asleep = await sleeper.describe()
        in_memory = worker.run_count
        gates.open_all()
        await within(visitor.result())
        result = await within(sleeper.result())
        awake = await sleeper.describe()

    assert asleep.status is RunStatus.SLEEPING
    assert in_memory == 1
    assert result == "rested"
    assert (awake.wakeups, awake.attempts, awake.crashes) == (1, 1, 0)
    assert awake.finished_at is not None
    assert awake.started_at is not None
    assert awake.finished_at - awake.started_at >= timedelta(seconds=1)


async def test_a_workflow_registered_while_the_worker_runs_is_executed(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def early(ctx: WorkflowContext) -> str:
        return "early"

    async with kagzi, kagzi.create_worker():

        @kagzi.workflow
        async def late(ctx: WorkflowContext) -> str:
            return "late"

        results = [await within((await workflow.start()).result()) for workflow in (early, late)]

    assert results == ["early", "late"]


async def test_a_claim_never_asks_for_more_runs_than_there_are_free_slots(
    kagzi: Kagzi, store: WatchedStore, gates: Gates
) -> None:
    @kagzi.workflow
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    async with kagzi:
        await kagzi.start_many(visit, ["a", "b", "c"])
        async with kagzi.create_worker(max_concurrent_workflows=2):
            await gates.full(2)
            gates.open("a")
            await gates.reached("c")
            await until(lambda: store.trips["claim"] >= 2)
            gates.open_all()

    slots = [request.slots for request in store.arguments["claim"]]
    assert slots[:2] == [2, 1]
    assert max(slots) == 2
