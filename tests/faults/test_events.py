"""Events while workers and those who emit are killed: whoever waits gets each, and it is handled once."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter

import pytest

from kagzi import Kagzi
from tests.faults import ROUNDS
from tests.faults.fleet import ROOT, Fleet
from tests.faults.workflows import NEWS, register_catch, register_follow, register_handle_news

DEADLINE_S = 60.0
READERS = 8
NEWS_COUNT = 40
CATCHES = 1000


@pytest.mark.slow
@pytest.mark.timeout(60 + 90 * ROUNDS)
async def test_who_looks_back_gets_every_event_once_and_in_order_whoever_is_killed(fleet: Fleet) -> None:
    """P14, P19: waits are given up again and again, too, at the moment when the event comes."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    async with Kagzi(fleet.url) as kagzi:
        follow = register_follow(kagzi)
        handles = await kagzi.start_many(follow, [(NEWS_COUNT, chance.uniform(0.05, 0.4)) for _ in range(READERS)])
        fleet.start(3, KAGZI_PARK_AFTER="0.02")

        async with asyncio.timeout(DEADLINE_S * ROUNDS):
            emitting = asyncio.ensure_future(emit_all(kagzi, chance))
            for _ in range(6):
                await asyncio.wait({emitting}, timeout=chance.uniform(0.2, 1.0))
                fleet.replace_one(chance)
            await emitting
            results = await asyncio.gather(*(handle.result() for handle in handles))

    assert results == [list(range(NEWS_COUNT))] * READERS, f"seed {seed}"
    assert fleet.errors() == []


async def emit_all(kagzi: Kagzi, chance: random.Random) -> None:
    for number in range(NEWS_COUNT):
        await kagzi.emit(NEWS, number, key="news")
        await asyncio.sleep(chance.choice([0, 0, 0.01, 0.1, 0.3]))


@pytest.mark.slow
@pytest.mark.timeout(60 + 90 * ROUNDS)
async def test_a_wait_against_an_event_never_loses_it(fleet: Fleet) -> None:
    """P20: a thousand times each wait begins when its event comes, in another process."""
    chance = random.Random(random.randrange(2**32))
    async with Kagzi(fleet.url) as kagzi:
        catch = register_catch(kagzi)
        fleet.start(2, KAGZI_PARK_AFTER="0")

        async def meet(number: int) -> int:
            key = str(number)
            starting = asyncio.ensure_future(catch.start(key))
            await asyncio.sleep(chance.uniform(0, 0.03))
            await kagzi.emit(NEWS, number, key=key)
            return await (await starting).result()

        async with asyncio.timeout(DEADLINE_S * ROUNDS):
            for first in range(0, CATCHES * ROUNDS, 50):
                numbers = range(first, first + 50)
                assert await asyncio.gather(*map(meet, numbers)) == list(numbers)
    assert fleet.errors() == []


@pytest.mark.slow
@pytest.mark.timeout(60 + 90 * ROUNDS)
async def test_each_event_is_handled_once_though_emitters_and_workers_are_killed(fleet: Fleet) -> None:
    """P4, P14: two processes emit the same events at the same time, and are killed somewhere in the middle."""
    chance = random.Random(random.randrange(2**32))
    async with Kagzi(fleet.url) as kagzi:
        register_handle_news(kagzi)
        await kagzi.emit(NEWS, 0, dedup_key="0")  # from here on it is known who handles them
        fleet.start(2)
        emitters = [emitter(fleet.url) for _ in range(2)]

        async with asyncio.timeout(DEADLINE_S * ROUNDS):
            while len(await kagzi.find_runs(workflow="handle-news")) < 20:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
            for _ in range(4):
                await asyncio.sleep(chance.uniform(0.3, 0.8))
                fleet.replace_one(chance)
            for each in emitters:
                each.kill()
                each.wait()
            stored = await kagzi.store_in_use().pending_events(kagzi.settings.namespace, limit=1)
            while stored:
                await asyncio.sleep(0.05)
                stored = await kagzi.store_in_use().pending_events(kagzi.settings.namespace, limit=1)
            handled: list[int] = []
            cursor = None
            while page := await kagzi.find_runs(workflow="handle-news", cursor=cursor, limit=500):
                handled += await asyncio.gather(*(kagzi.handle(run.run_id).result() for run in page))
                cursor = page[-1].run_id

    counts = Counter(handled)
    assert sorted(counts) == list(range(len(counts))), "each is emitted after the one before"
    assert set(counts.values()) == {1}
    assert fleet.errors() == []


def emitter(url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.faults.emitter_program", url], cwd=ROOT)
