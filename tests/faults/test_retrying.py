"""Workers killed and frozen, and connections cut, between and in the executions of a step that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise, product
from typing import TypeVar

import pytest

from kagzi import Kagzi, WorkflowHandle
from tests.faults.applications import application
from tests.faults.database import query
from tests.faults.failing import ANSWER, Persist, Trouble, register_persist, register_resume
from tests.faults.fleet import Fleet
from tests.faults.ledger import Execution, Ledger
from tests.faults.pausing import pause_holding_no_lock
from tests.faults.polling import until
from tests.faults.proxy import CUTS, Moment, Proxy
from tests.faults.statements import Verb

QUICK = {"KAGZI_LEASE": "1", "KAGZI_HEARTBEAT_INTERVAL": "0.25"}
DEADLINE_S = 30.0
CALL = "0/call#1"

R = TypeVar("R")


def calls(ledger: Ledger, *, of: WorkflowHandle[str] | None = None) -> list[Execution]:
    """The executions of the steps that have trouble."""
    every = [each for each in ledger.read() if each.step_id == CALL]
    return every if of is None else [each for each in every if each.run_id == of.run_id]


def noted(url: str) -> list[tuple[str, int, int]]:
    """Which executions of the step are noted as failed, and how often: (run_id, attempt, rows)."""
    return query(
        url,
        "SELECT CAST(run_id AS text), attempt, count(*) FROM step_attempts WHERE step_id = '0/call#1' "
        "GROUP BY run_id, attempt ORDER BY 1, 2",
    )


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.parametrize("park_after", ["60", "0"], ids=["in memory", "parked"])
async def test_a_worker_killed_between_two_executions_of_a_step_forgets_none(fleet: Fleet, park_after: str) -> None:
    """P8, P21: the next worker knows how many there were, and waits as long as it must."""
    async with Kagzi(fleet.url) as kagzi:
        persist = register_persist(kagzi, fleet.ledger)
        (first,) = fleet.start(1, KAGZI_PARK_AFTER=park_after, **QUICK)
        handle = await persist.start(Trouble(failures=3, wait_s=1.5))
        await until(lambda: len(noted(fleet.url)) == 1, "the first execution is noted as failed")
        fleet.kill(first)
        (second,) = fleet.start(1, KAGZI_PARK_AFTER=park_after, **QUICK)
        await until(lambda: len(noted(fleet.url)) == 2, "the second execution is noted as failed")
        fleet.kill(second)
        (third,) = fleet.start(1, KAGZI_PARK_AFTER=park_after, **QUICK)

        result = await handle.result(timeout=DEADLINE_S)
        run, steps = await handle.describe(), await handle.history()

    executions = calls(fleet.ledger)
    assert result == ANSWER
    assert [each.attempt for each in executions] == [1, 2, 3, 4]
    assert [each.pid for each in executions] == [first, second, third, third]
    assert min(later.at - before.at for before, later in pairwise(executions)) >= 1.5
    assert [(step.name, step.attempts) for step in steps] == [("first", 1), ("call", 4), ("last", 1)]
    assert [failed.attempt for failed in steps[1].failed_attempts] == [1, 2, 3]
    assert run.attempts == 1
    assert run.crashes <= 2  # none where it was parked by then
    assert fleet.errors() == []


@pytest.mark.timeout(90)
async def test_an_execution_in_which_the_worker_is_killed_is_made_again_and_uses_none(fleet: Fleet) -> None:
    """P10, P21."""
    async with Kagzi(fleet.url) as kagzi:
        persist = register_persist(kagzi, fleet.ledger)
        (first,) = fleet.start(1, **QUICK)
        handle = await persist.start(Trouble(failures=4, wait_s=0, hangs_at=3))
        await until(lambda: len(calls(fleet.ledger)) == 3, "the third execution has begun")
        await until(lambda: _is_shown_executing(fleet.url), "a heartbeat has shown it")
        fleet.kill(first)
        fleet.start(1, **QUICK)

        result = await handle.result(timeout=DEADLINE_S)
        run, steps = await handle.describe(), await handle.history()

    assert result == ANSWER
    assert [each.attempt for each in calls(fleet.ledger)] == [1, 2, 3, 3, 4, 5]
    assert [attempt for _, attempt, rows in noted(fleet.url) if rows == 1] == [1, 2, 3, 4]
    assert (steps[1].attempts, run.attempts, run.crashes) == (5, 1, 1)
    assert fleet.errors() == []


def _is_shown_executing(url: str) -> bool:
    return query(url, "SELECT attempts FROM step_runs WHERE status = 'RUNNING'") == [(3,)]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("wakes", ["before", "after"])
async def test_a_worker_that_stood_still_in_a_wait_for_longer_than_its_lease_executes_nothing(
    fleet: Fleet, wakes: str
) -> None:
    """P5, P6, P9: it goes on before, or after, another worker has made the execution that it waited for."""
    async with Kagzi(fleet.url) as kagzi:
        persist = register_persist(kagzi, fleet.ledger)
        (sleeper,) = fleet.start(1, KAGZI_PARK_AFTER="60", **QUICK)
        wait_s = 12 if wakes == "before" else 3
        handles = await kagzi.start_many(persist, [Trouble(failures=1, wait_s=wait_s)] * 10)
        await until(lambda: len(noted(fleet.url)) == 10, "all have failed once")

        await pause_holding_no_lock(fleet, sleeper)
        (other,) = fleet.start(1, KAGZI_PARK_AFTER="60", **QUICK)
        if wakes == "before":
            await until(lambda: len(_owned_by(fleet.url, other)) == 10, "the other worker has them")
        else:
            await asyncio.gather(*[handle.result(timeout=DEADLINE_S) for handle in handles])
        fleet.go_on(sleeper)
        await until(lambda: sleeper in fleet.declared_dead(), "it sees that it was declared dead")
        results = await asyncio.gather(*[handle.result(timeout=DEADLINE_S) for handle in handles])

    executions = calls(fleet.ledger)
    assert results == [ANSWER] * 10
    assert sorted((each.attempt, each.pid) for each in executions) == sorted([(1, sleeper), (2, other)] * 10)
    assert [(attempt, rows) for _, attempt, rows in noted(fleet.url)] == [(1, 1)] * 10
    assert fleet.errors() == []


def _owned_by(url: str, pid: int) -> list[object]:
    rows = query(
        url,
        "SELECT w.pid, r.run_id FROM workflow_runs AS r JOIN workers AS w ON w.key = r.worker_key "
        "WHERE r.status = 'RUNNING'",
    )
    return [run_id for owner, run_id in rows if owner == pid]


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(120)
async def test_a_failure_whose_commit_is_cut_off_is_noted_once_and_its_execution_not_repeated(
    newest_postgres_url: str, ledger: Ledger
) -> None:
    """P4, P10, P21."""

    async def start(kagzi: Kagzi, count: int) -> list[WorkflowHandle[str]]:
        persist: Persist = register_persist(kagzi, ledger)
        return await kagzi.start_many(persist, [Trouble(failures=2, wait_s=0.01)] * count)

    results = await _cut(newest_postgres_url, ledger, Verb.FAILURE, start)

    assert results == {ANSWER}
    rows = noted(newest_postgres_url)
    assert [(attempt, count) for _, attempt, count in rows] == [(1, 1), (2, 1)] * (len(rows) // 2)
    assert query(newest_postgres_url, "SELECT DISTINCT attempts, crashes FROM workflow_runs") == [(1, 0)]


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(120)
async def test_an_attempt_of_a_run_whose_commit_is_cut_off_is_counted_once(
    newest_postgres_url: str, ledger: Ledger
) -> None:
    """P4, P10, P21."""

    async def start(kagzi: Kagzi, count: int) -> list[WorkflowHandle[int]]:
        return await kagzi.start_many(register_resume(kagzi, ledger), [Trouble(failures=2)] * count)

    results = await _cut(newest_postgres_url, ledger, Verb.REOPENING, start)

    assert results == {3}
    assert query(newest_postgres_url, "SELECT DISTINCT attempts, crashes FROM workflow_runs") == [(3, 0)]


async def _cut(
    url: str, ledger: Ledger, verb: Verb, start: Callable[[Kagzi, int], Awaitable[list[WorkflowHandle[R]]]]
) -> set[R]:
    """Have a worker's connection cut at statements of a verb; gives the results. Nothing may be executed twice."""
    results: set[R] = set()
    async with (
        Proxy(url) as proxy,
        application(url, ledger) as (kagzi, _),
        application(proxy.url, ledger) as (distant, _),
    ):
        for register in (register_persist, register_resume):
            register(distant, ledger)
        async with distant.create_worker():
            for moment, count in product((*CUTS, Moment.HELD), (1, 20)):
                cut = proxy.order(verb, moment)
                handles = await start(kagzi, count)
                results.update(await asyncio.gather(*[handle.result(timeout=DEADLINE_S) for handle in handles]))
                async with asyncio.timeout(DEADLINE_S):
                    await cut.happened.wait()
    executions = [(each.run_id, each.step_id, each.attempt) for each in ledger.read()]
    assert len(set(executions)) == len(executions), "an execution was made twice"
    return results
