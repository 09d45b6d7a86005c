"""What `kagzi runs show`, `kagzi why` and `kagzi run --watch` tell of what failed and is executed again."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.cli.commands import a_worker, answer, called, wait_until

ERROR = r"ConnectionError: no \x1b[31manswer"


def a_run_that_waits(policy: str, url: str, *, status: str) -> dict[str, Any]:
    """Have a run's step fail once, and give what `runs show --json` says once the run waits."""
    called("run", "unlucky", "--input", f'"{policy}"', "--id", "unlucky", "--version", "1", "--detach", url=url)

    def waits() -> bool:
        run = answer("runs", "show", "unlucky", url=url)
        return run["status"] == status and any(", retrying at " in each for each in run["waiting_for"])

    with a_worker(url=url):
        wait_until(waits)
    shown: dict[str, Any] = answer("runs", "show", "unlucky", url=url)
    return shown


def test_a_failing_step_is_shown_with_its_attempts_and_its_next_time(any_database_url: str) -> None:
    shown = a_run_that_waits("step", any_database_url, status="SLEEPING")
    text = called("runs", "show", "unlucky", url=any_database_url).stdout

    (step,) = shown["steps"]
    (failed,) = step["failed_attempts"]
    (waits,) = shown["waiting_for"]
    wake_at = datetime.fromisoformat(step["wake_at"])
    assert (step["status"], step["attempts"], step["max_attempts"]) == ("RETRYING", 1, 3)
    assert step["wake_at"] == shown["wake_at"]
    assert timedelta(seconds=600) <= wake_at - datetime.fromisoformat(step["started_at"]) < timedelta(seconds=660)
    assert (failed["attempt"], failed["error"]["kind"]) == (1, "NETWORK_ERROR")
    assert failed["error"]["message"] == "no \x1b[31manswer"
    assert "in answer_never" in failed["error"]["traceback"]
    assert datetime.fromisoformat(failed["at"]).tzinfo is not None
    assert waits == f"step 'call', retrying at {step['wake_at']}: 1 of 3 attempts failed"
    assert waits in text
    assert re.search(rf"RETRYING +step call +attempt 1 of 3 failed, the next at {wake_at:%H:%M:%S}", text)
    assert ERROR in text
    assert "\x1b" not in text


def test_a_step_without_a_limit_is_shown_without_one(sqlite_url: str) -> None:
    shown = a_run_that_waits("for ever", sqlite_url, status="SLEEPING")
    text = called("runs", "show", "unlucky", url=sqlite_url).stdout

    (step,) = shown["steps"]
    assert step["max_attempts"] is None
    assert "attempt 1 failed, the next at" in text
    assert ", retrying at " in text
    assert ": 1 attempt failed" in text


def test_a_run_that_is_to_be_executed_again_is_shown_so(any_database_url: str) -> None:
    shown = a_run_that_waits("none", any_database_url, status="PENDING")
    text = called("runs", "show", "unlucky", url=any_database_url).stdout
    why = called("why", "unlucky", url=any_database_url).stdout

    (step,) = shown["steps"]
    (waits,) = shown["waiting_for"]
    assert (shown["attempts"], shown["finished_at"]) == (2, None)
    assert (step["status"], step["attempts"], step["max_attempts"]) == ("FAILED", 1, None)
    assert waits == f"the run, retrying at {shown['wake_at']}: 1 of 2 attempts failed"
    assert waits in " ".join(text.split())
    assert waits in " ".join(why.split())
    assert ERROR in text


@pytest.mark.parametrize("policy", ["step", "none"])
def test_watching_tells_of_a_failure_and_of_the_next_time(sqlite_url: str, policy: str) -> None:
    with a_worker(url=sqlite_url):
        done = called("run", "unlucky", "--input", f'"{policy}"', "--watch", "--timeout", "2", url=sqlite_url)

    assert ERROR in done.stdout + done.stderr
    assert re.search(r"1 of \d attempts failed", done.stderr) or "attempt 1 of 3 failed" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
