"""Listings: filters, pages that stay stable, no payloads, and refusals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kagzi import Kagzi, RunStatus, WorkflowContext, WorkflowHandle
from tests.app.applications import an_application, within


async def order(ctx: WorkflowContext, number: int) -> int:
    if number < 0:
        raise ValueError("negative")
    return number


async def other(ctx: WorkflowContext, number: int) -> int:
    return number


@pytest.fixture
async def runs(kagzi: Kagzi) -> dict[str, str]:
    """Runs of many sorts: their run_ids by what they are."""
    orders, others = kagzi.register_workflow("order", order), kagzi.register_workflow("other", other)
    made: dict[str, WorkflowHandle[Any]] = {}
    async with kagzi.create_worker():
        made["completed"] = await orders.options(tags=["a", "b"]).start(1)
        made["failed"] = await orders.options(tags=["b"]).start(-1)
        made["other"] = await others.start(2)
        for handle in made.values():
            await within(handle.describe())
            await within(kagzi.handle(handle.run_id).result()) if handle is not made["failed"] else None
        with pytest.raises(Exception, match="negative"):
            await within(made["failed"].result())
    made["pending"] = await orders.options(queue="mail", id="order-1").start(3)
    made["later"] = await orders.options(delay=3600, tags=["a"]).start(4)
    await orders.options(namespace="elsewhere").start(5)
    return {name: handle.run_id for name, handle in made.items()}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["later", "pending", "other", "failed", "completed"]),
        ({"status": "completed"}, ["other", "completed"]),
        ({"status": RunStatus.FAILED}, ["failed"]),
        ({"status": "PENDING"}, ["later", "pending"]),
        ({"status": RunStatus.CANCELLED}, []),
        ({"workflow": "order"}, ["later", "pending", "failed", "completed"]),
        ({"workflow": "nobody"}, []),
        ({"queue": "mail"}, ["pending"]),
        ({"tags": ["b"]}, ["failed", "completed"]),
        ({"tags": ["b", "a"]}, ["completed"]),
        ({"tags": ("c",)}, []),
        ({"id": "order-1"}, ["pending"]),
        ({"id": "order-2"}, []),
        ({"parent": "01997e00-0000-7000-8000-00000000c0de"}, []),
        ({"workflow": "order", "status": "pending", "tags": ["a"], "queue": "default"}, ["later"]),
        ({"limit": 2}, ["later", "pending"]),
        ({"created_after": datetime(2001, 1, 1, tzinfo=UTC)}, ["later", "pending", "other", "failed", "completed"]),
        ({"created_after": datetime(2525, 1, 1, tzinfo=UTC)}, []),
    ],
)
async def test_filters_find_exactly_what_fits_newest_first(
    kagzi: Kagzi, runs: dict[str, str], filters: dict[str, Any], expected: list[str]
) -> None:
    found = await kagzi.find_runs(**filters)

    assert [run.run_id for run in found] == [runs[name] for name in expected]


async def test_created_after_takes_the_moment_itself_apart(kagzi: Kagzi, runs: dict[str, str]) -> None:
    pending = await kagzi.handle(runs["pending"]).describe()

    after = await kagzi.find_runs(created_after=pending.created_at)
    before = await kagzi.find_runs(created_after=pending.created_at - timedelta(microseconds=1))

    assert [run.run_id for run in after] == [runs["later"]]
    assert [run.run_id for run in before] == [runs["later"], runs["pending"]]


async def test_listings_hold_everything_but_payloads(kagzi: Kagzi, runs: dict[str, str]) -> None:
    listed = {run.run_id: run for run in await kagzi.find_runs()}

    completed, failed = listed[runs["completed"]], listed[runs["failed"]]
    described = await kagzi.handle(runs["completed"]).describe()
    assert (completed.input, completed.output) == (None, None)
    assert (described.input, described.output) == ([1], 1)
    assert completed.tags == ("a", "b")
    assert completed.finished_at == described.finished_at
    assert failed.status is RunStatus.FAILED
    assert completed.unreadable is None


async def test_pages_stay_stable_while_runs_come(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)
    started = [handle.run_id for handle in await kagzi.start_many(workflow, list(range(25)))]
    seen: list[str] = []
    cursor: str | None = None
    while page := await kagzi.find_runs(cursor=cursor, limit=7):
        seen += [run.run_id for run in page]
        cursor = seen[-1]
        await workflow.start(99)  # newer runs come before the first page

    assert seen == list(reversed(started))


@pytest.mark.parametrize(
    ("filters", "kind", "message"),
    [
        ({"status": "done"}, ValueError, "there are: PENDING, RUNNING"),
        ({"status": 5}, ValueError, "status is 5"),
        ({"limit": 0}, ValueError, "1 to 1000"),
        ({"limit": 1001}, ValueError, "page with cursor"),
        ({"limit": "5"}, ValueError, "whole number"),
        ({"cursor": "abc"}, ValueError, "run_id of the last run"),
        ({"tags": "a"}, TypeError, "list of texts"),
        ({"tags": [5]}, TypeError, "a tag must be text"),
        ({"created_after": datetime(2001, 1, 1)}, ValueError, "time zone"),  # noqa: DTZ001 - naive on purpose
        ({"created_after": 5}, TypeError, "created_after must be a datetime"),
        ({"workflow": "a\0b"}, ValueError, "workflow"),
        ({"queue": "\ud800"}, ValueError, "queue"),
        ({"id": 7}, TypeError, "id"),
        ({"paused": "no"}, TypeError, "paused is 'no'"),
        ({"id": "a\0"}, ValueError, "id"),
        ({"parent": "order-1"}, ValueError, "parent is 'order-1'; give the run_id"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    kagzi: Kagzi, filters: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        await kagzi.find_runs(**filters)


async def test_a_listing_shows_its_own_namespace_only(any_database_url: str, kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)
    ours = await workflow.start(1)
    theirs = await workflow.options(namespace="theirs").start(1)

    async with an_application(any_database_url, namespace="theirs") as elsewhere:
        listed = await elsewhere.find_runs()

    assert [run.run_id for run in listed] == [theirs.run_id]
    assert [run.run_id for run in await kagzi.find_runs()] == [ours.run_id]
