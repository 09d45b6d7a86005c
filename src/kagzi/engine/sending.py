"""Signals that a body sends to a child: each a step of its own, so that it is sent once."""

from __future__ import annotations

import hashlib

from kagzi.authoring.options import step_options
from kagzi.authoring.steps import current_step
from kagzi.engine.running import RunningStep
from kagzi.errors import RunNotFound, StoreUnavailable
from kagzi.model.message import NewMessage, PostOutcome
from kagzi.model.retry import RetryPolicy
from kagzi.model.run import MessageKind, RunId
from kagzi.rules.retries import RetryPredicate

INSISTING = step_options(
    retry=RetryPolicy.exponential(0.1, maximum=5, max_attempts=None), retry_if=RetryPredicate.on_types(StoreUnavailable)
)


async def post_signal(child_run_id: str, name: str, text: str) -> str | None:
    """Post a signal, which the child knows again if it was posted before; gives its status where it has ended."""
    step = current_step.get()
    assert isinstance(step, RunningStep), "it is called as a step on the worker's own loop"
    info = step.describe()
    posted = await step.owner.post(
        NewMessage(
            namespace=step.owner.namespace,
            kind=MessageKind.SIGNAL,
            name=name,
            run_id=RunId(child_run_id),
            payload=text,
            # Identities can be longer than a key may be.
            dedup_key=f"kagzi:{info.run_id}:{hashlib.sha256(info.step_id.encode()).hexdigest()}",
        )
    )
    if posted.outcome is PostOutcome.NOT_FOUND:
        raise RunNotFound(child_run_id)
    return str(posted.status) if posted.outcome is PostOutcome.CLOSED else None
