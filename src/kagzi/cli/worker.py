"""`kagzi worker`: execute an application's runs, in this process or in several under a supervisor."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from kagzi.cli import logs
from kagzi.cli.errors import Refused
from kagzi.cli.options import common_options, database_url, wants_json
from kagzi.cli.worker_order import WorkerOrder, worker_options

if TYPE_CHECKING:
    from kagzi.app.kagzi import Kagzi
    from kagzi.worker.worker import Worker


@click.command()
@click.argument("target", metavar="MODULE:APP")
@worker_options
@click.option("--processes", type=click.IntRange(min=1), default=1, metavar="N", help="Processes, each a worker.")
@click.option("--reload", is_flag=True, help="For development: start the worker anew when a .py file changes.")
@click.option("--migrate", is_flag=True, hidden=True)
@click.option("--supervised", is_flag=True, hidden=True)
@click.option("--number", type=int, hidden=True)
@click.option("--health-socket", hidden=True)
@common_options
def worker(**given: Any) -> None:
    """Execute the runs of an application.

    MODULE:APP names it, such as `shop.flows:kagzi`; MODULE alone will do where it holds only one.

    SIGTERM and SIGINT drain: steps that are executing finish and are recorded, everything else is given back at once.
    A second signal stops at once.
    """
    work(WorkerOrder(**given))


def work(order: WorkerOrder) -> None:
    """Carry out an order; returns or exits when the worker has stopped."""
    if order.reload and order.processes > 1:
        raise click.UsageError("--reload is for development and starts one process: leave out --processes.")
    if wants_json():
        order = replace(order, log_format=logs.JSON)
    logs.configure_logs(log_format=order.log_format, level=order.log_level, number=order.number)
    if order.reload:
        from kagzi.cli.reloading import reload

        sys.exit(reload(order, database_url=database_url()))
    from kagzi.cli.application import load_application

    application = load_application(order.target, database_url=database_url())
    if order.migrate:
        application.settings = replace(application.settings, auto_migrate=True)
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
    application.settings = replace(settings, health_port=0 if order.number else port, health_host=host)
    return replace(order, health_port=port, health_host=host)


def _make_worker(application: Kagzi, order: WorkerOrder) -> Worker:
    return application.create_worker(
        worker_id=order.worker_id,
        queues=list(order.queues) or None,
        max_concurrent_workflows=order.concurrency,
        max_concurrent_steps=order.steps,
        heartbeat_interval=order.heartbeat,
        lease=order.lease,
        poll_interval=order.poll,
        graceful_shutdown_timeout=order.shutdown_timeout,
    )


@contextlib.contextmanager
def _usage_errors() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        raise Refused(str(error)) from error
