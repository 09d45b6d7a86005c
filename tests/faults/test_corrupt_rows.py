"""Rows that no release of Kagzi has written: by hand, by a later release, by a broken disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from kagzi import Kagzi, KagziError, Settings, WorkflowContext, WorkflowFailed, WorkflowHandle
from tests.faults.database import SQLITE, harm, query
from tests.faults.fleet import QUICK
from tests.faults.polling import until

WEEK_S = 7 * 24 * 3600


@dataclass(frozen=True)
class Damage:
    """What is done to a run that is due, and the statuses it may have once a worker has met it."""

    sql: str
    statuses: frozenset[str]


def damage(sql: str, *statuses: str) -> Damage:
    return Damage(sql, frozenset(statuses))


def to_run(change: str, *statuses: str) -> Damage:
    return damage(f"UPDATE workflow_runs SET {change} WHERE id = 'victim'", *statuses)


def to_step(change: str, *statuses: str) -> Damage:
    """A run that was executed before and has one finished step."""
    return damage(
        "UPDATE workflow_runs SET fence = 1 WHERE id = 'victim';"
        "INSERT INTO step_runs (run_id, step_id, seq, kind, status, output, attempts, started_at, finished_at) "
        "SELECT run_id, '0/same#1', 1, 'STEP', 'COMPLETED', '1', 1, {epoch}, {epoch} FROM workflow_runs "
        f"WHERE id = 'victim'; UPDATE step_runs SET {change}",
        *statuses,
    )


DAMAGES = {
    "input that is no JSON": to_run("input = 'no [ JSON'", "FAILED"),
    "empty input": to_run("input = ''", "FAILED"),
    "input of another shape": to_run("""input = '{{"surprise": [1, 2]}}'""", "FAILED"),
    "attributes that are no JSON": to_run("attributes = 'no [ JSON'", "COMPLETED"),
    "attributes that are no object": to_run("attributes = '[1]'", "COMPLETED"),
    "waits that are no JSON": to_run("waits = '{{{{'", "COMPLETED"),
    "a place of parking that is no JSON": to_run("parked = '{{{{'", "COMPLETED"),
    "a place of parking of another shape": to_run("parked = '[1]'", "COMPLETED"),
    "error that is no JSON": to_run(
        "status = 'FAILED', available_at = NULL, finished_at = {epoch}, error = 'no [ JSON'", "FAILED"
    ),
    "error of a kind of later": to_run(
        "status = 'FAILED', available_at = NULL, finished_at = {epoch}, "
        """error = '{{"kind": "NEW", "message": "m", "type": "t"}}'""",
        "FAILED",
    ),
    "no error": to_run("status = 'FAILED', available_at = NULL, finished_at = {epoch}", "FAILED"),
    "output that is no JSON": to_run(
        "status = 'COMPLETED', available_at = NULL, finished_at = {epoch}, output = 'no [ JSON'", "COMPLETED"
    ),
    "a status of later": to_run("status = 'PAUSED'", "PAUSED"),
    "an owner that never was": to_run(
        "status = 'RUNNING', available_at = NULL, worker_key = '00000000-0000-7000-8000-000000000000'", "COMPLETED"
    ),
    "a workflow that never was": to_run("workflow = 'unheard-of'", "PENDING"),
    "a version that never was": to_run("version = 7", "PENDING"),
    "due when nobody lives": to_run("available_at = {beyond}", "PENDING"),
    "created when nobody lives": to_run("created_at = {beyond}", "COMPLETED"),
    "started when nobody lives": to_run("started_at = {beyond}", "FAILED", "COMPLETED", "SLEEPING", "PENDING"),
    "a step's result that is no JSON": to_step("output = 'no [ JSON'", "SLEEPING"),
    "a step without a result": to_step("output = NULL", "FAILED", "COMPLETED", "SLEEPING"),
    "a step of a kind of later": to_step("kind = 'HYPERSTEP'", "SLEEPING"),
    "a step of a status of later": to_step("status = 'SKIPPED'", "SLEEPING", "COMPLETED"),
    "a step's error that is no JSON": to_step("status = 'FAILED', output = NULL, error = 'no [ JSON'", "FAILED"),
    "a step's identity that is none": to_step("step_id = 'nonsense'", "SLEEPING"),
    "a step that finished at no time": to_step("finished_at = NULL", "SLEEPING", "COMPLETED", "FAILED"),
    "a step that finished when nobody lives": to_step(
        "finished_at = {beyond}", "SLEEPING", "COMPLETED", "FAILED", "PENDING"
    ),
}
ON_SQLITE_ALONE = {
    "tags that are no JSON": to_run("tags = 'no [ JSON'", "COMPLETED"),
    "tags that are no list": to_run("tags = '7'", "COMPLETED"),
}

# Open: the driver decodes a row's text itself, so one row fails a claim, or a listing, as a whole.
NO_UTF_8 = {
    "input that is no UTF-8": to_run("input = CAST(x'22ff80' AS TEXT)", "FAILED", "PENDING"),
    "attributes that are no UTF-8": to_run("attributes = CAST(x'22ff80' AS TEXT)", "COMPLETED"),
    "a step's result that is no UTF-8": to_step("output = CAST(x'22ff80' AS TEXT)", "SLEEPING", "PENDING", "FAILED"),
}


@asynccontextmanager
async def application(url: str) -> AsyncIterator[Kagzi]:
    kagzi = Kagzi(settings=Settings.from_environment(QUICK, database_url=url))

    @kagzi.workflow("one-step")
    async def one_step(ctx: WorkflowContext, value: int) -> int:
        return await ctx.step("same", _same, value)

    async with kagzi:
        yield kagzi


@pytest.fixture
async def kagzi(any_database_url: str) -> AsyncIterator[Kagzi]:
    async with application(any_database_url) as kagzi:
        yield kagzi


async def _same(value: int) -> int:
    return value


@pytest.mark.parametrize("name", DAMAGES)
async def test_a_damaged_row_stops_no_worker_and_no_listing(kagzi: Kagzi, any_database_url: str, name: str) -> None:
    """P14, P23."""
    await _check_that_all_goes_on(kagzi, any_database_url, DAMAGES[name])


@pytest.mark.parametrize("name", ON_SQLITE_ALONE)
async def test_a_row_that_sqlite_alone_can_hold_stops_no_worker_and_no_listing(sqlite_url: str, name: str) -> None:
    """P14, P23."""
    async with application(sqlite_url) as kagzi:
        await _check_that_all_goes_on(kagzi, sqlite_url, ON_SQLITE_ALONE[name])


@pytest.mark.parametrize("name", NO_UTF_8)
async def test_a_row_that_is_no_utf_8_stops_no_worker_and_no_listing(sqlite_url: str, name: str) -> None:
    """P14, P23."""
    async with application(sqlite_url) as kagzi:
        await _check_that_all_goes_on(kagzi, sqlite_url, NO_UTF_8[name], patience_s=2)


REFUSING = {
    "sqlite": """
        CREATE TRIGGER refuse BEFORE INSERT ON step_runs
        WHEN NEW.run_id = (SELECT run_id FROM workflow_runs WHERE id = 'victim')
        BEGIN SELECT RAISE(ABORT, 'not this one'); END
    """,
    "postgres": """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.run_id = (SELECT run_id FROM workflow_runs WHERE id = 'victim') THEN
                RAISE EXCEPTION 'not this one';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON step_runs FOR EACH ROW EXECUTE FUNCTION refuse()
    """,
}


@pytest.mark.timeout(40)
async def test_a_write_that_the_database_refuses_fails_its_run_and_holds_up_no_other(
    kagzi: Kagzi, any_database_url: str
) -> None:
    """P14: the journal finds the one that can't be written among those that leave with it."""
    victim = await kagzi.options(id="victim").start_workflow("one-step", 1)
    harm(any_database_url, REFUSING["sqlite" if any_database_url.startswith(SQLITE) else "postgres"])

    async with kagzi.create_worker():
        others: list[WorkflowHandle[int]] = await kagzi.start_many("one-step", list(range(50)))
        assert [await other.result(timeout=10) for other in others] == list(range(50))
        with pytest.raises(WorkflowFailed, match="not this one"):
            await victim.result(timeout=10)


async def _check_that_all_goes_on(kagzi: Kagzi, url: str, harmed: Damage, *, patience_s: float = 10) -> None:
    before = await kagzi.options(id="before", tags=["t"]).start_workflow("one-step", 1)
    victim = await kagzi.options(id="victim", tags=["t"], delay=WEEK_S).start_workflow("one-step", 1)
    _do_harm(url, harmed.sql)

    async with kagzi.create_worker():
        after = await kagzi.options(id="after", tags=["t"]).start_workflow("one-step", 2)
        assert await before.result(timeout=patience_s) == 1
        assert await after.result(timeout=patience_s) == 2
        await until(lambda: _status(url) in harmed.statuses, f"victim is {harmed.statuses}", within_s=patience_s)
        await _look_at_everything(kagzi, victim)
        assert await (await kagzi.start_workflow("one-step", 3)).result(timeout=patience_s) == 3
    assert _status(url) in harmed.statuses


def _do_harm(url: str, sql: str) -> None:
    if url.startswith(SQLITE):
        harm(url, "UPDATE workflow_runs SET available_at = 0 WHERE id = 'victim'")
        harm(url, sql.format(epoch="0", beyond=str(2**60)))
    else:
        harm(url, "ALTER TABLE workflow_runs DROP CONSTRAINT workflow_runs_status_check")
        harm(url, "UPDATE workflow_runs SET available_at = 'epoch' WHERE id = 'victim'")
        harm(url, sql.format(epoch="timestamptz 'epoch'", beyond="timestamptz '200000-01-01'"))


def _status(url: str) -> str:
    ((status,),) = query(url, "SELECT status FROM workflow_runs WHERE id = 'victim'")
    return str(status)


async def _look_at_everything(kagzi: Kagzi, victim: WorkflowHandle[Any]) -> None:
    """Whatever is asked is answered, or refused by an error of ours."""
    assert {run.id for run in await kagzi.find_runs()} == {"before", "victim", "after"}
    assert len(await kagzi.find_runs(tags=["t"])) >= 2
    assert [run.run_id for run in await kagzi.find_runs(id="victim")] == [victim.run_id]
    run = await victim.describe()
    assert run.run_id == victim.run_id
    await victim.history()
    if run.status in ("FAILED", "COMPLETED"):
        with suppress(KagziError):
            await victim.result(timeout=5)
