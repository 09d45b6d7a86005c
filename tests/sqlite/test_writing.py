"""The writer thread: what goes together, and who pays for whom."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from kagzi.errors import StoreUnavailable
from kagzi.model.run import NewRun
from kagzi.settings import Settings
from kagzi.store.protocol import Hint
from kagzi.store.sqlite.session import Session, each
from kagzi.store.sqlite.store import SqliteStore
from tests.contract.builders import a_change, a_record, a_run, a_worker, claim_one, commit, start
from tests.sqlite.conftest import OpenStore


async def test_calls_that_wait_share_a_transaction(store: SqliteStore) -> None:
    """Group commit: one fsync carries them all."""
    answers = await asyncio.gather(*(store.start([a_run()]) for _ in range(64)))

    assert len({answer.now for (answer,) in answers}) <= 3


async def test_one_bad_call_fails_alone(store: SqliteStore) -> None:
    """P24: payloads are checked long before, but the thread must outlive what nobody thought of."""
    calls = [store.start([a_run(input="\ud800" if number == 7 else "{}")]) for number in range(20)]

    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert [number for number, answer in enumerate(answers) if isinstance(answer, Exception)] == [7]
    assert isinstance(answers[7], UnicodeEncodeError)
    assert len(await start(store)) == 1


async def test_a_caller_that_gave_up_holds_nobody_up(store: SqliteStore) -> None:
    runs = [a_run() for _ in range(30)]
    calls = [asyncio.ensure_future(store.start([run])) for run in runs]
    await asyncio.sleep(0)

    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [True, False] * 15


async def test_two_commits_at_once_of_one_run_are_taken_one_after_the_other(store: SqliteStore) -> None:
    """P6: merged into one transaction they are, into one statement they must not be."""
    worker = await a_worker(store)
    await start(store)
    claim = await claim_one(store, worker)

    answers = await asyncio.gather(*(commit(store, a_change(claim, a_record(1, output=f'"{n}"'))) for n in range(5)))

    assert [answer.outcomes[0].name for answer in answers] == ["APPLIED", *["ALREADY"] * 4]
    (step,) = await store.steps(claim.run_id)
    assert step.output == '"0"'


def test_a_store_serves_several_event_loops(sqlite_url: str) -> None:
    """The blocking face runs a loop of its own beside the application's."""
    stop = threading.Event()
    opened = threading.Event()
    store = SqliteStore(sqlite_url, Settings())
    hints: list[Hint] = []

    async def own() -> None:
        await store.open()
        await store.migrate()
        end = store.listen(hints.append)
        opened.set()
        await asyncio.to_thread(stop.wait, 10)
        end()
        await store.close()

    thread = threading.Thread(target=lambda: asyncio.run(own()))
    thread.start()
    assert opened.wait(10)

    async def use() -> list[NewRun]:
        runs = [a_run() for _ in range(50)]
        await asyncio.gather(*(store.start([run]) for run in runs))
        assert len(await store.existing([run.run_id for run in runs])) == 50
        return runs

    asyncio.run(use())
    stop.set()
    thread.join(10)
    assert Hint.RUNS_DUE in hints


async def test_memory_is_private_to_its_store(open_store: OpenStore) -> None:
    one, other = await open_store("sqlite://"), await open_store("sqlite://")
    (run_id,) = await start(one)

    assert await one.existing([run_id]) == {run_id}
    assert await other.existing([run_id]) == set()


async def test_writes_of_another_store_on_the_file_are_hinted(open_store: OpenStore) -> None:
    here, there = await open_store(), await open_store()
    for _ in range(3):
        heard = {hint: asyncio.Event() for hint in Hint}
        end = here.listen(lambda hint, heard=heard: heard[hint].set())

        await start(there)

        async with asyncio.timeout(1):
            await asyncio.gather(*(event.wait() for event in heard.values()))
        end()


async def test_a_store_closed_while_it_waits_for_a_lock_gives_up_at_once(open_store: OpenStore) -> None:
    """P26."""
    holder, store = await open_store(), await open_store(settings=Settings(store_timeout=timedelta(seconds=60)))
    held, let_go = threading.Event(), threading.Event()

    def hold(_: Session, __: None) -> None:
        held.set()
        let_go.wait(10)

    holding = holder._write(each(hold), None)
    await asyncio.to_thread(held.wait, 10)
    call = asyncio.ensure_future(store.start([a_run()]))
    await asyncio.sleep(0.01)

    async with asyncio.timeout(5):
        await store.close()

    with pytest.raises(StoreUnavailable):
        await call
    let_go.set()
    await holding
