"""Events by the blocking twin."""

from __future__ import annotations

import time
from typing import Any

from kagzi import SyncWorkflowContext, WorkflowContext
from kagzi.blocking import Workflow
from tests.blocking.flows import PATIENCE_S, an_application


def test_a_blocking_application_emits_and_handles(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)

    @kagzi.on_event("user.created")
    @kagzi.workflow("welcome")
    def welcome(ctx: SyncWorkflowContext, name: str) -> str:
        return f"welcome, {name}"

    @kagzi.on_event("user.created")
    async def count(ctx: WorkflowContext, name: str) -> int:
        return len(name)

    assert isinstance(welcome, Workflow)
    assert isinstance(count, Workflow)
    with kagzi, kagzi.create_worker():
        kagzi.emit("user.created", "Ada", key="ada", dedup_key="ada")
        kagzi.emit("user.created", "Ada", key="ada", dedup_key="ada")
        runs: list[Any] = []
        until = time.monotonic() + PATIENCE_S
        while len(runs) < 2 and time.monotonic() < until:
            runs = kagzi.find_runs()
        results = {run.workflow: kagzi.handle(run.run_id).result(timeout=PATIENCE_S) for run in runs}

    assert results == {"welcome": "welcome, Ada", "count": 3}
