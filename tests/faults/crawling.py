"""A workflow with one long step that tells how far it is, and a ledger of what it told and when."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kagzi import Kagzi, Workflow, WorkflowContext, step, step_info
from tests.faults.ledger import Execution, Ledger

BEGAN = "began after"
TOLD = "told"


@dataclass(frozen=True)
class Site:
    """How many pages there are, and how long one takes."""

    kind: str = "thread"
    pages: int = 100
    page_s: float = 0.03


def crawl(path: str, site: Site) -> int:
    """Read one page after the other, from where the last execution was."""
    info, ledger = step_info(), Ledger(Path(path))
    read: int = info.heartbeat_details or 0
    _note(ledger, BEGAN, read)
    while read < site.pages:
        time.sleep(site.page_s)
        read += 1
        info.heartbeat(read)
        _note(ledger, TOLD, read)
    ledger.close()
    return read


@step(executor="process")
def crawl_in_process(path: str, site: Site) -> int:
    """The same in a process."""
    return crawl(path, site)


def _note(ledger: Ledger, what: str, page: int) -> None:
    info = step_info()
    ledger.append(
        Execution(
            run_id=info.run_id,
            step_id=info.step_id,
            attempt=info.attempt,
            pid=os.getpid(),
            token=str(page),
            before=what,
            at=time.monotonic(),
        )
    )


def register_crawl(kagzi: Kagzi, ledger: Ledger) -> Workflow[[Site], int]:
    """Register `crawl`."""
    functions: dict[str, Any] = {"thread": crawl, "process": crawl_in_process}
    path = str(ledger.path)

    @kagzi.workflow("crawl")
    async def index(ctx: WorkflowContext, site: Site) -> int:
        pages: int = await ctx.step("crawl", functions[site.kind], path, site)
        return pages

    return index
