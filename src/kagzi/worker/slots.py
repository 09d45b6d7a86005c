"""The runs that a worker has in memory, or is about to have."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from kagzi.authoring.definitions import Definitions
from kagzi.engine.execution import Execution
from kagzi.engine.host import Host
from kagzi.model.claim import Claim
from kagzi.model.run import RunId
from kagzi.worker.suspects import WAITS, Suspects

logger = logging.getLogger("kagzi.worker")


class Slots:
    """At most `limit` runs. A slot is taken by a run that is expected or executed, and free once it has left memory."""

    def __init__(self, host: Host, definitions: Definitions, suspects: Suspects, *, limit: int) -> None:
        self._host = host
        self._definitions = definitions
        self._suspects = suspects
        self._limit = limit
        self._executions: dict[RunId, Execution] = {}
        self._expected: set[RunId] = set()
        self._claimed_again: dict[RunId, Claim] = {}
        self._changed = asyncio.Event()

    @property
    def free(self) -> int:
        """How many more runs may be taken."""
        return self._limit - len(self._executions) - len(self._expected)

    @property
    def count(self) -> int:
        """How many runs are executed."""
        return len(self._executions)

    @property
    def is_writing(self) -> bool:
        """Whether a run is expected, or has something on its way to the store."""
        return bool(self._expected) or any(execution.is_writing for execution in self._executions.values())

    def knows(self, run_id: RunId) -> bool:
        """Whether a run is executed or expected."""
        return run_id in self._executions or run_id in self._expected

    def executions(self) -> Iterable[Execution]:
        """The executions at this moment; they may end while they are walked through."""
        return tuple(self._executions.values())

    # -- coming and going --------------------------------------------------------------------------------------

    def expect(self, run_id: RunId) -> None:
        """Keep a slot for a run that is about to be started here."""
        self._expected.add(run_id)

    def expect_no_more(self, run_id: RunId) -> None:
        """Give a slot back that was kept."""
        self._expected.discard(run_id)
        self._changed.set()

    def take(self, claim: Claim, *, draining: bool) -> None:
        """Execute a claimed run, or give it back where the worker drains. A plain callback only."""
        if claim.run_id in self._executions:
            # Due again before we heard that its park is committed: it goes on when that answer is here. Or it was
            # ended from outside, and goes on by hand, before we heard of the end.
            self._claimed_again[claim.run_id] = claim
            self._executions[claim.run_id].gone()
            return
        try:
            execution = Execution(self._host, claim, self._definitions.get(claim.workflow, claim.version))
            self._executions[claim.run_id] = execution
            if draining:
                execution.release()
            elif not self._suspects.admits(claim, execution):
                execution.postpone(self._suspects.pause(), waits=WAITS)
            else:
                execution.begin()
        except Exception:
            # P23: one run that can't even be begun must not stop the others. It is given back as a stray.
            logger.exception("A run could not be begun.", extra={"run_id": claim.run_id})
            self._executions.pop(claim.run_id, None)

    def leave(self, run_id: RunId) -> Claim | None:
        """A run has left memory; returns the claim that came for it meanwhile."""
        self._executions.pop(run_id, None)
        self._changed.set()
        return self._claimed_again.pop(run_id, None)

    def drop_all(self) -> None:
        """Forget every run without writing anything: they belong to others. A plain callback only."""
        self._expected.clear()
        self._claimed_again.clear()
        for execution in self.executions():
            execution.drop()

    # -- waiting -----------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether no run is executed."""
        return not self._executions

    async def emptied(self) -> None:
        """Wait until no run is executed or expected."""
        await asyncio.sleep(0)  # what was handed to a callback comes first
        while self._executions or self._expected:
            self._changed.clear()
            await self._changed.wait()
