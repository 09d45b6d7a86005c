"""The demo as it unfolds: a run, a worker that is killed, another that takes over, and what the ledger says."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from typing import Any

import click

from kagzi.app.kagzi import Kagzi
from kagzi.cli.demo.narrator import Narrator
from kagzi.cli.demo.processes import WorkerProcess
from kagzi.cli.demo.stage import LAST_STEP_BEFORE_THE_NAP, LEASE, NAP, STEPS, WORKFLOW, Stage, judge
from kagzi.cli.output import value_text
from kagzi.cli.watching import follow
from kagzi.client.handles import WorkflowHandle
from kagzi.model.run import Run, RunStatus
from kagzi.model.step import Step, StepKind

_NAME = "Ada Lovelace"
_KILL_AFTER_S = 1.5
_REPLACE_AFTER_S = 0.5
_PATIENCE_S = 60


class Play:
    """One performance."""

    def __init__(self, stage: Stage, narrator: Narrator) -> None:
        self._stage = stage
        self._narrator = narrator
        self._finished: dict[str, Step] = {}
        self._asleep = asyncio.Event()
        self._taken_over = False
        self._workers: list[WorkerProcess] = []

    async def perform(self) -> bool:
        """Play, and say whether everything went as promised."""
        try:
            async with asyncio.timeout(_PATIENCE_S), Kagzi(settings=self._stage.settings()) as kagzi:
                ended = await self._act(kagzi)
        except TimeoutError:
            click.echo(f"The demo took longer than {_PATIENCE_S} s. The logs of its workers:", err=True)
            click.echo(WorkerProcess.logs(self._stage), err=True)
            return False
        return self._conclude(ended)

    async def _act(self, kagzi: Kagzi) -> Run:
        handle = await kagzi.options(version=1).start_workflow(WORKFLOW, _NAME)
        self._narrator.tell("stored", f"run {handle.run_id} of {WORKFLOW}, for {_NAME}", run_id=handle.run_id)
        fate = asyncio.create_task(self._strike(await self._start_worker(1)))
        try:
            return await self._follow(handle)
        finally:
            fate.cancel()
            await asyncio.gather(fate, return_exceptions=True)
            await asyncio.gather(*[worker.send(signal.SIGTERM) for worker in self._workers])

    async def _start_worker(self, number: int) -> WorkerProcess:
        worker = await WorkerProcess.start(number, self._stage)
        self._workers.append(worker)
        self._narrator.tell("worker", f"{number} starts as process {worker.pid}", number=number, pid=worker.pid)
        return worker

    async def _strike(self, worker: WorkerProcess) -> None:
        await self._asleep.wait()
        await asyncio.sleep(_KILL_AFTER_S)
        await worker.send(signal.SIGKILL)
        self._narrator.tell(
            "kill",
            f"process {worker.pid} is dead: in the middle of the sleep, the run in its memory",
            pid=worker.pid,
        )
        await asyncio.sleep(_REPLACE_AFTER_S)
        await self._start_worker(2)

    # -- what is seen of the run ---------------------------------------------------------------------------------

    async def _follow(self, handle: WorkflowHandle[Any]) -> Run:
        run: Run | None = None
        async for news in follow(handle, pause_s=0.05):
            if isinstance(news, Step):
                self._tell_step(news)
            else:
                run = news
                if run.crashes and not self._taken_over:
                    self._tell_takeover()
        assert run is not None, "the run that has ended comes last"
        return run

    def _tell_step(self, step: Step) -> None:
        if step.finished_at is None:
            return
        self._finished[step.name] = step
        if step.kind is StepKind.TIMER:
            self._tell_awakening(step)
            return
        pids = [entry.pid for entry in self._stage.ledger.read() if entry.step == step.name]
        worked = ", ".join(map(str, pids))
        self._narrator.tell(
            "step",
            f"{step.name:<14}{step.status.lower()} by process {worked} -> {value_text(step.output, limit=48)}",
            step=step.name,
            pids=pids,
            output=step.output,
        )
        if step.name == LAST_STEP_BEFORE_THE_NAP:
            self._narrator.tell("sleep", f"for {NAP.total_seconds():g} s, durably", sleep_s=NAP.total_seconds())
            self._asleep.set()

    def _tell_awakening(self, timer: Step) -> None:
        began, ended = self._finished[LAST_STEP_BEFORE_THE_NAP].finished_at, timer.finished_at
        slept = ended - began if began is not None and ended is not None else timedelta()
        self._narrator.tell(
            "awake",
            f"{slept.total_seconds():.1f} s after the sleep began, as if nothing had happened",
            slept_s=round(slept.total_seconds(), 3),
        )

    def _tell_takeover(self) -> None:
        self._taken_over = True
        kept = [name for name in STEPS if name in self._finished]
        self._narrator.tell(
            "takeover",
            f"the dead worker's lease of {LEASE.total_seconds():g} s has run out; worker 2 goes on with the run.\n"
            f"{' and '.join(kept)} come from the record: not executed again",
            kept=kept,
        )

    # -- the end ---------------------------------------------------------------------------------------------------

    def _conclude(self, ended: Run) -> bool:
        if ended.status is not RunStatus.COMPLETED:
            reason = f"{ended.error.type}: {ended.error.message}" if ended.error is not None else "no reason given"
            self._narrator.tell("failed", f"the run ended {ended.status}, {reason}", status=ended.status)
            return False
        self._narrator.tell("result", value_text(ended.output), output=ended.output)
        verdict = judge(ended.output, self._stage.ledger.read(), name=_NAME)
        self._narrator.close(verdict, survived=self._taken_over)
        return verdict.holds and self._taken_over
