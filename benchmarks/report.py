"""Measurements for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.measurement import Costs, Figure, Limits, Measurement
from benchmarks.workloads import WORKLOADS


def title(measurement: Measurement) -> str:
    """What was done."""
    load = measurement.order.load
    return WORKLOADS[measurement.order.workload].title.format(runs=f"{load.runs:,}", steps=f"{load.steps:,}")


def print_one(console: Console, measurement: Measurement) -> None:
    """Print all that was found."""
    order, answer = measurement.order, measurement.answer
    console.print(f"[bold]{order.workload}[/] on {order.store}: {title(measurement)}")
    table = Table.grid(padding=(0, 2))
    for figure in answer.figures:
        table.add_row("", figure.name, _amount(figure.value, figure.unit), _target(figure), _beside_limit(figure))
    console.print(table)
    for line in (_costs(answer.costs, answer.runs), _limits(measurement.limits), *answer.notes):
        console.print(f"  {line}", highlight=False)


def print_all(console: Console, measurements: Sequence[Measurement]) -> None:
    """Print a table with the first figure of each."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("", "workload", "store", "figure"):
        table.add_column(heading)
    for heading in (
        "measured",
        "target",
        "",
        "machine's limit",
        "share",
        "CPU ms/run",
        "peak MiB",
        "commits/run",
        "log kB/run",
    ):
        table.add_column(heading, justify="right")
    for measurement in measurements:
        for place, figure in enumerate(measurement.answer.figures):
            if place == 0 or figure.target is not None:
                table.add_row(*_row(measurement, figure, first=place == 0))
    console.print(table)


def _row(measurement: Measurement, figure: Figure, *, first: bool) -> list[str]:
    costs, runs = measurement.answer.costs, measurement.answer.runs
    cpu_s = costs.client_cpu_s + costs.worker_cpu_s + (costs.database_cpu_s or 0)
    spent = [
        f"{cpu_s * 1000 / runs:.2f}",
        _or_dash(costs.peak_mib, ".0f"),
        _or_dash(None if costs.transactions is None else costs.transactions / runs, ".2f"),
        _or_dash(None if costs.written_bytes is None else costs.written_bytes / runs / 1000, ".1f"),
    ]
    return [
        measurement.order.workload if first else "",
        title(measurement) if first else "",
        measurement.order.store,
        figure.name,
        _amount(figure.value, figure.unit),
        "" if figure.target is None else _amount(figure.target, figure.unit),
        {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[figure.is_reached],
        "" if figure.limit is None else _amount(figure.limit, figure.unit),
        "" if figure.share is None else f"{figure.share:.2f}",
        *(spent if first else [""] * len(spent)),
    ]


def _amount(value: float, unit: str) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{'' if unit.startswith('/') else ' '}{unit}"


def _target(figure: Figure) -> str:
    if figure.target is None:
        return ""
    word = "[green]reached[/]" if figure.is_reached else "[red]missed[/]"
    return f"target {_amount(figure.target, figure.unit)}: {word}"


def _beside_limit(figure: Figure) -> str:
    if figure.limit is None or figure.share is None:
        return ""
    return f"{figure.share:.2f} of the machine's {_amount(figure.limit, figure.unit)} ({figure.bare})"


def _costs(costs: Costs, runs: int) -> str:
    parts = [f"CPU: client {costs.client_cpu_s:.2f} s, workers {costs.worker_cpu_s:.2f} s"]
    if costs.database_cpu_s is not None:
        parts.append(f"server {costs.database_cpu_s:.2f} s")
    if costs.peak_mib is not None:
        parts.append(f"peak memory {costs.peak_mib:.0f} MiB")
    if costs.transactions is not None:
        parts.append(f"{costs.transactions:,} transactions ({costs.transactions / runs:.2f} a run)")
    if costs.written_bytes is not None:
        parts.append(f"{costs.written_bytes / runs / 1000:.1f} kB of log a run")
    return ", ".join(parts)


def _limits(limits: Limits) -> str:
    return (
        f"this machine, just before: {limits.commits_per_s:,.0f} single commits/s, {limits.rows_per_s:,.0f} rows/s in "
        f"hundreds, {limits.tasks_per_s:,.0f} asyncio tasks/s, {limits.idle_commit_s * 1000:.2f} ms for a commit "
        "after a pause"
    )


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
