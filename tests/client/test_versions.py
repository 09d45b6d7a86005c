"""Versions side by side: which one a run gets, who executes it, and how a version goes out of use (P17)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kagzi import ConfigError, Kagzi, RunStatus, VersionDeprecated, VersionNotFound, WorkflowContext, WorkflowHandle
from tests.app.applications import an_application, until
from tests.app.watched_store import WatchedStore


async def first(ctx: WorkflowContext) -> str:
    await ctx.sleep("rest", 0.05)
    return f"first, version {ctx.version}"


async def second(ctx: WorkflowContext) -> str:
    return f"second, version {ctx.version}"


async def third(ctx: WorkflowContext) -> str:
    return f"third, version {ctx.version}"


def with_versions(kagzi: Kagzi, *versions: int) -> Kagzi:
    for version in versions:
        kagzi.register_workflow_version("order", version, {1: first, 2: second, 3: third}[version])
    return kagzi


async def test_versions_run_side_by_side_and_a_run_stays_on_its_own(kagzi: Kagzi) -> None:
    with_versions(kagzi, 1, 2)
    early = await kagzi.start_workflow_version("order", 1)

    async with kagzi.create_worker():
        await kagzi.set_default_workflow_version("order", 2)
        late = await kagzi.start_workflow("order")
        asked = await kagzi.options(version=1).start_workflow("order")

        assert await early.result(timeout=20) == "first, version 1"
        assert await late.result(timeout=20) == "second, version 2"
        assert await asked.result(timeout=20) == "first, version 1"


async def test_a_worker_takes_the_versions_that_it_knows_and_leaves_the_others(
    any_database_url: str, kagzi: Kagzi
) -> None:
    """P17: the run waits for a worker that knows its version, and goes on when there is one."""
    with_versions(kagzi, 1, 2)
    newer = await kagzi.start_workflow_version("order", 2)
    older = await kagzi.start_workflow_version("order", 1)

    async with with_versions(an_application(any_database_url), 1) as elsewhere, elsewhere.create_worker():
        assert await older.result(timeout=20) == "first, version 1"
        assert await newer.status() is RunStatus.PENDING

    async with with_versions(an_application(any_database_url), 2) as elsewhere, elsewhere.create_worker():
        assert await newer.result(timeout=20) == "second, version 2"


async def test_a_deprecated_version_gets_no_new_runs_and_its_open_ones_go_on(kagzi: Kagzi) -> None:
    with_versions(kagzi, 1, 2)
    begun = await kagzi.start_workflow_version("order", 1)

    await kagzi.deprecate_workflow_version("order", 1)

    with pytest.raises(VersionDeprecated, match="gets no new ones; versions that get new runs: 2") as refused:
        await kagzi.start_workflow_version("order", 1)
    with pytest.raises(VersionNotFound):
        await kagzi.options(version=1).start_workflow("order")
    with pytest.raises(VersionDeprecated):
        await kagzi.start_many("order", [()], version=1)
    assert (refused.value.workflow, refused.value.version, refused.value.known) == ("order", 1, (2,))
    async with kagzi.create_worker():
        assert await begun.result(timeout=20) == "first, version 1"


async def test_a_start_without_a_version_passes_deprecated_ones_over(kagzi: Kagzi) -> None:
    with_versions(kagzi, 1, 2, 3)
    await kagzi.deprecate_workflow_version("order", 3)
    default = await kagzi.get_default_workflow_version("order")
    started = await (await kagzi.start_workflow("order")).describe()
    await kagzi.deprecate_workflow_version("order", 2)
    await kagzi.deprecate_workflow_version("order", 1)

    assert (default, started.version) == (2, 2)
    assert await kagzi.get_default_workflow_version("order") is None
    with pytest.raises(VersionDeprecated, match="this application knows no version that does"):
        await kagzi.start_workflow("order")


async def test_deprecating_is_undone(kagzi: Kagzi) -> None:
    with_versions(kagzi, 1, 2)
    await kagzi.deprecate_workflow_version("order", 2)
    await kagzi.undeprecate_workflow_version("order", 2)
    await kagzi.undeprecate_workflow_version("order", 2)

    assert (await (await kagzi.start_workflow("order")).describe()).version == 2


async def test_the_default_is_never_a_deprecated_version(kagzi: Kagzi) -> None:
    with_versions(kagzi, 1, 2)
    await kagzi.set_default_workflow_version("order", 2)

    with pytest.raises(ConfigError, match="Set another default first"):
        await kagzi.deprecate_workflow_version("order", 2)
    await kagzi.deprecate_workflow_version("order", 1)
    with pytest.raises(VersionDeprecated):
        await kagzi.set_default_workflow_version("order", 1)

    assert await kagzi.get_default_workflow_version("order") == 2


@pytest.mark.parametrize("wrong", [0, -1, 2**31, "1", True, 1.0])
async def test_what_is_no_version_is_refused(kagzi: Kagzi, wrong: object) -> None:
    for verb in (kagzi.deprecate_workflow_version, kagzi.undeprecate_workflow_version):
        with pytest.raises((ValueError, TypeError), match="version of workflow 'order'"):
            await verb("order", wrong)  # type: ignore[arg-type] # what is wrong is the point
    with pytest.raises(ValueError, match="name of a workflow"):
        await kagzi.deprecate_workflow_version("", 1)


async def test_a_version_deprecated_elsewhere_gets_no_runs_soon(any_database_url: str, kagzi: Kagzi) -> None:
    with_versions(kagzi, 1, 2)
    await kagzi.start_workflow_version("order", 1)
    async with an_application(any_database_url) as elsewhere:
        await elsewhere.deprecate_workflow_version("order", 1)

    async def is_refused() -> bool:
        try:
            await kagzi.start_workflow_version("order", 1)
        except VersionDeprecated:
            return True
        return False

    await until(is_refused)


async def test_starts_by_version_ask_for_deprecated_ones_about_once_a_second(kagzi: Kagzi, store: WatchedStore) -> None:
    with_versions(kagzi, 1)

    for _ in range(3):
        await asyncio.gather(*(kagzi.start_workflow_version("order", 1) for _ in range(100)))

    assert store.trips["version_policy"] <= 3


async def test_open_runs_are_counted_by_version(kagzi: Kagzi) -> None:
    with_versions(kagzi, 1, 2)
    for version in (1, 1, 2):
        await kagzi.start_workflow_version("order", version)

    before = await kagzi.count_open_runs()
    async with kagzi.create_worker():
        await until(lambda: _nothing_open(kagzi))

    assert before == {("order", 1): 2, ("order", 2): 1}


async def _nothing_open(kagzi: Kagzi) -> bool:
    return await kagzi.count_open_runs() == {}


async def test_versions_are_listed_with_who_needs_and_who_serves_them(any_database_url: str, kagzi: Kagzi) -> None:
    with_versions(kagzi, 1, 2, 3)
    await kagzi.start_workflow_version("order", 1)
    await kagzi.set_default_workflow_version("order", 3)
    await kagzi.deprecate_workflow_version("order", 1)
    await kagzi.deprecate_workflow_version("ship", 7)

    async with with_versions(an_application(any_database_url), 2, 3) as elsewhere, elsewhere.create_worker():
        found = await kagzi.find_workflow_versions()

    assert [
        (each.workflow, each.version, each.is_default, each.open_runs, each.workers, each.can_go) for each in found
    ] == [
        ("order", 1, False, 1, 0, False),
        ("order", 2, False, 0, 1, False),
        ("order", 3, True, 0, 1, False),
        ("ship", 7, False, 0, 0, True),
    ]
    assert [each.deprecated_at is not None for each in found] == [True, False, False, True]


async def test_a_due_run_says_that_no_worker_knows_its_version(any_database_url: str, kagzi: Kagzi) -> None:
    """P17: by `describe()`, once it is due, and no longer once a worker serves it."""
    with_versions(kagzi, 1, 2, 3)
    waiting = await kagzi.start_workflow_version("order", 3)
    later = await kagzi.options(delay=3_600).start_workflow_version("order", 3)
    alone = (await waiting.describe()).waiting_for

    async with with_versions(an_application(any_database_url), 1, 2) as elsewhere, elsewhere.create_worker():
        unserved = (await waiting.describe()).waiting_for
        not_due = (await later.describe()).waiting_for
    async with kagzi.create_worker():
        assert await waiting.result(timeout=20) == "third, version 3"

    assert alone == ("no worker is up",)
    assert unserved == (
        "no worker serves version 3 of workflow 'order' on queue 'default'; workers that are up know versions 1 and 2",
    )
    assert not_due == ()
    assert (await waiting.describe()).waiting_for == ()


async def test_a_sleeper_that_fell_due_says_that_no_worker_knows_its_version(
    any_database_url: str, kagzi: Kagzi
) -> None:
    async def napper(ctx: WorkflowContext) -> None:
        await ctx.sleep("nap", 1.2)

    handle = await kagzi.register_workflow("order", napper).start()
    async with kagzi.create_worker():
        await until(lambda: _is(handle, RunStatus.SLEEPING))
    async with with_versions(an_application(any_database_url), 2) as elsewhere, elsewhere.create_worker():

        async def is_told() -> bool:
            return "no worker serves version 1 of workflow 'order'" in (await handle.describe()).waiting_for[-1]

        await until(is_told)

    assert "timer 'nap'" in (await handle.describe()).waiting_for[0]


async def _is(handle: WorkflowHandle[Any], status: RunStatus) -> bool:
    return await handle.status() is status


async def test_listings_ask_nothing_of_workers(kagzi: Kagzi, store: WatchedStore) -> None:
    with_versions(kagzi, 1)
    await kagzi.start_workflow("order")

    (run,) = await kagzi.find_runs()

    assert run.waiting_for == ()
    assert store.trips["workers"] == 0
