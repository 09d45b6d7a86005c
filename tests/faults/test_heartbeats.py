"""What a long step told, after its worker was killed."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from kagzi import Kagzi
from tests.faults import ROUNDS
from tests.faults.crawling import BEGAN, TOLD, Site, register_crawl
from tests.faults.fleet import Fleet

QUICKER = {"KAGZI_LEASE": "1", "KAGZI_HEARTBEAT_INTERVAL": "0.25", "KAGZI_POLL_INTERVAL": "0.1"}
DURABLE_WITHIN_S = 2.0  # a second, on a machine that is not as busy as this


@pytest.mark.slow
@pytest.mark.timeout(120 + 60 * ROUNDS)
@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_what_was_told_a_second_before_a_kill_is_known_to_the_next_execution(fleet: Fleet, kind: str) -> None:
    chance = random.Random(seed := random.randrange(2**32))
    site, killed_at = Site(kind=kind, pages=300), list[float]()
    async with Kagzi(fleet.url) as kagzi:
        index = register_crawl(kagzi, fleet.ledger)
        fleet.start(1, **QUICKER)
        result = asyncio.ensure_future((await index.start(site)).result(timeout=100 * ROUNDS))
        for _ in range(4 * ROUNDS):
            began = len(fleet.ledger.read())
            while len(fleet.ledger.read()) == began and not result.done():  # noqa: ASYNC110 - another process writes
                await asyncio.sleep(0.02)
            await asyncio.wait({result}, timeout=chance.uniform(0.2, 2.5))
            if result.done():
                break
            killed_at.append(time.monotonic())
            fleet.kill(fleet.pids[0])
            fleet.start(1, **QUICKER)
        assert await result == site.pages

    begun = 0
    for place, each in enumerate(ledger := fleet.ledger.read()):
        if each.before == BEGAN and place:
            death = max(moment for moment in killed_at if moment < each.at)
            told = [int(other.token) for other in ledger[:place] if other.before == TOLD]
            # Of the execution before alone: what it did not know of the one before that, it has gone through again.
            killed = [other for other in ledger[:place] if other.pid == ledger[place - 1].pid]
            known = [other for other in killed if other.before == BEGAN or other.at < death - DURABLE_WITHIN_S]
            least = max(int(other.token) for other in known)
            assert least <= int(each.token) <= max(told, default=0), f"seed {seed}: {each}"
            begun += 1
    assert begun >= 1
    assert len(ledger) < 2 * site.pages, "each execution began afresh"
