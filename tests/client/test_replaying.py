"""Replaying stored runs against other code (P16): it tells what doesn't fit, and changes and executes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kagzi import DivergenceError, Kagzi, PayloadError, RunNotFound, RunStatus, VersionNotFound, WorkflowContext
from kagzi.client.replaying import Replayed
from kagzi.testing import replay
from tests.app.applications import an_application, until, watch
from tests.app.watched_store import WatchedStore

executed: list[str] = []


def note(letter: str) -> str:
    executed.append(letter)
    return letter.upper()


def count(letter: str) -> int:
    return len(letter)


async def order(ctx: WorkflowContext, last: str) -> str:
    first = await ctx.step("a", note, "a")
    await ctx.sleep("rest", 3_600)
    return first + await ctx.step("b", note, last)


async def quick(ctx: WorkflowContext, last: str) -> str:
    return await ctx.step("a", note, last)


async def renamed(ctx: WorkflowContext, last: str) -> str:
    return await ctx.step("other", note, last)


async def inserted(ctx: WorkflowContext, last: str) -> str:
    await ctx.step("a", note, "a")
    await ctx.step("new", note, "new")
    await ctx.sleep("rest", 3_600)
    return await ctx.step("b", note, last)


async def goes_on(ctx: WorkflowContext, last: str) -> str:
    return await ctx.step("a", note, last) + await ctx.step("b", note, last)


async def ends_otherwise(ctx: WorkflowContext, last: str) -> str:
    return await ctx.step("a", note, last) + "!"


async def raises(ctx: WorkflowContext, last: str) -> str:
    await ctx.step("a", note, last)
    raise LookupError("a defect of the new code")


async def retyped(ctx: WorkflowContext, last: str) -> int:
    return await ctx.step("a", count, last)


async def other_input(ctx: WorkflowContext, last: int, more: str) -> str:
    return more


@pytest.fixture(autouse=True)
def forget() -> None:
    executed.clear()


async def asleep(url: str) -> str:
    """A run of `order` that sleeps."""
    async with an_application(url) as kagzi:
        handle = await kagzi.register_workflow("order", order).start("b")
        async with kagzi.create_worker():
            await until(lambda: _is(kagzi, handle.run_id, RunStatus.SLEEPING))
    return handle.run_id


async def completed(url: str) -> str:
    async with an_application(url) as kagzi:
        handle = await kagzi.register_workflow("order", quick).start("b")
        async with kagzi.create_worker():
            await handle.result(timeout=20)
    return handle.run_id


async def _is(kagzi: Kagzi, run_id: str, status: RunStatus) -> bool:
    return await kagzi.handle(run_id).status() is status


async def replayed(url: str, body: Any, run_id: str) -> None:
    async with an_application(url) as kagzi:
        kagzi.register_workflow("order", body)
        await replay(kagzi, run_id)


async def test_a_run_fits_the_code_that_it_ran_on(any_database_url: str) -> None:
    sleeper, ended = await asleep(any_database_url), await completed(any_database_url)

    await replayed(any_database_url, order, sleeper)
    await replayed(any_database_url, quick, ended)

    assert executed == ["a", "b"]


async def continues(ctx: WorkflowContext, last: str) -> str:
    first = await ctx.step("a", note, last)
    if last == "b":
        ctx.continue_as_new("c")
    return first


async def test_a_run_that_continued_as_new_fits_only_code_that_does(any_database_url: str) -> None:
    async with an_application(any_database_url) as kagzi:
        handle = await kagzi.register_workflow("order", continues).start("b")
        async with kagzi.create_worker():
            assert await handle.result(timeout=20) == "C"
        last = (await handle.describe()).continued_to or ""

    await replayed(any_database_url, continues, handle.run_id)
    await replayed(any_database_url, continues, last)
    for body in (quick, raises, goes_on):
        with pytest.raises(DivergenceError):
            await replayed(any_database_url, body, handle.run_id)

    assert executed == ["b", "c"]


@pytest.mark.parametrize(
    ("body", "diff"),
    [
        (renamed, ("- recorded: STEP 0/a#1", "+ code asks for: STEP 0/other#1")),
        (inserted, ("  STEP 0/a#1", "- waited for: TIMER 0/rest#1", "+ code asks for: STEP 0/new#1")),
        (quick, ("  STEP 0/a#1", "- waited for: TIMER 0/rest#1", "+ code ends here")),
        (
            raises,
            ("  STEP 0/a#1", "- waited for: TIMER 0/rest#1", "+ code raises: LookupError: a defect of the new code"),
        ),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
async def test_code_that_does_not_fit_a_sleeping_run_is_told_with_a_diff(
    any_database_url: str, body: Any, diff: tuple[str, ...]
) -> None:
    run_id = await asleep(any_database_url)

    with pytest.raises(DivergenceError) as refused:
        await replayed(any_database_url, body, run_id)

    assert refused.value.diff == diff
    assert executed == ["a"]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (goes_on, "+ code asks for: STEP 0/b#1"),
        (ends_otherwise, "+ code ends with: another result"),
        (raises, "+ code ends with: LookupError: a defect of the new code"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
async def test_an_ended_run_must_end_as_it_did(sqlite_url: str, body: Any, found: str) -> None:
    run_id = await completed(sqlite_url)

    with pytest.raises(DivergenceError) as refused:
        await replayed(sqlite_url, body, run_id)

    assert refused.value.diff[-1] == found


async def test_values_that_no_longer_fit_are_told(sqlite_url: str) -> None:
    run_id = await completed(sqlite_url)

    with pytest.raises(PayloadError):
        await replayed(sqlite_url, retyped, run_id)
    with pytest.raises(Exception, match="input of workflow 'order'"):
        await replayed(sqlite_url, other_input, run_id)


async def test_a_run_that_is_not_there_or_of_an_unknown_version_is_told(sqlite_url: str) -> None:
    run_id = await asleep(sqlite_url)

    async with an_application(sqlite_url) as kagzi:
        with pytest.raises(VersionNotFound, match="no version 1"):
            await replay(kagzi, run_id)
        with pytest.raises(RunNotFound):
            await replay(kagzi, "nobody")


async def every_open(kagzi: Kagzi, **options: Any) -> list[Replayed]:
    return [each async for each in kagzi.replays(**options)]


async def test_all_open_runs_are_replayed_page_by_page_and_nothing_is_written(any_database_url: str) -> None:
    sleeper = await asleep(any_database_url)
    async with an_application(any_database_url) as kagzi:
        workflow = kagzi.register_workflow("order", order)
        pending = await kagzi.start_many(workflow, ["b"] * 250, delay=3_600)
        kagzi.register_workflow("ship", quick)
        await kagzi.start_workflow("ship", "b")
    await completed(any_database_url)

    kagzi = an_application(any_database_url)
    watch(kagzi)
    async with kagzi:
        kagzi.register_workflow("order", renamed)
        store = kagzi._open_link().store
        assert isinstance(store, WatchedStore)
        found = await every_open(kagzi)
        of_ship = await every_open(kagzi, workflow="ship")
        trips = {verb for verb, count in store.trips.items() if count}

    assert {each.run_id for each in found if each.fits} == {handle.run_id for handle in pending}
    assert [each.run_id for each in found if each.error is not None] == [sleeper]
    assert [(each.workflow, each.is_known) for each in found if not each.is_known] == [("ship", False)]
    assert len(of_ship) == 1
    assert trips <= {"find", "recall", "migrate", "schema_status", "open", "close", "listen"}
    assert executed == ["a", "b"]


async def test_runs_in_a_worker_s_hands_fit_while_they_go_on(any_database_url: str) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        begun.set()
        await go_on.wait()
        return "b"

    async def slow(ctx: WorkflowContext) -> str:
        return await ctx.step("a", note, "a") + await ctx.step("wait", wait)

    async with an_application(any_database_url) as kagzi:
        handle = await kagzi.register_workflow("slow", slow).start()
        async with kagzi.create_worker():
            await begun.wait()
            (found,) = await every_open(kagzi)
            go_on.set()
            assert await handle.result(timeout=20) == "Ab"

    assert (found.fits, found.operations) == (True, 1)
