"""A workflow with a step that is executed at most once, and a ledger that counts how often it was."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kagzi import NOT_EXECUTED, Kagzi, StepInterrupted, Workflow, WorkflowContext, step, step_info
from tests.faults.ledger import Execution, Ledger

INTERRUPTED = "interrupted"
CHARGE = "0/charge#1"

KINDS = ["async", "thread", "process"]


@dataclass(frozen=True)
class Purchase:
    """The charge is executed as an async function, in a thread or in a process, and takes `work_s` after it is in the
    ledger. It `reconciles`, or is left interrupted. Whoever executes it waits, before the function is called, for the
    file `gate`, where there is one to wait for; and in it for the file `end`."""

    kind: str = "async"
    reconciles: bool = True
    work_s: float = 0.0
    gate: str = ""
    end: str = ""


class _Gated:
    """Arguments whose arrival in a process waits for a file: between the mark and the call."""

    def __init__(self, gate: str) -> None:
        self.gate = gate

    def __reduce__(self) -> Any:
        return _pass, (self.gate, os.getpid())


def _pass(gate: str, sender: int) -> str:
    while gate and os.getpid() != sender and not Path(gate).exists():
        time.sleep(0.005)
    return gate


def _note(path: str) -> str:
    info, token = step_info(), uuid.uuid4().hex
    ledger = Ledger(Path(path))
    ledger.append(
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
    ledger.close()
    return token


async def charge(path: str, gate: Any, purchase: Purchase) -> str:
    """Charge, which is what the ledger counts."""
    token = _note(path)
    await asyncio.sleep(purchase.work_s)
    while purchase.end and not Path(purchase.end).exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
        await asyncio.sleep(0.005)
    return token


def charge_in_thread(path: str, gate: Any, purchase: Purchase) -> str:
    """The same as a plain function."""
    token = _note(path)
    time.sleep(purchase.work_s)
    while purchase.end and not Path(purchase.end).exists():
        time.sleep(0.005)
    return token


@step(executor="process")
def charge_in_process(path: str, gate: Any, purchase: Purchase) -> str:
    """The same in a process."""
    return charge_in_thread(path, gate, purchase)


async def find(path: str, gate: Any, purchase: Purchase) -> Any:
    """Look into the ledger whether it happened."""
    info = step_info()
    found = [
        each.token for each in Ledger(Path(path)).read() if (each.run_id, each.step_id) == (info.run_id, info.step_id)
    ]
    return found[-1] if found else NOT_EXECUTED


Buy = Workflow[[Purchase], str]


def register_buy(kagzi: Kagzi, ledger: Ledger) -> Buy:
    """Register `buy`: it returns what the charge gave, or that it was interrupted."""
    path = str(ledger.path)
    functions: dict[str, Any] = {"async": charge, "thread": charge_in_thread, "process": charge_in_process}

    @kagzi.workflow("buy")
    async def buy(ctx: WorkflowContext, purchase: Purchase) -> str:
        once = ctx.options(semantics="at_most_once", reconcile=find if purchase.reconciles else None)
        try:
            token: str = await once.step("charge", functions[purchase.kind], path, _Gated(purchase.gate), purchase)
        except StepInterrupted:
            return INTERRUPTED
        return token

    return buy
