"""`kagzi worker`: execute an application's runs, in this process or in several under a supervisor."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from kagzi.cli import logs
from kagzi.cli.errors import Refused
from kagzi.cli.options import common_options, database_url, wants_json

if TYPE_CHECKING:
    from kagzi.app.kagzi import Kagzi
    from kagzi.worker.worker import Worker


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
    health_port: int | None = None
    health_host: str | None = None
    supervised: bool = False
    health_socket: str | None = None


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
@click.option(
    "--health-port",
    type=click.IntRange(0, 65_535),
    metavar="N",
    help="Answer /healthz and /readyz by HTTP on this port, for all processes; 0: don't.",
)
@click.option("--health-host", metavar="ADDRESS", help="Where the health port listens; otherwise on 0.0.0.0.")
@click.option("--supervised", is_flag=True, hidden=True)
@click.option("--health-socket", hidden=True)
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
    order = _settle_health_port(application, order)
    with _usage_errors():
        first = _make_worker(application, order)
    if order.processes > 1:
        from kagzi.cli.supervisor import supervise

        timeout_s = first.config.graceful_shutdown_timeout.total_seconds()
        sys.exit(supervise(order, database_url=database_url(), graceful_timeout_s=timeout_s))
    from kagzi.cli.serving import serve

    serve(first, supervised=order.supervised, health_socket=order.health_socket)


def _settle_health_port(application: Kagzi, order: WorkerOrder) -> WorkerOrder:
    """What was asked for goes before the application's settings. A supervisor answers for its processes."""
    settings = application.settings
    port = settings.health_port if order.health_port is None else order.health_port
    host = settings.health_host if order.health_host is None else order.health_host
    application.settings = replace(settings, health_port=0 if order.supervised else port, health_host=host)
    return replace(order, health_port=port, health_host=host)


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
