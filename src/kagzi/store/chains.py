"""Runs that continued as new: what is asked of one is asked of the last of its chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from kagzi.model.message import NewMessage, Posted, PostOutcome
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


async def post_to_the_end(store: Store, message: NewMessage, post: Callable[[NewMessage], Awaitable[Posted]]) -> Posted:
    """Post a message to a run or, where that has continued as new, to the last of its chain."""
    while True:
        posted = await post(message)
        if posted.outcome is not PostOutcome.CLOSED or posted.run_id is None:
            return posted
        latest = await store.latest(posted.run_id)
        if latest == posted.run_id:
            return posted
        message = msgspec.structs.replace(message, run_id=latest, id=None)
