"""Several worker processes, each replaced when it dies.

Each process has the read end of a pipe as its stdin, whose other end only the supervisor holds: should the supervisor
be killed, its workers read the end of it, drain and leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from asyncio.subprocess import PIPE, Process
from typing import TYPE_CHECKING

from kagzi.cli.fleet_health import FleetHealth
from kagzi.clock import monotonic
from kagzi.worker.signals import stop_on_signals

if TYPE_CHECKING:
    from kagzi.cli.worker import WorkerOrder

logger = logging.getLogger("kagzi.supervisor")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 30.0
_HEALTHY_S = 10.0
"""A process that lived for so long is replaced without a pause, whatever befell its predecessors."""
_GRACE_S = 15.0
"""What a worker gets on top of its own timeout to give its runs back and sign off."""


def supervise(order: WorkerOrder, *, database_url: str | None, graceful_timeout_s: float) -> int:
    """Keep `order.processes` worker processes running until SIGTERM or SIGINT; returns the exit status.

    A signal is passed on, and what has not left by `graceful_timeout_s` and some seconds is killed. A second signal
    is passed on as well: the workers then stop at once. The status is 1 where one of them did not leave properly.
    """
    supervisor = Supervisor(order, database_url=database_url, deadline_s=graceful_timeout_s + _GRACE_S)
    return asyncio.run(supervisor.run())


class Supervisor:
    """The processes and what they are asked to do."""

    def __init__(self, order: WorkerOrder, *, database_url: str | None, deadline_s: float) -> None:
        self._order = order
        self._database_url = database_url
        self._deadline_s = deadline_s
        self._processes: dict[int, Process] = {}
        self._stopping = asyncio.Event()
        self._status = 0
        self._health: FleetHealth | None = None
        if order.health_port:
            self._health = FleetHealth(
                host=order.health_host or "",
                port=order.health_port,
                count=order.processes,
                running=self._processes.keys,
                stopping=self._stopping.is_set,
            )

    async def run(self) -> int:
        """Keep the processes until a signal comes."""
        with stop_on_signals(self.stop):
            async with self._health or contextlib.nullcontext(), asyncio.TaskGroup() as group:
                for number in range(1, self._order.processes + 1):
                    group.create_task(self._keep(number))
        return self._status

    def stop(self) -> None:
        """Pass a signal on to every process."""
        if not self._stopping.is_set():
            logger.info("The workers are asked to stop.", extra={"processes": len(self._processes)})
        self._stopping.set()
        for process in self._processes.values():
            _send(process, signal.SIGTERM)

    async def _keep(self, number: int) -> None:
        """Keep one process running, with a pause before each new one that grows while they die young."""
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = monotonic()
            status = await self._run_one(number)
            if self._stopping.is_set():
                self._judge(number, status)
                return
            pause_s = _FIRST_PAUSE_S if monotonic() - began >= _HEALTHY_S else pause_s
            logger.warning(
                "A worker process ended; it is replaced.",
                extra={"number": number, "status": status, "pause_s": round(pause_s, 1)},
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _run_one(self, number: int) -> int:
        # A group of its own: Ctrl-C reaches the supervisor alone, which passes it on once.
        process = await asyncio.create_subprocess_exec(*self._command(number), stdin=PIPE, process_group=0)
        self._processes[number] = process
        logger.info("A worker process runs.", extra={"number": number, "pid": process.pid})
        if self._stopping.is_set():
            _send(process, signal.SIGTERM)
        try:
            return await self._ended(number, process)
        finally:
            del self._processes[number]

    async def _ended(self, number: int, process: Process) -> int:
        """Wait for the process; once it is asked to stop, only until the deadline."""
        ended = asyncio.ensure_future(process.wait())
        asked = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        await asyncio.wait({ended}, timeout=self._deadline_s)
        if not ended.done():
            logger.error("A worker process did not stop in time; it is killed.", extra={"number": number})
            _send(process, signal.SIGKILL)
        return await ended

    def _judge(self, number: int, status: int) -> None:
        # SIGTERM's own death befalls a process that was asked before it could listen.
        if status not in (0, -signal.SIGTERM):
            logger.error("A worker process did not stop properly.", extra={"number": number, "status": status})
            self._status = 1

    def _command(self, number: int) -> list[str]:
        order = self._order
        command = [sys.executable, "-m", "kagzi.cli.main", "worker", "--supervised"]
        command += ["--log-level", order.log_level, "--log-format", order.log_format]
        if order.worker_id is not None:
            command += ["--worker-id", f"{order.worker_id}-{number}"]
        if order.concurrency is not None:
            command += ["--concurrency", str(order.concurrency)]
        if order.shutdown_timeout is not None:
            command += ["--shutdown-timeout", str(order.shutdown_timeout)]
        if self._database_url is not None:
            command += ["--database-url", self._database_url]
        if self._health is not None:
            command += ["--health-socket", self._health.socket(number)]
        for queue in order.queues:
            command += ["--queue", queue]
        return [*command, "--", order.target]


def _send(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        process.send_signal(number)
