"""Waiting for runs to end without getting in their way, and checking that they ended well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from kagzi import RunStatus, Settings, WorkflowHandle
from kagzi.model.run import RunFilter
from kagzi.store.protocol import Store
from kagzi.store.urls import open_store

NAMESPACE = "default"
_LOOK_S = 0.003
_PAGE = 1000


@asynccontextmanager
async def watched(url: str) -> AsyncIterator[Store]:
    """A store of our own, to look at runs with."""
    store = open_store(url, Settings(database_url=url))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def all_ended(store: Store, handles: Sequence[WorkflowHandle[Any]]) -> None:
    """Wait until no run is open. Most of the time only the last run is awaited, and nothing is asked."""
    await handles[-1].result()
    while await store.count_open(NAMESPACE):  # noqa: ASYNC110 - of other processes there is no event
        await asyncio.sleep(_LOOK_S)


async def count(store: Store, status: RunStatus) -> int:
    """Count the runs of a status."""
    counted = 0
    cursor = None
    while True:
        page = await store.find(RunFilter(namespace=NAMESPACE, status=status, cursor=cursor, limit=_PAGE))
        counted += len(page)
        if len(page) < _PAGE:
            return counted
        cursor = page[-1].run_id


async def check_completed(store: Store, runs: int) -> None:
    """Raise where not exactly so many runs are COMPLETED: a fast engine that loses runs is no engine."""
    completed = await count(store, RunStatus.COMPLETED)
    if completed != runs:
        raise RuntimeError(f"{completed} runs are COMPLETED, not {runs}.")
