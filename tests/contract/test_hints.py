"""Being told: `Store.listen`. A hint may be lost, late or wrong, so each test gives it several chances."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kagzi.model.run import WorkerKey
from kagzi.store.protocol import Hint, Store
from tests.contract.builders import (
    LONG_AGO,
    NAMESPACE,
    a_change,
    a_policy,
    a_request,
    a_worker,
    an_event,
    asleep,
    commit,
    completed,
    given_back,
    kill,
    start,
    start_and_claim,
    start_owned,
)


@pytest.fixture(autouse=True)
def way_to_be_told(every_database_url: str) -> None:
    """Leave out what polls alone."""
    if every_database_url.endswith("pooler=transaction"):
        pytest.skip("no notification comes through a transaction pooler; workers and waiters poll")


async def heard(store: Store, hint: Hint, act: Callable[[], Awaitable[object]]) -> None:
    """Act until the hint is heard, or fail after ten seconds."""
    ears = asyncio.Event()
    end = store.listen(lambda each: ears.set() if each is hint else None)
    try:
        async with asyncio.timeout(10):
            while not ears.is_set():
                ears.clear()
                await act()
                try:
                    async with asyncio.timeout(0.2):
                        await ears.wait()
                except TimeoutError:
                    continue
    finally:
        end()


async def test_a_start_is_hinted_to_who_found_nothing(store: Store, worker: WorkerKey) -> None:
    async def find_nothing_then_start() -> None:
        while (await store.claim(a_request(worker))).claims:
            pass
        await start(store)

    await heard(store, Hint.RUNS_DUE, find_nothing_then_start)


async def test_a_run_given_back_is_hinted(store: Store, worker: WorkerKey) -> None:
    async def give_back() -> None:
        claim = await start_owned(store, worker)
        await store.claim(a_request(worker))
        await commit(store, a_change(claim, transition=given_back()))
        await store.claim(a_request(worker))

    await heard(store, Hint.RUNS_DUE, give_back)


async def test_a_sleeper_that_is_due_at_once_is_hinted(store: Store, worker: WorkerKey) -> None:
    async def sleep_briefly() -> None:
        claim = await start_owned(store, worker)
        await store.claim(a_request(worker))
        await commit(store, a_change(claim, transition=asleep(LONG_AGO)))
        await store.claim(a_request(worker))

    await heard(store, Hint.RUNS_DUE, sleep_briefly)


async def test_recovered_runs_are_hinted(store: Store, worker: WorkerKey) -> None:
    """P8."""

    async def die() -> None:
        mortal = await a_worker(store)
        await start_owned(store, mortal)
        await store.claim(a_request(worker))
        await kill(store, mortal)
        await store.claim(a_request(worker))

    await heard(store, Hint.RUNS_DUE, die)


async def test_the_end_of_an_awaited_run_is_hinted(store: Store, worker: WorkerKey) -> None:
    async def await_the_end() -> None:
        claim = await start_and_claim(store, worker)
        assert await store.outcomes([claim.run_id]) == []
        await commit(store, a_change(claim, transition=completed()))

    await heard(store, Hint.RUNS_ENDED, await_the_end)


async def test_an_awaited_run_that_is_set_aside_is_hinted(store: Store) -> None:
    """P22."""

    async def be_set_aside() -> None:
        mortal = await a_worker(store)
        claim = await start_and_claim(store, mortal)
        assert await store.outcomes([claim.run_id]) == []
        await kill(store, mortal, a_policy(poison_after=1))

    await heard(store, Hint.RUNS_ENDED, be_set_aside)


async def test_an_event_is_hinted(store: Store) -> None:
    async def emit() -> None:
        await store.emit([an_event()])

    await heard(store, Hint.EVENT_CAME, emit)


async def test_an_order_to_drain_is_hinted(store: Store, worker: WorkerKey) -> None:
    async def ask() -> None:
        await store.ask_drain(NAMESPACE, [worker])

    await heard(store, Hint.DRAIN_ASKED, ask)


async def test_who_listens_no_more_hears_no_more(store: Store, worker: WorkerKey) -> None:
    calls: list[Hint] = []
    end = store.listen(calls.append)
    end()
    end()

    async def await_the_end() -> None:
        claim = await start_and_claim(store, worker)
        await store.outcomes([claim.run_id])
        await commit(store, a_change(claim, transition=completed()))

    await heard(store, Hint.RUNS_ENDED, await_the_end)

    assert calls == []


async def test_every_listener_is_told_on_its_event_loop(store: Store, worker: WorkerKey) -> None:
    loops: list[object] = []
    end = store.listen(lambda _: loops.append(asyncio.get_running_loop()))

    async def await_the_end() -> None:
        claim = await start_and_claim(store, worker)
        await store.outcomes([claim.run_id])
        await commit(store, a_change(claim, transition=completed()))
        await asyncio.sleep(0)

    for _ in range(2):
        await heard(store, Hint.RUNS_ENDED, await_the_end)
    end()

    assert set(loops) == {asyncio.get_running_loop()}
