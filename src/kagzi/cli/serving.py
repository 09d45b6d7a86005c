"""A worker in this process, from its start until the process leaves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from kagzi.app.event_loops import new_event_loop
from kagzi.cli.child import RETIRED
from kagzi.clock import monotonic
from kagzi.model.worker import WorkerState
from kagzi.worker import garbage
from kagzi.worker.health_port import HealthPort
from kagzi.worker.vitals import Vitals
from kagzi.worker.worker import Worker

logger = logging.getLogger("kagzi.worker")

_THREADS_END_S = 0.2
_STDIN = 0


def serve(worker: Worker, *, supervised: bool, health_socket: str | None = None) -> None:
    """Run a worker to its end on the fastest event loop there is, then leave even if a step's thread is still running.

    `supervised`: stdin is a pipe to whoever keeps this process (child.py), and the exit status of a worker that was
    asked to drain is RETIRED. `health_socket`: a file where it asks how
    the worker is.
    """
    garbage.tune()
    loop = new_event_loop()
    status = 0
    try:
        loop.run_until_complete(_work(worker, supervised=supervised, health_socket=health_socket))
        loop.run_until_complete(loop.shutdown_asyncgens())
        if supervised and worker.is_retired:
            status = RETIRED
    except Exception:
        if _threads_ended():
            raise
        logger.exception("The worker failed.")
        status = 1
    finally:
        loop.close()
    if not _threads_ended():
        logger.warning("A step's thread is still running; the process leaves without it.")
        _leave(status)
    if status:
        sys.exit(status)


def _leave(status: int) -> NoReturn:
    """End the process now: Python itself would wait for its threads."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


async def _work(worker: Worker, *, supervised: bool, health_socket: str | None) -> None:
    # Idle threads of asyncio.to_thread must not hold up the end, so the pool is one that we can let go of.
    threads = ThreadPoolExecutor(thread_name_prefix="kagzi-thread")
    asyncio.get_running_loop().set_default_executor(threads)
    if supervised:
        worker.signals_hurry = False
        asyncio.get_running_loop().add_reader(_STDIN, _hear, worker)
    asked = HealthPort(Vitals(worker).answer, path=health_socket) if health_socket else contextlib.nullcontext()
    try:
        async with asked:
            await worker.start()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _hear(worker: Worker) -> None:
    """Whoever keeps this process holds the other end of stdin: what is written is in a hurry, and its end is theirs."""
    if os.read(_STDIN, 64):
        worker.stop()
        worker.stop()
        return
    asyncio.get_running_loop().remove_reader(_STDIN)
    if worker.state in (WorkerState.STARTING, WorkerState.RUNNING):
        logger.warning("The supervisor is gone; the worker drains.")
        worker.drain()


def _threads_ended() -> bool:
    """Whether the threads that execute steps end by themselves, as idle ones do at once."""
    deadline = monotonic() + _THREADS_END_S
    ours = [each for each in threading.enumerate() if each.name.startswith("kagzi-") and not each.daemon]
    for thread in ours:
        thread.join(max(deadline - monotonic(), 0.0))
    return not any(thread.is_alive() for thread in ours)
