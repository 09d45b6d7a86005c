"""What a worker's process tells those who watch over it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING

from kagzi.rules.readiness import why_not_alive, why_not_ready
from kagzi.settings import Settings
from kagzi.worker.health_port import HealthPort, Reply

if TYPE_CHECKING:
    from kagzi.worker.worker import Worker

LIVENESS, READINESS = "/healthz", "/readyz"


class Vitals:
    """Answers for one worker, from what it knows of itself: no question to the database."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def answer(self, path: str) -> Reply | None:
        """Tell whether the worker is alive, or ready; None for any other path."""
        worker = self._worker
        if path == LIVENESS:
            reasons = why_not_alive(worker.state)
        elif path == READINESS:
            reasons = why_not_ready(
                worker.state,
                holds_lease=worker.may_start_steps,
                silent_for=worker.silent_for,
                heartbeat_interval=worker.config.heartbeat_interval,
            )
        else:
            return None
        return Reply.because(reasons, worker_id=worker.worker_id, state=worker.state)


def health_port(worker: Worker, settings: Settings) -> AbstractAsyncContextManager[object]:
    """Answer for a worker on the port of the settings; nowhere, where that is 0."""
    if not settings.health_port:
        return nullcontext()
    return HealthPort(Vitals(worker).answer, host=settings.health_host, port=settings.health_port)
