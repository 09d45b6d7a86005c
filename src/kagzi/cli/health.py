"""`kagzi health`: how the database, the workers and the queues are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kagzi.cli.errors import FAILED, Refused
from kagzi.cli.options import common_options, complete, current_settings, wants_json
from kagzi.cli.output import echo_json, echo_table, printable, status_text

if TYPE_CHECKING:
    from datetime import timedelta

    from kagzi.model.health import DatabaseHealth, HealthCheckConfig, HealthReport, QueueHealth, WorkerHealth
    from kagzi.settings import Settings

_SECONDS = click.FloatRange(min=0)


@click.command()
@click.option("--min-workers", type=click.IntRange(min=0), metavar="N", help="Fewer that take runs are unhealthy.")
@click.option("--heartbeat-warning", type=_SECONDS, metavar="SECONDS", help="A worker silent for so long is degraded.")
@click.option("--heartbeat-timeout", type=_SECONDS, metavar="SECONDS", help="And for so long unhealthy.")
@click.option("--waiting-warning", type=_SECONDS, metavar="SECONDS", help="A due run that waits so long degrades.")
@click.option("--waiting-timeout", type=_SECONDS, metavar="SECONDS", help="And so long is unhealthy.")
@click.option("--timeout", type=_SECONDS, metavar="SECONDS", help="How long the database may take to answer.")
@common_options
@click.pass_context
def health(ctx: click.Context, /, **given: float | None) -> None:
    """Say how the database, the workers and the queues are.

    Exit status 1 where something is UNHEALTHY, a database that does not answer included; what is DEGRADED works.
    """
    from kagzi.model.health import HealthCheckConfig, HealthStatus

    bounds: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        config = HealthCheckConfig(**bounds)
    except ValueError as error:
        raise Refused(str(error)) from error
    report = complete(_examine(current_settings(), config))
    if wants_json():
        echo_json(report.to_dict())
    else:
        _show(report)
    if report.status is HealthStatus.UNHEALTHY:
        ctx.exit(FAILED)


async def _examine(settings: Settings, config: HealthCheckConfig) -> HealthReport:
    import asyncio
    from dataclasses import replace

    from kagzi.app.health import Examination
    from kagzi.errors import MigrationError, StoreUnavailable
    from kagzi.rules.health import unreachable, without_answers
    from kagzi.store.urls import open_store

    patience = min(settings.store_timeout, config.timeout)
    store = open_store(settings.database_url, replace(settings, store_timeout=patience, auto_migrate=False))
    try:
        async with asyncio.timeout(config.timeout.total_seconds()):
            await store.open()
    except (MigrationError, StoreUnavailable, TimeoutError) as error:
        reason = str(error) or f"the database could not be reached within {config.timeout.total_seconds():g} s"
        return without_answers(unreachable(reason))
    else:
        return await Examination(store, namespace=settings.namespace, config=config).everything()
    finally:
        await store.close()


# -- for people ----------------------------------------------------------------------------------------------------


def _show(report: HealthReport) -> None:
    click.echo(status_text(report.status))
    for reason in report.reasons:
        click.echo(f"  {printable(reason)}")
    click.echo()
    for name, value in _facts(report.database).items():
        click.echo(f"{name:<17}{value}")
    if report.workers:
        click.echo()
        headings = ("WORKER", "HEALTH", "STATE", "LAST HEARTBEAT", "RUNS", "LOOP LAG", "MEMORY")
        echo_table(headings, [_worker_row(worker) for worker in report.workers])
    if report.queues:
        click.echo()
        echo_table(("QUEUE", "HEALTH", "DUE", "OLDEST WAITS"), [_queue_row(queue) for queue in report.queues])
    if not report.complete:
        click.echo("There are more queues and workflows than are looked into here.")


def _facts(database: DatabaseHealth) -> dict[str, str]:
    """What is known of the database."""
    facts = {"database": status_text(database.status)}
    if database.latency is not None:
        facts["latency"] = _span(database.latency)
        facts["schema"] = f"migration {database.schema_current} of {database.schema_latest}"
    if database.clock_offset is not None:
        facts["clock offset"] = _span(database.clock_offset)
    if database.replication_lag is not None:
        facts["replication lag"] = _span(database.replication_lag)
    return facts


def _worker_row(worker: WorkerHealth) -> list[str]:
    load = worker.load
    ago = "" if worker.silent_for is None else f"{_span(worker.silent_for)} ago"
    return [
        worker.worker_id,
        worker.status,
        worker.state or "",
        ago,
        _number(load.get("runs")),
        _number(load.get("loop_lag_ms"), " ms"),
        _number(load.get("memory_mib"), " MiB"),
    ]


def _queue_row(queue: QueueHealth) -> list[str]:
    oldest = "" if queue.oldest_waiting is None else _span(queue.oldest_waiting)
    return [queue.queue, queue.status, queue.depth, oldest]


def _number(value: object, unit: str = "") -> str:
    return f"{value:,.0f}{unit}" if isinstance(value, int | float) else ""


def _span(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"{seconds * 1000:.1f} ms" if abs(seconds) < 1 else f"{seconds:,.1f} s"
