"""How results arrive: with few questions, by hints or without, and through outages."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from functools import partial
from pathlib import Path

import pytest

from kagzi import Kagzi, StoreUnavailable, WorkflowContext, WorkflowHandle
from kagzi.store.protocol import HintListener
from tests.app.applications import an_application, until, watch, within
from tests.app.watched_store import WatchedStore
from tests.worker.gates import Gates


@dataclasses.dataclass
class Receipt:
    number: int
    lines: list[tuple[str, float]]


async def buy(ctx: WorkflowContext, number: int) -> Receipt:
    return Receipt(number, [("tea", 2.5)])


async def wait(ctx: WorkflowContext) -> str:
    await ctx.sleep("long", 3600)
    return "done"


@pytest.fixture
def gates() -> Gates:
    return Gates()


async def test_five_hundred_results_do_not_take_five_hundred_questions(any_database_url: str, kagzi: Kagzi) -> None:
    kagzi.register_workflow("buy", buy)
    client = an_application(any_database_url)
    store = watch(client)
    there = client.register_workflow("buy", buy)

    async with client:
        handles = await client.start_many(there, list(range(500)))
        waiting = [asyncio.ensure_future(handle.result()) for handle in handles]
        await until(lambda: store.trips["outcomes"] >= 1)
        async with kagzi.create_worker():
            results = await within(asyncio.gather(*waiting))
        reads = sum(store.trips[verb] for verb in ("outcomes", "existing", "get"))

    assert [result.number for result in results] == list(range(500))
    assert reads <= 60


async def test_bare_handles_ask_once_for_all_and_then_once_for_each_to_know_its_type(
    any_database_url: str, kagzi: Kagzi
) -> None:
    workflow = kagzi.register_workflow("buy", buy)
    async with kagzi.create_worker():
        started = await kagzi.start_many(workflow, list(range(50)))
        await within(asyncio.gather(*(handle.result() for handle in started)))

    client = an_application(any_database_url)
    store = watch(client)
    client.register_workflow("buy", buy)
    async with client:
        results = await within(asyncio.gather(*(client.handle(handle.run_id).result() for handle in started)))

    assert [result.number for result in results] == list(range(50))
    assert store.trips["outcomes"] <= 3
    assert store.trips["get"] <= 50


async def test_a_result_from_another_process_arrives_at_once(
    any_database_url: str, kagzi: Kagzi, tmp_path: Path
) -> None:
    program = tmp_path / "elsewhere.py"
    program.write_text(
        "import asyncio, sys\n"
        "from kagzi import Kagzi, WorkflowContext\n"
        "kagzi = Kagzi(sys.argv[1])\n"
        "@kagzi.workflow\n"
        "async def buy(ctx: WorkflowContext, number: int) -> int:\n"
        "    return number * 2\n"
        "asyncio.run(kagzi.create_worker().start())\n"
    )

    @kagzi.workflow("buy")
    async def here(ctx: WorkflowContext, number: int) -> int:
        raise NotImplementedError

    worker = await asyncio.create_subprocess_exec(sys.executable, program, any_database_url)
    try:
        first = await within((await here.start(1)).result())
        began = asyncio.get_running_loop().time()
        rest = [await within((await here.start(number)).result()) for number in range(2, 6)]
        took = asyncio.get_running_loop().time() - began
    finally:
        worker.terminate()
        status = await within(worker.wait())

    assert [first, *rest] == [2, 4, 6, 8, 10]
    assert took < 4 * 0.45, "results came by polling"
    assert status == 0


async def test_who_awaits_what_he_starts_asks_for_each_result_once_it_is_there(postgres_url: str, gates: Gates) -> None:
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    elsewhere, client = an_application(postgres_url), an_application(postgres_url)
    elsewhere.register_workflow("visit", visit)
    store = watch(client)
    there = client.register_workflow("visit", visit)
    gates.open("first")

    async with elsewhere, elsewhere.create_worker(), client:
        await within((await there.start("first")).result())
        asked = store.trips["outcomes"]
        waiting = asyncio.ensure_future((await there.start("second")).result())
        await gates.reached("second")
        asked_early = store.trips["outcomes"] - asked
        gates.open("second")
        began = asyncio.get_running_loop().time()
        result = await within(waiting)
        took = asyncio.get_running_loop().time() - began
        asked_in_all = store.trips["outcomes"] - asked
        # Forgotten ones make the rest not worth announcing.
        gates.open_all()
        for name in ("third", "fourth", "fifth"):
            forgotten = await there.start(name)
        await until(lambda: is_over(forgotten))

    assert result == "second"
    assert (asked_early, asked_in_all) == (0, 1)
    assert took < 0.45, "the result came by polling"
    assert [runs[0].awaited for runs in store.arguments["start"]] == [False, True, True, True, False]


async def is_over(handle: WorkflowHandle[str]) -> bool:
    return (await handle.status()).is_terminal


@pytest.mark.parametrize("pause_s", [0, 0.03], ids=["at once", "later"])
async def test_who_hears_nothing_asks_for_a_run_whose_end_was_to_be_announced(
    postgres_url: str, gates: Gates, pause_s: float
) -> None:
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    elsewhere, client = an_application(postgres_url), an_application(postgres_url)
    elsewhere.register_workflow("visit", visit)
    store = watch(client)
    deaf(store)
    there = client.register_workflow("visit", visit)
    gates.open_all()
    took = []

    async with elsewhere, elsewhere.create_worker(), client:
        await within((await there.start("first")).result())
        for _ in range(3):
            handle = await there.start("second")
            await until(partial(is_over, handle))
            await asyncio.sleep(pause_s)
            began = asyncio.get_running_loop().time()
            assert await within(handle.result()) == "second"
            took.append(asyncio.get_running_loop().time() - began)

    assert [runs[0].awaited for runs in store.arguments["start"]] == [False, True, True, True]
    assert min(took) < 0.3, "results came by polling"


async def test_a_result_arrives_by_polling_where_no_hint_does_even_while_others_come_to_wait(
    any_database_url: str, kagzi: Kagzi, gates: Gates
) -> None:
    async def visit(ctx: WorkflowContext, name: str) -> str:
        return await ctx.step("enter", gates.enter, name)

    kagzi.register_workflow("visit", visit)
    client = an_application(any_database_url)
    store = watch(client)
    deaf(store)
    there = client.register_workflow("visit", visit)
    others: list[asyncio.Task[str]] = []

    async with client, kagzi.create_worker():
        awaited = asyncio.ensure_future((await there.start("a")).result())
        await gates.reached("a")
        gates.open("a")

        async def arrived() -> bool:
            others.append(asyncio.create_task(client.handle((await there.start("b")).run_id).result()))
            await asyncio.sleep(0.05)  # others come all the time, each before half a second has passed quietly
            return awaited.done()

        await until(arrived)
        gates.open_all()
        await within(asyncio.gather(*others))

    assert awaited.result() == "a"


def deaf(store: WatchedStore) -> None:
    """Let no hint through: they may be lost."""

    def listen(listener: HintListener) -> object:
        return lambda: None

    store.__dict__["listen"] = listen


async def test_p14_results_wait_out_an_outage_of_the_store(kagzi: Kagzi, store: WatchedStore) -> None:
    workflow = kagzi.register_workflow("buy", buy)
    handle = await workflow.start(7)

    with store.unreachable("outcomes", "existing"):
        waiting = asyncio.ensure_future(kagzi.handle(handle.run_id).result())
        await until(lambda: store.trips["outcomes"] >= 2)
        early = waiting.done()
    async with kagzi.create_worker():
        result = await within(waiting)

    assert not early
    assert result == Receipt(7, [("tea", 2.5)])


async def test_closing_the_application_ends_the_waiting(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    workflow = kagzi.register_workflow("wait", wait)
    await kagzi.open()
    waiting = asyncio.ensure_future((await workflow.start()).result())
    await asyncio.sleep(0)

    await within(kagzi.close())

    with pytest.raises(StoreUnavailable, match="closed"):
        await within(waiting, 5)


async def test_a_handle_of_an_application_that_was_closed_says_so(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    workflow = kagzi.register_workflow("wait", wait)
    async with kagzi:
        handle = await workflow.start()

    for ask in (handle.result, handle.status, handle.describe, handle.history):
        with pytest.raises(StoreUnavailable, match=r"closed|not open"):
            await within(ask(), 5)


async def test_a_waiter_that_is_cancelled_leaves_the_others_waiting(kagzi: Kagzi, gates: Gates) -> None:
    async def visit(ctx: WorkflowContext) -> str:
        return await ctx.step("enter", gates.enter, "a")

    workflow = kagzi.register_workflow("visit", visit)
    async with kagzi.create_worker():
        handle = await workflow.start()
        first, second = (asyncio.ensure_future(handle.result()) for _ in range(2))
        await gates.reached("a")
        first.cancel()
        await asyncio.wait({first})
        gates.open_all()
        result = await within(second)

    assert first.cancelled()
    assert result == "a"
