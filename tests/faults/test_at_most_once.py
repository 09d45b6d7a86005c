"""Steps that are executed at most once, while workers are killed, frozen and cut off at every moment of theirs."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import ExitStack, closing
from itertools import product
from pathlib import Path

import apsw
import psycopg
import pytest

from kagzi import Kagzi
from tests.faults import ROUNDS
from tests.faults.applications import application
from tests.faults.buying import CHARGE, INTERRUPTED, KINDS, Purchase, register_buy
from tests.faults.database import SQLITE, query
from tests.faults.fleet import Fleet
from tests.faults.ledger import Ledger
from tests.faults.pausing import pause_holding_no_lock
from tests.faults.polling import until
from tests.faults.proxy import CUTS, Proxy
from tests.faults.statements import Verb

RUNS = 120
QUICKER = {"KAGZI_LEASE": "1", "KAGZI_HEARTBEAT_INTERVAL": "0.25", "KAGZI_POLL_INTERVAL": "0.1"}


def is_marked(url: str) -> bool:
    """Whether there is a charge that was begun and has no outcome."""
    return query(url, "SELECT count(*) FROM step_runs WHERE in_doubt AND seq IS NULL") != [(0,)]


def calls(ledger: Ledger) -> Counter[str]:
    """How often each run has charged."""
    assert {each.step_id for each in ledger.read()} <= {CHARGE}
    return Counter(each.run_id for each in ledger.read())


@pytest.mark.parametrize("reconciles", [True, False], ids=["reconciled", "interrupted"])
async def test_a_worker_that_is_killed_between_mark_and_call(fleet: Fleet, tmp_path: Path, reconciles: bool) -> None:
    """P4: nobody knows that it did not happen, but for a reconcile: then it is executed, once."""
    gate = tmp_path / "gate"
    async with Kagzi(fleet.url) as kagzi:
        buy = register_buy(kagzi, fleet.ledger)
        (first,) = fleet.start(1, **QUICKER)
        handle = await buy.start(Purchase(kind="process", reconciles=reconciles, gate=str(gate)))
        await until(lambda: is_marked(fleet.url), "the mark is durable")
        fleet.kill(first)
        before = calls(fleet.ledger)
        gate.touch()
        fleet.start(1, **QUICKER)
        result = await handle.result(timeout=30)

    assert before == {}
    assert calls(fleet.ledger) == ({handle.run_id: 1} if reconciles else {})
    assert (result == INTERRUPTED) is not reconciles


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reconciles", [True, False], ids=["reconciled", "interrupted"])
async def test_a_worker_that_is_killed_in_the_call(fleet: Fleet, tmp_path: Path, kind: str, reconciles: bool) -> None:
    async with Kagzi(fleet.url) as kagzi:
        buy = register_buy(kagzi, fleet.ledger)
        (first,) = fleet.start(1, **QUICKER)
        handle = await buy.start(Purchase(kind=kind, reconciles=reconciles, end=str(tmp_path / "never")))
        await until(lambda: calls(fleet.ledger) != {}, "the function was called")
        fleet.kill(first)
        fleet.start(1, **QUICKER)
        result = await handle.result(timeout=30)

    (execution,) = fleet.ledger.read()
    assert result == (execution.token if reconciles else INTERRUPTED)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reconciles", [True, False], ids=["reconciled", "interrupted"])
async def test_a_worker_that_is_killed_between_call_and_checkpoint(
    fleet: Fleet, tmp_path: Path, kind: str, reconciles: bool
) -> None:
    """A lock of the database keeps the checkpoint from being written.

    PostgreSQL has got it by then, and may carry it out when its worker is long dead.
    """
    end = tmp_path / "end"
    async with Kagzi(fleet.url) as kagzi:
        buy = register_buy(kagzi, fleet.ledger)
        (first,) = fleet.start(1, KAGZI_LEASE="3", KAGZI_HEARTBEAT_INTERVAL="0.5")
        handle = await buy.start(Purchase(kind=kind, reconciles=reconciles, end=str(end)))
        await until(lambda: calls(fleet.ledger) != {}, "the function was called")
        with locked(fleet.url):
            end.touch()
            await asyncio.sleep(0.5)  # the result is on its way
            fleet.kill(first)
        fleet.start(1, **QUICKER)
        result = await handle.result(timeout=30)

    (execution,) = fleet.ledger.read()
    assert result == execution.token or (result == INTERRUPTED and not reconciles)


def locked(url: str) -> ExitStack:
    """Keep everybody else from writing to runs, for the block."""
    stack = ExitStack()
    if url.startswith(SQLITE):
        file = stack.enter_context(closing(apsw.Connection(url.removeprefix(SQLITE))))
        file.set_busy_timeout(30_000)
        file.execute("BEGIN IMMEDIATE")
    else:
        server = stack.enter_context(psycopg.connect(url, options="-c search_path=kagzi"))
        server.execute("SELECT 1 FROM workflow_runs FOR UPDATE")
    return stack


@pytest.mark.parametrize("reconciles", [True, False], ids=["reconciled", "interrupted"])
async def test_a_worker_that_was_frozen_between_mark_and_call_does_not_call_when_it_wakes(
    fleet: Fleet, tmp_path: Path, reconciles: bool
) -> None:
    """P6, P9: it was declared dead meanwhile, and somebody else has found out that nothing had happened. Its process,
    which nobody has frozen, does not call either."""
    gate = tmp_path / "gate"
    async with Kagzi(fleet.url) as kagzi:
        buy = register_buy(kagzi, fleet.ledger)
        (sleeper,) = fleet.start(1, **QUICKER)
        handle = await buy.start(Purchase(kind="process", reconciles=reconciles, gate=str(gate)))
        await until(lambda: is_marked(fleet.url), "the mark is durable")
        await pause_holding_no_lock(fleet, sleeper)
        fleet.start(1, **QUICKER)
        await until(lambda: has_other_owner(fleet.url), "another worker has the run, or has ended it")
        gate.touch()
        result = await handle.result(timeout=30)
        fleet.go_on(sleeper)
        await until(lambda: sleeper in fleet.declared_dead(), "the worker sees that it was declared dead")

    assert calls(fleet.ledger) == ({handle.run_id: 1} if reconciles else {})
    assert (result == INTERRUPTED) is not reconciles


def has_other_owner(url: str) -> bool:
    return query(url, "SELECT count(*) FROM workflow_runs WHERE fence > 2 OR finished_at IS NOT NULL") != [(0,)]


@pytest.mark.slow
@pytest.mark.timeout(120 + 120 * ROUNDS)
async def test_nothing_is_ever_executed_twice_however_often_workers_are_killed(fleet: Fleet) -> None:
    """What was charged is in the ledger; reconcile asks it, so each run that ends with a token has charged once."""
    chance = random.Random(seed := random.randrange(2**32))
    async with Kagzi(fleet.url) as kagzi:
        buy = register_buy(kagzi, fleet.ledger)
        purchases = [
            Purchase(
                kind=chance.choice(["async", "async", "thread", "thread", "process"]),
                reconciles=chance.random() < 0.5,
                work_s=chance.uniform(0, 0.2),
            )
            for _ in range(RUNS * ROUNDS)
        ]
        handles = await kagzi.start_many(buy, purchases)
        fleet.start(2, KAGZI_MAX_CONCURRENT_WORKFLOWS="6", **QUICKER)
        results = asyncio.gather(*[handle.result(timeout=100 * ROUNDS) for handle in handles])
        kills = 0
        while not results.done():
            await asyncio.wait({results}, timeout=chance.uniform(0.5, 2.0))
            assert fleet.ended_by_themselves == [], fleet.logs()
            if kills < 15 * ROUNDS:
                fleet.kill(chance.choice(fleet.pids))
                fleet.start(1, KAGZI_MAX_CONCURRENT_WORKFLOWS="6", **QUICKER)
                kills += 1
        outcomes = await results

    counts, tokens = calls(fleet.ledger), {each.run_id: each.token for each in fleet.ledger.read()}
    assert max(counts.values()) == 1, f"seed {seed}"
    for handle, purchase, outcome in zip(handles, purchases, outcomes, strict=True):
        if outcome == INTERRUPTED:
            assert not purchase.reconciles
        else:
            assert outcome == tokens[handle.run_id]
    print(f"seed {seed}: {kills} kills, {outcomes.count(INTERRUPTED)} interrupted")
    assert fleet.errors() == []


@pytest.mark.postgres
@pytest.mark.parametrize("kind", KINDS)
async def test_a_mark_whose_connection_is_cut_begins_one_execution(
    newest_postgres_url: str, ledger: Ledger, kind: str
) -> None:
    """P4: before the mark, after it, and where it comes late: it is known to be ours, and the function called once."""
    async with (
        Proxy(newest_postgres_url) as proxy,
        application(newest_postgres_url, ledger) as (kagzi, _),
        application(proxy.url, ledger) as (distant, _),
    ):
        buy = register_buy(kagzi, ledger)
        register_buy(distant, ledger)
        async with distant.create_worker():
            for moment, count in product(CUTS, (1, 10)):
                cut = proxy.order(Verb.MARK, moment)
                handles = await kagzi.start_many(buy, [Purchase(kind=kind, reconciles=False)] * count)
                async with asyncio.timeout(30):
                    results = await asyncio.gather(*[handle.result() for handle in handles])
                    await cut.happened.wait()
                tokens = {each.run_id: each.token for each in ledger.read()}
                assert results == [tokens[handle.run_id] for handle in handles], cut
    assert set(calls(ledger).values()) == {1}
