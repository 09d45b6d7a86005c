"""Every hot statement is a handful of index lookups, whatever the planner believes about the tables."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator

import asyncpg
import pytest

from kagzi.model.run import RunFilter, RunId
from kagzi.settings import Settings
from kagzi.store.postgres import (
    cancelling,
    children,
    claim,
    commit_sql,
    events,
    forking,
    health,
    mail,
    pausing,
    reading,
    reopening,
    start,
    workers,
)
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.connections import PLANNER
from kagzi.store.postgres.store import PostgresStore
from tests.postgres.builders import NAMESPACE, a_checkpoint, a_request, a_run, a_worker

MANY = 1_000_000

NAMES = Names("kagzi")

STATEMENTS = {
    "one record": commit_sql.ONE_RECORD,
    "one receipt": commit_sql.ONE_RECEIPT,
    "one transition": commit_sql.ONE_TRANSITION,
    "records": commit_sql.RECORDS,
    "records and transitions": commit_sql.RECORDS_AND_TRANSITIONS,
    "everything": commit_sql.EVERYTHING,
    "runs there": commit_sql.RUNS_THERE,
    "records there": commit_sql.RECORDS_THERE,
    "one start": start._ONE,
    "many starts": start._MANY,
    "many starts with messages": start.MANY_RARE,
    "started by run id": start._THERE_BY_RUN_ID,
    "started by id": start._THERE_BY_ID,
    "claim": claim._EVERYWHERE,
    "claim further on": claim._FURTHER_ON,
    "histories": claim._HISTORIES,
    "reconsider": claim._RECONSIDER,
    "recall": claim._RECALL,
    "post": mail.POST,
    "counters": mail._COUNTERS,
    "cancel": cancelling.CANCEL,
    "expire": cancelling._EXPIRE,
    "reopen": reopening._REOPEN,
    "pause": pausing._PAUSE,
    "resume": pausing._RESUME,
    "fork": forking._FORK,
    "forked": forking._THERE,
    "forsaken": children._FORSAKEN,
    "unreceived": mail.UNRECEIVED,
    "answers": mail._ANSWERS,
    "value": mail._VALUE,
    "emit": events.EMIT,
    "emitted before": events.TAKEN,
    "await events": events._AWAIT,
    "look for events": events._LOOK,
    "pending events": events._PENDING,
    "distribute": events._DISTRIBUTE,
    "enroll": events._ENROLL,
    "forget events": events._FORGET,
    "renew": workers._RENEW,
    "show open steps": workers._SHOW_OPEN,
    "ask to drain": workers._ASK_DRAIN,
    "asked to drain": workers._DRAIN_ASKED,
    "owned": workers._OWNED,
    "declare dead": workers._DECLARE_DEAD,
    "recover": workers._RECOVER,
    "get": reading._GET,
    "steps": reading._STEPS,
    "open steps": reading._OPEN_STEPS,
    "attempts": reading._ATTEMPTS,
    "outcomes": reading._OUTCOMES,
    "latest": reading._LATEST,
    "existing": reading._EXISTING,
    "count open": reading._COUNT_OPEN,
    "backlog": health._BACKLOG,
    "find running": reading._FIND_RUNNING,
    "find children": reading._filtered(reading._FIND, RunFilter(namespace="", parent=RunId("")))[0],
    "find more children": reading._filtered(
        reading._FIND, RunFilter(namespace="", parent=RunId(""), cursor=RunId(""), workflow="")
    )[0],
}

# A run of its own, half of them finished, the rest asleep for long, and a step each.
FILL = f"""
INSERT INTO kagzi.workflow_runs (
    run_id, namespace, workflow, version, queue, priority, status, input, available_at, finished_at
)
SELECT gen_random_uuid(), 'tests', 'order', 1, 'default', 0,
    CASE n % 2 WHEN 0 THEN 'COMPLETED' ELSE 'SLEEPING' END, '1',
    CASE n % 2 WHEN 0 THEN NULL ELSE now() + interval '1 day' END, CASE n % 2 WHEN 0 THEN now() END
FROM generate_series(1, {MANY}) AS n;
INSERT INTO kagzi.step_runs (run_id, step_id, seq, kind, status, output, attempts)
SELECT run_id, '/s#1', 1, 'STEP', 'COMPLETED', '1', 1 FROM kagzi.workflow_runs;
INSERT INTO kagzi.messages (run_id, position, kind, name, payload, dedup_key, received_seq)
SELECT run_id, 1, 'SIGNAL', 'opened', 'true', 'key', 1 FROM kagzi.workflow_runs LIMIT 100000;
"""


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection with the settings that the store's own have, on a migrated database."""
    store = PostgresStore(postgres_url, Settings())
    await store.open()
    await store.migrate()
    await store.close()
    connection = await asyncpg.connect(postgres_url, server_settings=PLANNER)
    yield connection
    await connection.close()


async def plan_of(connection: asyncpg.Connection, sql: str) -> str:
    """The generic plan: the one that a connection keeps for ever."""
    filled = NAMES.fill(sql)
    await connection.execute(f"PREPARE hot AS {filled}")
    count = max((int(number) for number in re.findall(r"\$(\d+)", filled)), default=0)
    arguments = f"({', '.join(['NULL'] * count)})" if count else ""
    rows = await connection.fetch(f"EXPLAIN EXECUTE hot{arguments}")
    await connection.execute("DEALLOCATE hot")
    return "\n".join(row[0] for row in rows)


def assert_only_lookups(name: str, plan: str) -> None:
    assert not re.search(r"Seq Scan on (workflow_runs|step_runs|messages|run_values|events|event_\w+)", plan), (
        f"{name}\n{plan}"
    )
    assert "Hash Join" not in plan, f"{name}\n{plan}"
    assert "Merge Join" not in plan, f"{name}\n{plan}"
    for line in plan.splitlines():
        if match := re.search(r"Index (?:Only )?Scan (?:Backward )?using (workflow_runs_\w+) on", line):
            wanted = {"workflow_runs_pkey", "workflow_runs_id"}
            if name in ("outcomes", "latest"):
                wanted |= {"workflow_runs_chain"}
            if name in ("claim", "claim further on", "reconsider", "count open", "backlog"):
                wanted |= {"workflow_runs_claim"}
            if name == "forsaken":
                wanted |= {"workflow_runs_leaving", "workflow_runs_children"}
            if name in ("find children", "find more children"):
                wanted = {"workflow_runs_children"}
            if name == "expire":
                wanted |= {"workflow_runs_deadline", "workflow_runs_start_deadline"}
            if name in ("owned", "recover", "count open", "find running", "counters"):
                wanted |= {"workflow_runs_owner_key"}
            assert match[1] in wanted, f"{name} uses {match[1]}\n{plan}"
    for line, following in itertools.pairwise(plan.splitlines()):
        if name != "forget events" and "using event_waits_pkey" in line:
            assert "Index Cond" in following, f"{name}\n{plan}"
    if name != "distribute":
        assert "event_waits_open" not in plan, f"{name}\n{plan}"


async def test_every_hot_statement_planned_on_empty_tables_uses_its_index(connection: asyncpg.Connection) -> None:
    for name, sql in STATEMENTS.items():
        assert_only_lookups(name, await plan_of(connection, sql))


async def test_every_hot_statement_planned_on_full_tables_uses_its_index(connection: asyncpg.Connection) -> None:
    await connection.execute(FILL)
    for analyzed in (False, True):
        if analyzed:
            await connection.execute("ANALYZE kagzi.workflow_runs, kagzi.step_runs, kagzi.messages")
        for name, sql in STATEMENTS.items():
            assert_only_lookups(name, await plan_of(connection, sql))


async def test_a_statement_by_primary_key_reads_no_other_rows(connection: asyncpg.Connection) -> None:
    """The lock of a checkpoint's run must be found by the primary key alone, never by a partial index."""
    plan = await plan_of(connection, commit_sql.RECORDS)
    assert plan.count("workflow_runs_pkey") == 1
    assert "Index Cond: (run_id = " in plan


async def test_plans_made_while_the_tables_were_empty_stay_fast(store: PostgresStore, postgres_url: str) -> None:
    worker = await a_worker(store)
    for _ in range(10):  # every statement's plan is made and kept now
        await store.start([a_run()])
        await store.claim(a_request(worker))
        await store.backlog(NAMESPACE, limit=10_000)
    filler = await asyncpg.connect(postgres_url)
    await filler.execute(FILL)
    await filler.close()
    await store.start([run := a_run()])

    async with asyncio.timeout(1):  # some milliseconds; a scan for each would take seconds
        (claim,) = (await store.claim(a_request(worker))).claims
        for seq in range(50):
            await store.commit([a_checkpoint(run.run_id, seq=seq + 1)])
            await store.claim(a_request(worker))
            await store.backlog(NAMESPACE, limit=10_000)

    assert claim.run_id == run.run_id
