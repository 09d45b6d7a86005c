"""Replaying stored runs against the code at hand, to see before a deploy whether it fits. Reads, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kagzi.authoring.definitions import Definition
from kagzi.client.link import Link
from kagzi.engine.replaying import replay
from kagzi.errors import KagziError, RunNotFound
from kagzi.model.claim import Claim
from kagzi.model.run import TERMINAL, RunFilter, RunId, RunStatus, StoredRun

T = TypeVar("T")

_PAGE = 100
_OPEN = (RunStatus.SLEEPING, RunStatus.PENDING, RunStatus.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of one run's replay.

    `error` says why the code doesn't fit; `is_known` is False where the application has no such version, so that
    nothing was replayed.
    """

    run_id: str
    workflow: str
    version: int
    operations: int
    is_known: bool = True
    error: Exception | None = None

    @property
    def fits(self) -> bool:
        """Whether the run was replayed without a difference."""
        return self.is_known and self.error is None

    @property
    def reason(self) -> str:
        """Why it doesn't fit, in one or more lines; nothing where it does."""
        if not self.is_known:
            return f"this application has no version {self.version} of workflow {self.workflow!r}"
        if self.error is None:
            return ""
        return str(self.error) if isinstance(self.error, KagziError) else f"{type(self.error).__name__}: {self.error}"


async def replay_runs(link: Link, run_ids: Sequence[str]) -> AsyncIterator[Replayed]:
    """Replay these runs, open or ended, one after the other. Raises RunNotFound."""
    for run_id in run_ids:
        stored = await link.store.get(RunId(run_id))
        if stored is None:
            raise RunNotFound(run_id)
        async for replayed in _replay_all(link, [stored]):
            yield replayed


async def replay_open(link: Link, *, workflow: str | None = None) -> AsyncIterator[Replayed]:
    """Replay every open run, a page at a time, newest first within each status."""
    for status in _OPEN:
        cursor: RunId | None = None
        while True:
            wanted = RunFilter(
                namespace=link.settings.namespace, status=status, workflow=workflow, cursor=cursor, limit=_PAGE
            )
            page = await link.store.find(wanted)
            async for replayed in _replay_all(link, page):
                yield replayed
            if len(page) < _PAGE:
                break
            cursor = page[-1].run_id


async def _replay_all(link: Link, runs: Sequence[StoredRun]) -> AsyncIterator[Replayed]:
    ended = {run.run_id: run for run in runs if run.status in TERMINAL}
    for claim in await link.store.recall([run.run_id for run in runs]):
        replayed = await _replay(link, claim, ended.get(claim.run_id))
        if replayed.error is not None:
            # What is read of a run that is being executed may be of two moments: only what shows twice counts.
            for again in await link.store.recall([claim.run_id]):
                replayed = await _replay(link, again, ended.get(claim.run_id))
        yield replayed


async def _replay(link: Link, claim: Claim, ended: StoredRun | None) -> Replayed:
    known = link.definitions.versions(claim.workflow) if link.definitions.knows(claim.workflow) else {}
    definition = known.get(claim.version)
    error = None
    if definition is not None:
        error = await _in_callback(lambda: _why_not(link, claim, definition, ended))
    return Replayed(
        run_id=claim.run_id,
        workflow=claim.workflow,
        version=claim.version,
        operations=len(claim.history),
        is_known=definition is not None,
        error=error,
    )


def _why_not(link: Link, claim: Claim, definition: Definition, ended: StoredRun | None) -> Exception | None:
    try:
        replay(claim, definition, link.payloads, ended=ended)
    except Exception as error:
        return error
    return None


async def _in_callback(function: Callable[[], T]) -> T:
    """A workflow's loop must not be drained inside a task of this one (engine/loop.py)."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        try:
            done.set_result(function())
        except BaseException as error:
            done.set_exception(error)

    loop.call_soon(call)
    return await done
