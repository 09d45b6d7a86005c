"""`kagzi workers`: who executes runs, how they are, and having one drain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from kagzi.cli.errors import Failed, Refused
from kagzi.cli.options import common_options, complete, looking, wants_json
from kagzi.cli.output import echo_json, echo_table, printable

if TYPE_CHECKING:
    from datetime import timedelta

    from kagzi.model.worker import RegisteredWorker

_LOOK_S = 0.2


@click.group()
@common_options
def workers() -> None:
    """Look at workers, have them drain."""


@workers.command("list")
@click.option("--all", "ended", is_flag=True, help="Those that ended within a day, too.")
@common_options
def list_workers(ended: bool) -> None:
    """List the workers of all processes, latest first, with what their last heartbeat told."""
    found = complete(_find(ended=ended))
    if wants_json():
        echo_json({"workers": [_as_json(worker) for worker in found]})
        return
    if not found:
        click.echo("No workers.", err=True)
        return
    headings = ["WORKER", "STATE", "RUNS", "STEPS", "QUEUES", "LAG", "MEMORY", "HEARTBEAT", "PROCESS", "BUILD"]
    echo_table(headings, [_row(worker) for worker in found])


@workers.command()
@click.argument("which", metavar="ID")
@click.option("--wait", is_flag=True, help="Return once it has stopped.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait for this long at most.")
@common_options
def drain(which: str, wait: bool, timeout: float | None) -> None:
    """Have a worker finish the steps that it executes, give everything else back, and stop for good.

    ID is its name or the key of its registration, or the beginning of either. Its process ends with exit status 0; a
    `kagzi worker --processes` starts no other in its place.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout is for --wait: give both.")
    try:
        worker = complete(_drain(which, wait=wait, timeout=timeout))
    except ValueError as error:
        raise Refused(str(error)) from error
    if wants_json():
        echo_json(_as_json(worker))
    elif wait:
        click.echo(f"Worker {printable(worker.worker_id)} has stopped.")
    else:
        click.echo(f"Worker {printable(worker.worker_id)} was asked to drain.")


async def _find(*, ended: bool) -> list[RegisteredWorker]:
    async with looking() as kagzi:
        return await kagzi.find_workers(ended=ended)


async def _drain(which: str, *, wait: bool, timeout: float | None) -> RegisteredWorker:
    async with looking() as kagzi:
        worker = await kagzi.drain_worker(which)
        try:
            async with asyncio.timeout(timeout):
                while wait and not worker.has_ended:
                    await asyncio.sleep(_LOOK_S)
                    known = {each.key: each for each in await kagzi.find_workers(ended=True)}
                    worker = known[worker.key]
        except TimeoutError:
            raise Failed(
                f"worker {worker.worker_id!r} is {worker.state} and did not stop within {timeout:g} s; it goes on "
                "draining, and `kagzi workers list` shows how far it is."
            ) from None
    if worker.state == "DEAD":
        raise Failed(
            f"worker {worker.worker_id!r} was declared DEAD before it had drained; its runs have moved to others."
        )
    return worker


def _as_json(worker: RegisteredWorker) -> dict[str, Any]:
    """A worker with the keys of `kagzi.RegisteredWorker`."""
    from dataclasses import asdict

    return asdict(worker) | {"silent_for_s": worker.silent_for.total_seconds()}


def _row(worker: RegisteredWorker) -> list[str]:
    load = worker.load
    state = "asked to drain" if worker.drain_asked and worker.state in ("STARTING", "RUNNING") else worker.state
    return [
        worker.worker_id,
        state,
        f"{load.get('runs', 0)}/{worker.slots}",
        str(load.get("steps", 0)),
        ", ".join(worker.queues),
        _with_unit(load.get("loop_lag_ms"), "ms"),
        _with_unit(load.get("memory_mib"), "MiB"),
        _ago(worker.silent_for),
        f"{worker.host}:{worker.pid}",
        worker.build_id or "",
    ]


def _with_unit(value: object, unit: str) -> str:
    """Only numbers: what stands in the register may be from another release."""
    return f"{value:.0f} {unit}" if isinstance(value, int | float) else ""


def _ago(span: timedelta) -> str:
    seconds = span.total_seconds()
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"
