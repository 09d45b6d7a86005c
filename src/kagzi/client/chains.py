"""Runs that continued as new: what is asked of one is asked of the last of its chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from kagzi.model.run import RunId
from kagzi.store.protocol import Store

A = TypeVar("A")


async def at_the_end(
    store: Store, run_id: RunId, ask: Callable[[RunId], Awaitable[A]], *, has_ended: Callable[[A], bool]
) -> A:
    """Ask something of a run and, where the answer is that it has ended, of the run that has taken its place."""
    while True:
        answer = await ask(run_id)
        if not has_ended(answer):
            return answer
        latest = await store.latest(run_id)
        if latest == run_id:
            return answer
        run_id = latest
