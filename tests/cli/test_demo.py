"""`kagzi demo`: a worker dies before the reader's eyes, and every step is executed exactly once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kagzi.cli.demo.stage import STEPS, Execution, Ledger, judge
from tests.cli.commands import ROOT, environment, kagzi


@pytest.mark.slow
def test_make_demo_shows_the_crash_and_the_result(sqlite_url: str) -> None:
    # Without the set-up, which may be that of another environment than the one these tests run in.
    make = ["make", "--no-print-directory", "--old-file=setup", f"BIN={Path(sys.executable).parent}", "demo"]

    done = subprocess.run(
        make, cwd=ROOT, env=environment(sqlite_url), capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill -9" in done.stdout
    assert "come from the record: not executed again" in done.stdout
    assert '"Ada Lovelace has been welcomed"' in done.stdout
    assert "Every step was executed exactly once" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.slow
def test_the_demo_tells_programs_what_happened(any_database_url: str) -> None:
    done = kagzi("demo", "--json", "--database-url", any_database_url, url="sqlite://")

    events = [json.loads(line) for line in done.stdout.splitlines()]
    by_name = {event["event"]: event for event in events}
    first, second = [event["pid"] for event in events if event["event"] == "worker"]
    assert done.returncode == 0, done.stderr
    assert by_name["kill"]["pid"] == first
    assert by_name["takeover"]["kept"] == ["find-customer", "write-letter"]
    assert by_name["awake"]["slept_s"] >= 5
    assert by_name["verdict"] == {
        "event": "verdict",
        "exactly_once": True,
        "executions": {
            "find-customer": [first],
            "write-letter": [first],
            "send-email": [second],
            "tell-sales": [second],
        },
    }


def test_a_step_executed_twice_is_not_passed_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    for step in (*STEPS, "send-email"):
        ledger.enter(step, pid=1)

    verdict = judge("Ada Lovelace has been welcomed", ledger.read(), name="Ada Lovelace")

    assert not verdict.holds


def test_a_step_never_executed_is_not_passed_over() -> None:
    ledger = [Execution(step=step, pid=1) for step in STEPS[:-1]]

    assert not judge("Ada Lovelace has been welcomed", ledger, name="Ada Lovelace").holds


def test_a_wrong_result_is_not_passed_over() -> None:
    ledger = [Execution(step=step, pid=1) for step in STEPS]

    assert judge("Ada Lovelace has been welcomed", ledger, name="Ada Lovelace").holds
    assert not judge("Bob has been welcomed", ledger, name="Ada Lovelace").holds
