"""`kagzi worker`: execute an application's runs, in this process or in several under a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from kagzi.cli import logs
from kagzi.cli.errors import Refused
from kagzi.cli.options import common_options, database_url, wants_json

if TYPE_CHECKING:
    from kagzi.app.kagzi import Kagzi
    from kagzi.worker.worker import Worker

_THREADS_END_S = 0.2
STDIN = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOrder:
    """What `kagzi worker` was asked for; None leaves a choice to the application."""

    target: str
    queues: tuple[str, ...] = ()
    concurrency: int | None = None
    processes: int = 1
    worker_id: str | None = None
    shutdown_timeout: float | None = None
    log_level: str = "info"
    log_format: str = logs.HUMAN
    supervised: bool = False


@click.command()
@click.argument("target", metavar="MODULE:APP")
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="A queue to take runs from; can be repeated.")
@click.option("--concurrency", type=click.IntRange(min=1), metavar="N", help="Runs to execute at a time.")
@click.option("--processes", type=click.IntRange(min=1), default=1, metavar="N", help="Processes, each a worker.")
@click.option("--worker-id", metavar="NAME", help="The worker's name; with several processes a number is added.")
@click.option(
    "--shutdown-timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long steps may take to finish once the worker is asked to stop.",
)
@click.option("--log-level", type=click.Choice(logs.LEVELS), default="info", show_default=True)
@click.option("--log-format", type=click.Choice([logs.HUMAN, logs.JSON]), default=logs.HUMAN, show_default=True)
@click.option("--supervised", is_flag=True, hidden=True)
@common_options
def worker(**given: Any) -> None:
    """Execute the runs of an application.

    MODULE:APP names it, such as `shop.flows:kagzi`; MODULE alone will do where it holds only one.

    SIGTERM and SIGINT drain: steps that are executing finish and are recorded, everything else is given back at once.
    A second signal stops at once.
    """
    if wants_json():
        given["log_format"] = logs.JSON
    order = WorkerOrder(**given)
    logs.configure_logs(log_format=order.log_format, level=order.log_level)
    from kagzi.cli.application import load_application

    application = load_application(order.target, database_url=database_url())
    with _usage_errors():
        first = _make_worker(application, order)
    if order.processes > 1:
        from kagzi.cli.supervisor import supervise

        timeout_s = first.config.graceful_shutdown_timeout.total_seconds()
        sys.exit(supervise(order, database_url=database_url(), graceful_timeout_s=timeout_s))
    _run_and_leave(_work(first, order))


def _make_worker(application: Kagzi, order: WorkerOrder) -> Worker:
    return application.create_worker(
        worker_id=order.worker_id,
        queues=list(order.queues) or None,
        max_concurrent_workflows=order.concurrency,
        graceful_shutdown_timeout=order.shutdown_timeout,
    )


@contextlib.contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        raise Refused(str(error)) from error


async def _work(worker: Worker, order: WorkerOrder) -> None:
    # Idle threads of asyncio.to_thread must not hold up the end, so the pool is one that we can let go of.
    threads = ThreadPoolExecutor(thread_name_prefix="kagzi-thread")
    asyncio.get_running_loop().set_default_executor(threads)
    if order.supervised:
        asyncio.get_running_loop().add_reader(STDIN, _stop_with_supervisor, worker)
    try:
        await worker.start()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _stop_with_supervisor(worker: Worker) -> None:
    """The supervisor holds the other end of stdin and never writes: the end of it is the supervisor's."""
    asyncio.get_running_loop().remove_reader(STDIN)
    logging.getLogger("kagzi.worker").warning("The supervisor is gone; the worker drains.")
    worker.stop()


def _run_and_leave(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end on the fastest event loop there is, then leave even if a step's thread is still running."""
    loop = _new_loop()
    try:
        loop.run_until_complete(main)
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
    if not _threads_ended():
        logging.getLogger("kagzi.worker").warning("A step's thread is still running; the process leaves without it.")
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # Python itself would wait for the thread


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _threads_ended() -> bool:
    """Whether the threads that execute steps end by themselves, as idle ones do at once."""
    deadline = time.monotonic() + _THREADS_END_S
    ours = [each for each in threading.enumerate() if each.name.startswith("kagzi-") and not each.daemon]
    for thread in ours:
        thread.join(max(deadline - time.monotonic(), 0.0))
    return not any(thread.is_alive() for thread in ours)
