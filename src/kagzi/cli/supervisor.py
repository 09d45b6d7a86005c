"""Several worker processes, each replaced when it dies, unless it was asked to drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from dataclasses import replace

from kagzi.cli.child import GRACE_S, RETIRED, Child
from kagzi.cli.fleet_health import FleetHealth
from kagzi.cli.worker_order import WorkerOrder
from kagzi.clock import monotonic
from kagzi.worker.signals import stop_on_signals

logger = logging.getLogger("kagzi.supervisor")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 30.0
_HEALTHY_S = 10.0
"""A process that lived for so long is replaced without a pause, whatever befell its predecessors."""


def supervise(order: WorkerOrder, *, database_url: str | None, graceful_timeout_s: float) -> int:
    """Keep `order.processes` worker processes running until SIGTERM or SIGINT, or until each was asked to drain.

    A signal is passed on, and what has not left by `graceful_timeout_s` and some seconds is killed. A second signal
    is passed on as well: the workers then stop at once. The exit status is 1 where one did not leave properly.
    """
    supervisor = Supervisor(order, database_url=database_url, deadline_s=graceful_timeout_s + GRACE_S)
    return asyncio.run(supervisor.run())


class Supervisor:
    """The processes and what they are asked to do."""

    def __init__(self, order: WorkerOrder, *, database_url: str | None, deadline_s: float) -> None:
        self._order = order
        self._database_url = database_url
        self._deadline_s = deadline_s
        self._children: dict[int, Child] = {}
        self._kept = dict.fromkeys(range(1, order.processes + 1))
        self._stopping = asyncio.Event()
        self._status = 0
        self._health: FleetHealth | None = None
        if order.health_port:
            self._health = FleetHealth(
                host=order.health_host or "",
                port=order.health_port,
                wanted=self._kept.keys,
                running=self._children.keys,
                stopping=self._stopping.is_set,
            )

    async def run(self) -> int:
        """Keep the processes until a signal comes, or all of them were asked to drain."""
        with stop_on_signals(self.stop):
            async with self._health or contextlib.nullcontext(), asyncio.TaskGroup() as group:
                for number in tuple(self._kept):
                    group.create_task(self._keep(number))
        return self._status

    def stop(self) -> None:
        """Pass a signal on to every process."""
        if not self._stopping.is_set():
            logger.info("The workers are asked to stop.", extra={"processes": len(self._children)})
        self._stopping.set()
        for child in self._children.values():
            child.ask_to_stop()

    async def _keep(self, number: int) -> None:
        """Keep one process running, with a pause before each new one that grows while they die young."""
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = monotonic()
            status = await self._run_one(number)
            if self._stopping.is_set():
                self._judge(number, status)
                return
            if status == RETIRED:
                logger.info(
                    "A worker was asked to drain and has stopped; it is not replaced.", extra={"number": number}
                )
                del self._kept[number]
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
        child = self._children[number] = await Child.start(self._command(number))
        logger.info("A worker process runs.", extra={"number": number, "pid": child.pid})
        if self._stopping.is_set():
            child.ask_to_stop()
        try:
            if not await child.ended(unless=self._stopping) and not await child.ended_within(self._deadline_s):
                logger.error("A worker process did not stop in time; it is killed.", extra={"number": number})
                await child.kill()
            return await child.status()
        finally:
            del self._children[number]

    def _judge(self, number: int, status: int) -> None:
        # SIGTERM's own death befalls a process that was asked before it could listen.
        if status not in (0, RETIRED, -signal.SIGTERM):
            logger.error("A worker process did not stop properly.", extra={"number": number, "status": status})
            self._status = 1

    def _command(self, number: int) -> list[str]:
        name, health = self._order.worker_id, self._health
        order = replace(
            self._order,
            number=number,
            worker_id=None if name is None else f"{name}-{number}",
            health_socket=None if health is None else health.socket(number),
        )
        return order.command(database_url=self._database_url)
