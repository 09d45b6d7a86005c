"""A worker process that is started anew whenever a Python file changes, for development.

The application is imported by that process alone: whatever is wrong with it, its keeper goes on and waits for the next
change.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path

from kagzi.cli.child import GRACE_S, RETIRED, Child
from kagzi.cli.sources import Snapshot, Sources, sources_of
from kagzi.cli.worker_order import WorkerOrder
from kagzi.worker.signals import stop_on_signals

logger = logging.getLogger("kagzi.reload")

SHUTDOWN_TIMEOUT_S = 5.0
"""What steps get to finish where nothing else was asked for: who waits for new code does not want to wait for steps of
the old, which are executed again."""


def reload(order: WorkerOrder, *, database_url: str | None) -> int:
    """Keep a worker process, started anew when a file changes, until SIGTERM or SIGINT; returns the exit status.

    Raises Refused where the module is nowhere to be found.
    """
    sources = sources_of(order.target)
    if order.shutdown_timeout is None:
        order = replace(order, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    return asyncio.run(Reloader(order, sources, database_url=database_url).run())


class Reloader:
    """One worker process after another."""

    def __init__(self, order: WorkerOrder, sources: Sources, *, database_url: str | None) -> None:
        assert order.shutdown_timeout is not None
        self._command = order.command(database_url=database_url)
        self._deadline_s = order.shutdown_timeout + GRACE_S
        self._sources = sources
        self._stopping = asyncio.Event()
        self._child: Child | None = None

    def stop(self) -> None:
        """Pass a signal on to the worker, and start no other."""
        self._stopping.set()
        if self._child is not None:
            self._child.ask_to_stop()

    async def run(self) -> int:
        """Keep a process until a signal comes, or the worker was asked to drain."""
        logger.info("Python files are watched.", extra={"folders": [str(root) for root in self._sources.roots]})
        status = 0
        with stop_on_signals(self.stop):
            while not self._stopping.is_set() and status != RETIRED:
                # Looked at before the process reads them: what changes meanwhile is a change.
                files = self._sources.look()
                self._child = child = await Child.start(self._command, environment=_environment())
                if self._stopping.is_set():
                    child.ask_to_stop()
                await self._live(child, files)
                status = await self._end(child)
        return int(status == -signal.SIGKILL)

    async def _live(self, child: Child, files: Snapshot) -> None:
        """Let a process live until it is to end; where it has ended by itself, wait for a change."""
        changed = asyncio.ensure_future(self._sources.changed(files))
        stopping = asyncio.ensure_future(self._stopping.wait())
        ended = asyncio.ensure_future(child.status())
        try:
            await asyncio.wait({changed, stopping, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done() and not stopping.done():
                status = ended.result()
                if status == RETIRED:
                    logger.info("The worker was asked to drain and has stopped; it is not started again.")
                    return
                logger.warning("The worker ended. It is started again when a file changes.", extra={"status": status})
                await asyncio.wait({changed, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                files_changed = [_shown(path) for path in changed.result()]
                logger.info("Files changed; the worker is started anew.", extra={"files": files_changed})
        finally:
            for waiting in (changed, stopping, ended):
                waiting.cancel()

    async def _end(self, child: Child) -> int:
        """See to it that a process ends, and give its exit status."""
        if not self._stopping.is_set():  # or else it was asked already, and a second time would be in a hurry
            child.ask_to_stop()
        if not await child.ended_within(self._deadline_s):
            logger.error("The worker did not stop in time; it is killed.")
            await child.kill()
        return await child.status()


def _environment() -> dict[str, str]:
    # A compiled file is told from its source by whole seconds and the size: an edit soon after another could be missed.
    return os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}


def _shown(path: str) -> str:
    with contextlib.suppress(ValueError):
        return str(Path(path).relative_to(Path.cwd()))
    return path
