"""Two who write to the same run at the same moment, each a process of its own, hundreds of times: one outcome is
recorded, and no wake-up is lost. tests/contract/test_races.py has the same meetings one by one, each made certain.

KAGZI_FAULT_ROUNDS multiplies how often they meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kagzi import Kagzi, RunClosed, WorkflowCancelled, WorkflowHandle
from tests.faults import ROUNDS
from tests.faults.fleet import Fleet
from tests.faults.workflows import NUMBER, STEPS, Pace, register_chain, register_listen, register_pair

MEETINGS = 300 * ROUNDS
AT_A_TIME = 30
PATIENCE_S = 60.0
LOOKED_FOR_S = 0.15  # by every worker: longer than the poll interval
AT_ONCE = {
    "KAGZI_LEASE": "1",
    "KAGZI_HEARTBEAT_INTERVAL": "0.3",
    "KAGZI_POLL_INTERVAL": "0.1",
    "KAGZI_PARK_AFTER": "0",  # so every wait parks, and every wake-up is a claim
}
LIMIT = pytest.mark.timeout(120 + 120 * ROUNDS)

Meeting = Callable[[], Awaitable[str]]


async def meet(fleet: Fleet, meeting: Meeting, *, kills: bool = False) -> Counter[str]:
    """Let it happen that often, some at a time, while workers may be killed; what came of it."""
    chance, seen, turns = random.Random(seed := random.randrange(2**32)), Counter[str](), asyncio.Semaphore(AT_A_TIME)

    async def one() -> None:
        async with turns:
            seen[await meeting()] += 1

    meetings = asyncio.gather(*(one() for _ in range(MEETINGS)))
    try:
        while not meetings.done():
            await asyncio.wait({meetings}, timeout=3)
            if kills and not meetings.done():
                fleet.kill(chance.choice(fleet.pids))
                fleet.start(1, **AT_ONCE)
        await meetings
    finally:
        meetings.cancel()
        print(f"seed {seed}: {dict(seen)}")
    assert fleet.ended_by_themselves == [], fleet.logs()
    assert fleet.errors() == []
    return seen


@pytest.mark.slow
@LIMIT
async def test_a_signal_and_a_timeout_and_the_end_that_follows_leave_one_outcome(fleet: Fleet) -> None:
    """P19, P20: a signal was received, or it is listed as undelivered, or its sender was told that it came too late."""
    chance = random.Random()
    async with Kagzi(fleet.url) as kagzi:
        listen = register_listen(kagzi)
        fleet.start(2, **AT_ONCE)
        await fleet.ready()

        async def meeting() -> str:
            # From well before the timeout to well after the end.
            span_s = chance.uniform(0.05, 0.15)
            handle = await listen.start(span_s)
            await asyncio.sleep(max(span_s + chance.gauss(0.02, 0.05), 0))
            try:
                await handle.signal(NUMBER, 7)
            except RunClosed:
                assert await handle.result(timeout=PATIENCE_S) == []
                assert (await handle.describe()).undelivered == ()
                return "too late"
            received = await handle.result(timeout=PATIENCE_S)
            undelivered = [each.value for each in (await handle.describe()).undelivered]
            assert [*received, *undelivered] == [7], handle.run_id
            recorded = [step.output for step in await handle.history() if step.kind == "SIGNAL"]
            assert recorded == received or (recorded, received) == ([7], [])  # in vain: it was put back
            return "received" if received else "undelivered"

        seen = await meet(fleet, meeting)
    assert seen["received"] > 0
    assert seen["too late"] > 0


@pytest.mark.slow
@LIMIT
async def test_a_cancellation_and_the_last_step_leave_one_outcome(fleet: Fleet) -> None:
    """P13, P20."""
    chance = random.Random()
    async with Kagzi(fleet.url) as kagzi:
        brief, _ = register_pair(kagzi, fleet.ledger)
        fleet.start(2, **AT_ONCE)
        await fleet.ready()

        async def meeting() -> str:
            handle = await brief.start(Pace(work_s=chance.uniform(0, 0.02)))
            await asyncio.sleep(chance.uniform(0, 0.08))
            closed = False
            try:
                await handle.cancel("race")
            except RunClosed:
                closed = True
            outcome = await the_outcome(handle)
            assert await the_outcome(handle) == outcome
            if closed:
                assert outcome == "COMPLETED"
            with contextlib.suppress(RunClosed):
                await handle.cancel("again")
            assert await the_outcome(handle) == outcome
            return f"{outcome}, {'too late' if closed else 'in time'}"

        seen = await meet(fleet, meeting, kills=True)
    assert set(seen) <= {"COMPLETED, too late", "COMPLETED, in time", "CANCELLED, in time"}
    assert len(seen) > 1


async def the_outcome(handle: WorkflowHandle[Any]) -> str:
    try:
        token = await handle.result(timeout=PATIENCE_S)
    except WorkflowCancelled as error:
        return "CANCELLED" if error.reason == "race" else f"CANCELLED by {error.reason}"
    assert [step.output for step in await handle.history() if step.kind == "STEP"] == [token]
    return "COMPLETED"


@pytest.mark.slow
@LIMIT
async def test_the_end_of_a_child_and_the_parking_of_its_parent_lose_no_wake_up(fleet: Fleet) -> None:
    """P14, P20: parent and child are mostly in different processes, and the child ends when the parent parks."""
    chance = random.Random()
    async with Kagzi(fleet.url) as kagzi:
        _, pair = register_pair(kagzi, fleet.ledger)
        fleet.start(2, **AT_ONCE)
        await fleet.ready()

        async def meeting() -> str:
            handle = await pair.start(Pace(work_s=chance.choice([0, 0, 0.002, 0.01])))
            began = time.monotonic()
            token = await handle.result(timeout=PATIENCE_S)
            (step,) = await handle.history()
            assert step.child_run_id is not None
            assert await kagzi.handle(step.child_run_id).result(timeout=PATIENCE_S) == token == step.output
            assert time.monotonic() - began < PATIENCE_S
            return "parked" if (await handle.describe()).wakeups else "in time"

        seen = await meet(fleet, meeting, kills=True)
    assert seen["parked"] > 0


@pytest.mark.slow
@LIMIT
async def test_a_pause_and_a_claim_leave_a_run_that_rests_until_it_is_resumed(fleet: Fleet) -> None:
    """P10, P14: whoever is first, nothing begins once it rests, though its workers are killed, and nothing is lost."""
    chance = random.Random()
    held: dict[str, tuple[float, float]] = {}
    async with Kagzi(fleet.url) as kagzi:
        chain = register_chain(kagzi, fleet.ledger)
        fleet.start(2, **AT_ONCE)
        await fleet.ready()

        async def meeting() -> str:
            handle = await chain.start(Pace(work_s=0.002, nap_s=0.02))
            await asyncio.sleep(chance.choice([0, 0.005, chance.uniform(0, 0.2)]))
            try:
                await handle.pause("race")
            except RunClosed:
                found = "ended before"
            else:
                async with asyncio.timeout(PATIENCE_S):
                    while (run := await handle.describe()).status == "RUNNING":  # noqa: ASYNC110 - of others' workers
                        await asyncio.sleep(0.01)
                if run.finished_at is None:
                    assert run.pause_reason == "race"
                    rests_from = time.monotonic()
                    await asyncio.sleep(LOOKED_FOR_S)
                    held[handle.run_id] = (rests_from, time.monotonic())
                    await handle.resume()
                found = (
                    "queued" if run.started_at is None else "begun" if run.finished_at is None else "ended meanwhile"
                )
            tokens = await handle.result(timeout=PATIENCE_S)
            recorded = [step.output for step in await handle.history() if step.kind == "STEP"]
            assert recorded == tokens
            assert len(tokens) == STEPS
            return found

        seen = await meet(fleet, meeting, kills=True)

    begun = [each for each in fleet.ledger.read() if each.run_id in held]
    assert [each for each in begun if held[each.run_id][0] < each.at < held[each.run_id][1]] == []
    assert seen["queued"] > 0
    assert seen["begun"] > 0
