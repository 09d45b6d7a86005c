"""An application is used on the event loop that it was opened on: neither in workflow bodies nor in other threads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kagzi import ConfigError, Kagzi, WorkflowContext, WorkflowFailed, WorkflowHandle
from tests.app.applications import within

Use = Callable[[Kagzi, WorkflowHandle[str]], Awaitable[object]]

USES: dict[str, Use] = {
    "start": lambda kagzi, _: kagzi.start_workflow("visit", "b"),
    "start many": lambda kagzi, _: kagzi.start_many("visit", ["b", "c"]),
    "find": lambda kagzi, _: kagzi.find_runs(),
    "default version": lambda kagzi, _: kagzi.get_default_workflow_version("visit"),
    "result": lambda _, handle: handle.result(),
    "status": lambda _, handle: handle.status(),
    "describe": lambda _, handle: handle.describe(),
    "history": lambda _, handle: handle.history(),
    "open": lambda kagzi, _: kagzi.open(),
    "close": lambda kagzi, _: kagzi.close(),
}


async def visit(ctx: WorkflowContext, name: str) -> str:
    return name


@pytest.mark.parametrize("use", list(USES))
async def test_a_body_that_uses_its_application_is_told_to_do_it_in_a_step(kagzi: Kagzi, use: str) -> None:
    visits = kagzi.register_workflow("visit", visit)

    async def reach_out(ctx: WorkflowContext) -> None:
        await USES[use](kagzi, visited)

    reaching_out = kagzi.register_workflow("reach-out", reach_out)

    async with kagzi.create_worker():
        visited = await visits.start("a")
        await within(visited.result())
        with pytest.raises(WorkflowFailed) as told:
            await within((await reaching_out.start()).result())
        after = await within((await visits.start("d")).result())
        runs = await within(kagzi.find_runs(workflow="visit"))

    assert told.value.error.type == "WorkflowIOError"
    assert "in a step" in told.value.error.message
    assert after == "d"
    assert len(runs) == 2  # nothing was started behind anybody's back


@pytest.mark.parametrize("use", list(USES))
async def test_another_event_loop_is_told_to_open_an_application_of_its_own(kagzi: Kagzi, use: str) -> None:
    visits = kagzi.register_workflow("visit", visit)
    visited = await visits.start("a")

    async def elsewhere() -> None:
        await USES[use](kagzi, visited)

    with pytest.raises(ConfigError, match="another event loop"):
        await within(asyncio.to_thread(asyncio.run, elsewhere()))

    assert len(await within(kagzi.find_runs())) == 1
