"""Connections cut just before and just after a commit, and while it is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import product

import pytest

from kagzi import OutcomeUnknown, StoreUnavailable, WorkflowHandle
from tests.faults.applications import application
from tests.faults.database import query
from tests.faults.ledger import Ledger
from tests.faults.proxy import CUTS, Cut, Moment, Proxy
from tests.faults.statements import Verb
from tests.faults.workflows import STEPS, Pace, step_id

pytestmark = pytest.mark.postgres

DEADLINE_S = 15.0
PACE = Pace(work_s=0.01, nap_s=0.12)
VERBS = [Verb.CLAIM, Verb.HISTORY, Verb.CHECKPOINT, Verb.PARK, Verb.COMPLETION, Verb.HEARTBEAT]


@pytest.fixture
async def proxy(newest_postgres_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(newest_postgres_url) as proxy:
        yield proxy


@pytest.mark.parametrize("verb", VERBS)
async def test_a_worker_whose_connection_is_cut_executes_every_step_once(
    newest_postgres_url: str, proxy: Proxy, ledger: Ledger, verb: Verb
) -> None:
    """P4, P13, P14: whatever statement of a worker's is lost, no run is lost, stranded or executed twice."""
    async with (
        application(newest_postgres_url, ledger) as (kagzi, chain),
        application(proxy.url, ledger) as (distant, _),
        distant.create_worker(),
    ):
        for moment, count in product(CUTS, (1, 20)):  # one change alone has a statement of its own
            cut = proxy.order(verb, moment)
            handles = await kagzi.start_many(chain, [PACE] * count)
            await _check_executed_once(ledger, handles, cut)
    assert query(newest_postgres_url, "SELECT DISTINCT status, crashes FROM workflow_runs") == [("COMPLETED", 0)]
    assert query(newest_postgres_url, "SELECT state FROM workers") == [("STOPPED",)]


async def _check_executed_once(ledger: Ledger, handles: Sequence[WorkflowHandle[list[str]]], cut: Cut) -> None:
    async with asyncio.timeout(DEADLINE_S):
        results = await asyncio.gather(*[handle.result() for handle in handles])
        await cut.happened.wait()
    executions = {(each.run_id, each.step_id): each.token for each in ledger.read()}
    assert len(executions) == len(ledger.read()), f"a step was executed twice: {cut}"
    for handle, tokens in zip(handles, results, strict=True):
        assert [executions[handle.run_id, step_id(place)] for place in range(1, STEPS + 1)] == tokens


@pytest.mark.parametrize("eager", [True, False], ids=["eager", "plain"])
async def test_a_start_whose_connection_is_cut_makes_one_run(
    newest_postgres_url: str, proxy: Proxy, ledger: Ledger, eager: bool
) -> None:
    """P1, P2, P4: the caller gets a handle on the one run, which is executed once."""
    async with (
        application(proxy.url, ledger) as (kagzi, chain),
        application(newest_postgres_url, ledger) as (other, _),
        (kagzi if eager else other).create_worker(),
    ):
        starts: dict[str, Callable[[], Awaitable[Sequence[WorkflowHandle[list[str]]]]]] = {
            "alone": lambda: asyncio.gather(chain.start(PACE)),
            "with an id": lambda: asyncio.gather(chain.options(id=f"order-{moment.name}").start(PACE)),
            "many": lambda: kagzi.start_many(chain, [PACE] * 10),
        }
        expected = 0
        for moment, start in product(CUTS, starts.values()):
            cut = proxy.order(Verb.START, moment)
            handles = await start()
            expected += len(handles)
            stored = query(newest_postgres_url, "SELECT CAST(run_id AS text) FROM workflow_runs")
            assert {handle.run_id for handle in handles} <= {run_id for (run_id,) in stored}
            assert len(stored) == expected
            await _check_executed_once(ledger, handles, cut)
    counts = query(newest_postgres_url, "SELECT status, count(*) FROM workflow_runs GROUP BY 1")
    assert counts == [("COMPLETED", expected)]


async def test_a_start_that_is_refused_left_nothing_and_an_unknown_one_can_be_started_again(
    newest_postgres_url: str, proxy: Proxy, ledger: Ledger
) -> None:
    """P4: StoreUnavailable means that nothing was and nothing will be written."""
    async with application(proxy.url, ledger, KAGZI_STORE_TIMEOUT="0.6") as (_, chain):
        await chain.start(PACE)  # the default version is known for a second from here on
        proxy.refusing = True
        proxy.cut_all()

        answers = await asyncio.gather(
            *[chain.options(id=f"order-{number}").start(PACE) for number in range(20)], return_exceptions=True
        )
        proxy.refusing = False
        again = [await chain.options(id=f"order-{number}").start(PACE) for number in range(20, 40)]

        stored = {row[0] for row in query(newest_postgres_url, "SELECT id FROM workflow_runs WHERE id IS NOT NULL")}
        refused = {f"order-{n}" for n, answer in enumerate(answers) if isinstance(answer, StoreUnavailable)}
        unknown = {f"order-{n}" for n, answer in enumerate(answers) if isinstance(answer, OutcomeUnknown)}
        assert len(again) == 20
        assert len(refused) + len(unknown) == 20, answers
        assert not refused & stored
        for name in refused | unknown:
            await chain.options(id=name).start(PACE)
    assert query(newest_postgres_url, "SELECT count(*) FROM workflow_runs") == [(41,)]


async def test_a_run_that_falls_due_before_its_park_is_answered_goes_on_without_waiting_for_a_heartbeat(
    newest_postgres_url: str, proxy: Proxy, ledger: Ledger
) -> None:
    """P14: its own worker may claim it again while it still holds the old execution in memory."""
    async with (
        application(proxy.url, ledger, KAGZI_LEASE="60", KAGZI_HEARTBEAT_INTERVAL="20") as (kagzi, chain),
        kagzi.create_worker(),
    ):
        cut = proxy.order(Verb.PARK, Moment.HELD)
        handle = await chain.start(PACE)
        assert len(await handle.result(timeout=5)) == STEPS
        assert cut.happened.is_set()
