"""Workflows whose steps fail, or take their worker along, while faults happen."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from dataclasses import dataclass

from kagzi import Kagzi, RetryPolicy, Workflow, WorkflowContext, step_info
from tests.faults.ledger import Execution, Ledger

ANSWER = "an answer"


@dataclass(frozen=True)
class Trouble:
    """The step fails in its first `failures` executions, `wait_s` apart.

    The first to be number `hangs_at` does not come back, so that its worker can be killed in it.
    """

    failures: int = 2
    wait_s: float = 0.3
    hangs_at: int = 0


Persist = Workflow[[Trouble], str]


class Troubles:
    """Functions that note in a ledger that they began, and then have trouble."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def call(self, trouble: Trouble) -> str:
        """Fail, hang, or answer."""
        info = step_info()
        has_begun = any(
            (each.run_id, each.step_id, each.attempt) == (info.run_id, info.step_id, info.attempt)
            for each in self._ledger.read()
        )
        self._note()
        if info.attempt == trouble.hangs_at and not has_begun:
            await asyncio.sleep(600)
        if info.attempt <= trouble.failures:
            raise ConnectionError(f"no answer to {info.attempt}")
        return ANSWER

    async def note(self) -> str:
        """Work."""
        return self._note()

    async def kill(self) -> None:
        """Take the worker's process along."""
        self._note()
        os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(600)

    def _note(self) -> str:
        info, token = step_info(), uuid.uuid4().hex
        self._ledger.append(
            Execution(
                run_id=info.run_id,
                step_id=info.step_id,
                attempt=info.attempt,
                pid=os.getpid(),
                token=token,
                before="",
                at=time.monotonic(),
            )
        )
        return token


def register_persist(kagzi: Kagzi, ledger: Ledger) -> Persist:
    """Register `persist`: a step, then one that may be executed five times, then another."""
    troubles = Troubles(ledger)

    @kagzi.workflow("persist")
    async def persist(ctx: WorkflowContext, trouble: Trouble) -> str:
        await ctx.step("first", troubles.note)
        policy = RetryPolicy.fixed(trouble.wait_s, max_attempts=5)
        answer = await ctx.options(retry=policy).step("call", troubles.call, trouble)
        await ctx.step("last", troubles.note)
        return answer

    return persist


def register_resume(kagzi: Kagzi, ledger: Ledger) -> Workflow[[Trouble], int]:
    """Register `resume`: it fails as a whole, and goes on in its next attempt; returns the number of its last one."""
    troubles = Troubles(ledger)

    @kagzi.workflow("resume", retry=RetryPolicy.fixed(0.3, max_attempts=5))
    async def resume(ctx: WorkflowContext, trouble: Trouble) -> int:
        await ctx.step("first", troubles.note)
        await ctx.step("call", troubles.call, trouble)
        await ctx.step("last", troubles.note)
        return ctx.attempt

    return resume


def register_deadly(kagzi: Kagzi, ledger: Ledger) -> Workflow[[], None]:
    """Register `deadly`: its step kills its worker, whatever policies it and its run have."""
    troubles = Troubles(ledger)

    @kagzi.workflow("deadly", retry=RetryPolicy.fixed(0, max_attempts=None), step_retry=RetryPolicy.fixed(0))
    async def deadly(ctx: WorkflowContext) -> None:
        await ctx.step("kill", troubles.kill)

    return deadly
