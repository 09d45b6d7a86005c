"""Notifications: sent where somebody wants them and only there, heard again after every interruption."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from kagzi.ids import new_id
from kagzi.model.change import Change, Transition
from kagzi.model.event import Awaiting, EventWait, NewEvent
from kagzi.model.message import NewMessage
from kagzi.model.run import MessageKind, RunId, RunStatus
from kagzi.model.worker import RecoveryPolicy
from kagzi.settings import Settings
from kagzi.store.postgres.store import PostgresStore
from kagzi.store.protocol import Hint
from tests.postgres.builders import NAMESPACE, a_request, a_run, a_worker
from tests.servers import PostgresServer


class Heard:
    """What arrived on the channel, by a connection of our own: what was sent before a flush has arrived after it."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._payloads: asyncio.Queue[str] = asyncio.Queue()

    async def listen(self) -> None:
        await self._connection.add_listener("kagzi", lambda *message: self._payloads.put_nowait(str(message[3])))

    async def take(self) -> list[str]:
        """What was sent until now: notifications arrive in the order of their commits."""
        await self._connection.execute("NOTIFY kagzi, 'flush'")
        heard = []
        async with asyncio.timeout(10):
            while (payload := await self._payloads.get()) != "flush":
                heard.append(payload)
        return heard


@pytest.fixture
async def heard(store: PostgresStore, postgres_url: str) -> AsyncIterator[Heard]:
    connection = await asyncpg.connect(postgres_url)
    heard = Heard(connection)
    await heard.listen()
    yield heard
    await connection.close()


async def test_a_start_is_announced_where_a_worker_is_idle(store: PostgresStore, heard: Heard) -> None:
    worker = await a_worker(store)
    await store.start([a_run()])
    before = await heard.take()

    await store.claim(a_request(worker, slots=5))
    await store.start([a_run(), a_run(), a_run()])
    await store.start([a_run()])

    assert before == []
    assert await heard.take() == ["due", "due"]


async def test_a_worker_whose_slots_were_all_filled_wants_no_announcements(store: PostgresStore, heard: Heard) -> None:
    worker = await a_worker(store)
    await store.claim(a_request(worker))
    await store.start([a_run(), a_run()])
    await heard.take()

    await store.claim(a_request(worker, slots=2))
    await store.start([a_run()])

    assert await heard.take() == []


async def test_an_order_to_drain_is_announced_once_and_only_where_somebody_lives_to_hear_it(
    store: PostgresStore, heard: Heard
) -> None:
    gone, living, other = [await a_worker(store) for _ in range(3)]
    await store.leave(gone)

    await store.ask_drain(NAMESPACE, [gone])
    before = await heard.take()
    await store.ask_drain(NAMESPACE, [living, other, gone])

    assert before == []
    assert await heard.take() == ["drain"]


async def test_a_worker_that_left_wants_no_announcements(store: PostgresStore, heard: Heard) -> None:
    worker = await a_worker(store)
    await store.claim(a_request(worker))
    await store.leave(worker)
    await store.start([a_run()])
    assert await heard.take() == []


async def test_a_start_for_later_is_not_announced(store: PostgresStore, heard: Heard) -> None:
    await store.claim(a_request(await a_worker(store)))
    await store.start([a_run(delay_s=60)])
    await store.start([a_run(delay_s=60), a_run(delay_s=60)])
    assert await heard.take() == []


async def test_a_due_run_is_announced_again_when_somebody_comes_to_await_it(store: PostgresStore, heard: Heard) -> None:
    # To note who awaits it locks the run's row, and a claim at that moment passes it over and hears nothing more.
    await store.claim(a_request(await a_worker(store)))
    due, later = a_run(), a_run(delay_s=60)
    await store.start([due, later])
    await heard.take()

    await store.outcomes([due.run_id, later.run_id])
    first = await heard.take()
    await store.outcomes([due.run_id, later.run_id])

    assert first == ["due"]
    assert await heard.take() == []


async def test_a_due_run_is_announced_again_when_it_gets_a_message(store: PostgresStore, heard: Heard) -> None:
    # Its row is locked meanwhile, and a claim at that moment passes it over and hears nothing more.
    await store.claim(a_request(await a_worker(store)))
    due, later = a_run(), a_run(delay_s=60)
    await store.start([due, later])
    await heard.take()

    await store.post([a_message(due.run_id)])
    first = await heard.take()
    await store.post([a_message(later.run_id)])

    assert first == ["due"]
    assert await heard.take() == []


async def test_a_due_run_is_announced_again_when_it_gets_an_event(store: PostgresStore, heard: Heard) -> None:
    worker = await a_worker(store)
    await store.start([run := a_run(owner=worker)])
    await store.await_events([Awaiting(run_id=run.run_id, fence=1, waits=(EventWait(step_id="e", name="paid"),))])
    await store.claim(a_request(worker))
    await store.commit([Change(run_id=run.run_id, fence=1, transition=Transition(status=RunStatus.PENDING))])
    await heard.take()

    paid = NewEvent(event_id=new_id(), namespace=NAMESPACE, name="paid", payload="1", call="[1]")
    await store.emit([paid])
    await heard.take()
    await store.distribute([paid.event_id], limit=10)

    assert await heard.take() == ["due"]


async def test_a_run_can_be_started_so_that_its_end_is_announced(store: PostgresStore, heard: Heard) -> None:
    worker = await a_worker(store)
    alone, *several = [a_run(awaited=True), a_run(awaited=True), a_run(awaited=False)]
    await store.start([alone])
    await store.start(several)
    await store.claim(a_request(worker))

    announced = []
    for run in (alone, *several):
        await store.commit([_end(run.run_id)])
        announced.append(await heard.take())

    assert announced == [["ended"], ["ended"], []]


async def test_an_end_is_announced_where_somebody_awaits_it(store: PostgresStore, heard: Heard) -> None:
    worker = await a_worker(store)
    awaited, ignored = a_run(owner=worker), a_run(owner=worker)
    await store.start([awaited, ignored])
    await store.outcomes([awaited.run_id])

    await store.commit([_end(ignored.run_id)])
    nobody = await heard.take()
    await store.commit([_end(awaited.run_id)])

    assert nobody == []
    assert await heard.take() == ["ended"]


async def test_a_batch_is_announced_once(store: PostgresStore, heard: Heard) -> None:
    worker = await a_worker(store)
    runs = [a_run(owner=worker) for _ in range(5)]
    await store.start(runs)
    await store.outcomes([run.run_id for run in runs])
    await store.claim(a_request(worker))

    back = [Change(run_id=run.run_id, fence=1, transition=Transition(status=RunStatus.PENDING)) for run in runs[3:]]
    await store.commit([_end(run.run_id) for run in runs[:3]] + back)

    assert sorted(await heard.take()) == ["due", "ended"]


async def test_a_run_given_back_is_announced(store: PostgresStore, heard: Heard) -> None:
    worker = await a_worker(store)
    await store.start([run := a_run(owner=worker)])
    await store.claim(a_request(worker))
    await store.commit([Change(run_id=run.run_id, fence=1, transition=Transition(status=RunStatus.PENDING))])
    assert await heard.take() == ["due"]


async def test_recovered_runs_are_announced(store: PostgresStore, heard: Heard) -> None:
    gone, idle = await a_worker(store), await a_worker(store)
    await store.start([a_run(owner=gone)])
    await store.claim(a_request(idle))
    await store.leave(gone)
    await store.recover(NAMESPACE, RecoveryPolicy(poison_after=5, poison_error="{}"))
    assert await heard.take() == ["due"]


async def test_an_idle_worker_that_looks_again_writes_nothing(store: PostgresStore, postgres_url: str) -> None:
    worker = await a_worker(store)
    await store.claim(a_request(worker))
    connection = await asyncpg.connect(postgres_url)
    before = await connection.fetchval("SELECT xmin::text FROM kagzi.workers")
    for _ in range(5):
        await store.claim(a_request(worker))
    assert await connection.fetchval("SELECT xmin::text FROM kagzi.workers") == before
    await connection.close()


async def test_a_listener_hears_every_hint_on_connecting_and_again_after_every_interruption(
    own_postgres_server: PostgresServer,
) -> None:
    own_postgres_server.start()
    store = PostgresStore(own_postgres_server.create_database(), Settings())
    await store.migrate()
    hints: asyncio.Queue[Hint] = asyncio.Queue()
    deaf = store.listen(hints.put_nowait)
    async with asyncio.timeout(30):
        first = {await hints.get() for _ in Hint}
        own_postgres_server.restart()
        again = {await hints.get() for _ in Hint}
        worker = await a_worker(store)
        await store.claim(a_request(worker))
        await store.start([a_run()])
        heard = await hints.get()
    deaf()
    await store.close()

    assert first == again == set(Hint)
    assert heard is Hint.RUNS_DUE


async def test_a_listener_that_left_hears_nothing(store: PostgresStore) -> None:
    hints: asyncio.Queue[Hint] = asyncio.Queue()
    silent: list[Hint] = []
    store.listen(silent.append)()
    store.listen(hints.put_nowait)
    async with asyncio.timeout(timedelta(seconds=10).total_seconds()):
        await hints.get()
    assert silent == []


def _end(run_id: RunId) -> Change:
    return Change(run_id=run_id, fence=1, transition=Transition(status=RunStatus.COMPLETED, output="1"))


def a_message(run_id: RunId) -> NewMessage:
    return NewMessage(namespace=NAMESPACE, kind=MessageKind.SIGNAL, name="paid", run_id=run_id, payload="1")
