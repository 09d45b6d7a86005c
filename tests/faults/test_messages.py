"""Messages while workers are killed and connections are cut: what was acknowledged is received once, or listed."""

from __future__ import annotations

import asyncio
import random

import pytest

from kagzi import Kagzi, RunClosed, Settings, WorkflowHandle
from tests.faults import ROUNDS
from tests.faults.fleet import Fleet
from tests.faults.proxy import CUTS, Proxy
from tests.faults.statements import Verb
from tests.faults.workflows import DOUBLE, NUMBER, register_answer, register_listen

RUNS = 40
DEADLINE_S = 60.0


async def _send_until_closed(handle: WorkflowHandle[list[int]], chance: random.Random) -> int:
    """Send 0, 1, 2, ... until the run has ended; how many were acknowledged."""
    sent = 0
    while True:
        try:
            await handle.signal(NUMBER, sent)
        except RunClosed:
            return sent
        sent += 1
        await asyncio.sleep(chance.choice([0, 0, 0.01, 0.1]))


@pytest.mark.slow
@pytest.mark.timeout(60 + 90 * ROUNDS)
async def test_signals_against_timeouts_and_endings_are_received_once_or_listed(fleet: Fleet) -> None:
    """P19, P20: senders go on until the run is closed, whose time runs out meanwhile, and its workers are killed."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    async with Kagzi(fleet.url) as kagzi:
        listen = register_listen(kagzi)
        handles = await kagzi.start_many(listen, [chance.uniform(0.3, 3) for _ in range(RUNS * ROUNDS)])
        fleet.start(3, KAGZI_PARK_AFTER="0.05")

        async with asyncio.timeout(DEADLINE_S * ROUNDS):
            sending = asyncio.gather(*(_send_until_closed(handle, chance) for handle in handles))
            for _ in range(6 * ROUNDS):
                await asyncio.wait({sending}, timeout=chance.uniform(0.2, 1.0))
                fleet.replace_one(chance)
            acknowledged = await sending
            results = await asyncio.gather(*(handle.result() for handle in handles))

        for handle, sent, numbers in zip(handles, acknowledged, results, strict=True):
            left = [each.value for each in (await handle.describe()).undelivered]
            assert [*numbers, *left] == list(range(sent)), f"seed {seed}, run {handle.run_id}"
            assert await handle.value("count") in (len(numbers), len(numbers) - 1, None)
    assert fleet.errors() == []


@pytest.mark.slow
@pytest.mark.timeout(60 + 90 * ROUNDS)
async def test_updates_are_answered_once_however_often_workers_are_killed(fleet: Fleet) -> None:
    """P14, P19."""
    chance = random.Random(random.randrange(2**32))
    async with Kagzi(fleet.url) as kagzi:
        handle = await register_answer(kagzi).start(60)
        fleet.start(2, KAGZI_PARK_AFTER="0.05")

        async with asyncio.timeout(DEADLINE_S * ROUNDS):
            asking = asyncio.gather(*(handle.update(DOUBLE, number) for number in range(60)))
            for _ in range(3):
                await asyncio.wait({asking}, timeout=chance.uniform(0.1, 0.5))
                fleet.replace_one(chance)
            answers = await asking

        assert answers == [2 * number for number in range(60)]
        assert await handle.result(timeout=DEADLINE_S) == sum(range(60))
    assert fleet.errors() == []


@pytest.mark.postgres
async def test_a_signal_whose_connection_is_cut_is_posted_once(newest_postgres_url: str) -> None:
    """P4, P19."""
    async with (
        Proxy(newest_postgres_url) as proxy,
        Kagzi(settings=Settings(database_url=proxy.url)) as kagzi,
    ):
        handle = await register_listen(kagzi).start(60)
        for number, moment in enumerate(CUTS):
            cut = proxy.order(Verb.POST, moment)
            async with asyncio.timeout(DEADLINE_S):
                await handle.signal(NUMBER, number)
                await cut.happened.wait()

        assert [each.value for each in (await handle.describe()).undelivered] == list(range(len(CUTS)))
