"""`python -m benchmarks [WORKLOAD]...`: measure, print each figure beside its target and the machine's own limit."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from contextlib import ExitStack

import click
import msgspec
from rich.console import Console

from benchmarks.databases import POSTGRES, SQLITE, postgres_server
from benchmarks.measurement import Measurement, Order
from benchmarks.report import print_all, print_one
from benchmarks.workloads import WORKLOADS


@click.command(epilog="Without a name, everything is measured on both stores. docs/benchmarks.md says how.")
@click.argument("workloads", nargs=-1, type=click.Choice(list(WORKLOADS)), metavar="[w1..w10]...")
@click.option("--store", "stores", multiple=True, type=click.Choice([POSTGRES, SQLITE]), help="Both, if not given.")
@click.option("--url", help="A PostgreSQL server, or a SQLite file to be made; else one of our own. Needs --store.")
@click.option("--runs", type=click.IntRange(min=1), help="How many runs.")
@click.option("--steps", type=click.IntRange(min=1), help="How many steps each run has.")
@click.option("--slots", type=click.IntRange(min=1), help="How many runs a worker executes at a time (200).")
@click.option("--best-of", type=click.IntRange(min=1), default=1, show_default=True, help="Measure so often.")
@click.option("--json", "as_json", is_flag=True, help="Print measurements as JSON, one to a line.")
def main(
    workloads: tuple[str, ...],
    stores: tuple[str, ...],
    url: str | None,
    runs: int | None,
    steps: int | None,
    slots: int | None,
    best_of: int,
    as_json: bool,
) -> None:
    """Measure Kagzi's workloads W1 to W10."""
    if url is not None and len(stores) != 1:
        raise click.UsageError("--url needs one --store.")
    given = {name: value for name, value in {"runs": runs, "steps": steps, "slots": slots}.items() if value}
    orders = [
        Order(workload=name, store=store, url=url, load=dataclasses.replace(WORKLOADS[name].load, **given))
        for name in workloads or WORKLOADS
        for store in stores or (POSTGRES, SQLITE)
    ]
    console = Console(width=None if sys.stdout.isatty() else 200)
    measurements = []
    with ExitStack() as stack:
        server = None
        if url is None and any(order.store == POSTGRES for order in orders):
            server = stack.enter_context(postgres_server())
        for order in orders:
            if order.store == POSTGRES and url is None:
                order = dataclasses.replace(order, url=server)
            measurement = _best(order, best_of)
            measurements.append(measurement)
            if as_json:
                click.echo(msgspec.json.encode(_without_url(measurement)).decode())
            else:
                print_one(console, measurement)
    if not as_json and len(measurements) > 1:
        console.print()
        print_all(console, measurements)


def _best(order: Order, times: int) -> Measurement:
    best = _measure(order)
    for _ in range(times - 1):
        again = _measure(order)
        if again.answer.is_better_than(best.answer):
            best = again
    return best


def _measure(order: Order) -> Measurement:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.alone"],
        input=msgspec.json.encode(order),
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        raise click.ClickException(f"{order.workload} on {order.store} failed; its error is above.")
    return msgspec.json.decode(done.stdout, type=Measurement)


def _without_url(measurement: Measurement) -> Measurement:
    """It may hold a password."""
    return dataclasses.replace(measurement, order=dataclasses.replace(measurement.order, url=None))


if __name__ == "__main__":
    main()
