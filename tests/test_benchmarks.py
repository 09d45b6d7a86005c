from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks.measurement import Measurement

ROOT = Path(__file__).parents[1]


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_refuses_a_workload_that_there_is_not() -> None:
    done = benchmarks("w0")

    assert done.returncode == 2
    assert "'w0' is not one of" in done.stderr


def test_a_url_without_its_store_is_refused() -> None:
    done = benchmarks("w1", "--url", "postgresql://localhost/postgres")

    assert done.returncode == 2
    assert "--url needs one --store" in done.stderr


def test_a_small_w1_is_measured_on_sqlite() -> None:
    done = benchmarks("w1", "--store", "sqlite", "--runs", "6", "--steps", "2", "--slots", "3", "--json")

    assert done.returncode == 0, done.stderr
    measurement = msgspec.json.decode(done.stdout, type=Measurement)
    runs, steps = measurement.answer.figures
    assert runs.value > 0
    assert steps.value == 2 * runs.value
    # A claim, a checkpoint and a completion at the least, whatever was grouped.
    assert (measurement.answer.costs.transactions or 0) >= 3
    assert measurement.limits.commits_per_s > 0


def test_a_small_w9_is_measured_on_sqlite() -> None:
    done = benchmarks("w9", "--store", "sqlite", "--runs", "1", "--steps", "200", "--json")

    assert done.returncode == 0, done.stderr
    measurement = msgspec.json.decode(done.stdout, type=Measurement)
    *curve, growth = measurement.answer.figures
    assert growth.value == curve[0].value / curve[1].value
    assert [figure.name for figure in curve] == [f"{size} branches, each" for size in (200, 20, 2)]


def test_a_small_w10_is_measured_on_sqlite() -> None:
    done = benchmarks("w10", "--store", "sqlite", "--runs", "3", "--json")

    assert done.returncode == 0, done.stderr
    measurement = msgspec.json.decode(done.stdout, type=Measurement)
    p50, p99, back = measurement.answer.figures
    assert 0 < p50.value <= p99.value
    assert p50.value < back.value
