"""The examples run as their readers run them: as programs, on SQLite and on PostgreSQL."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import ROOT, Command, answer, environment, wait_until

EXAMPLES = ROOT / "examples"


def an_example(name: str, *arguments: str, url: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run an example to its end."""
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        cwd=cwd,
        env=environment(url, **more),
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_simple_prints_its_greeting(any_database_url: str, tmp_path: Path) -> None:
    done = an_example("simple.py", url=any_database_url, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "Hello, Ada!\n"
    assert done.stderr == ""


def test_simple_keeps_its_runs_in_the_current_folder_unless_told_otherwise(tmp_path: Path) -> None:
    done = an_example("simple.py", url="", cwd=tmp_path)

    assert done.stdout == "Hello, Ada!\n"
    assert (tmp_path / "kagzi.db").exists()


def test_a_welcome_is_triggered_in_one_process_and_executed_in_another(any_database_url: str, tmp_path: Path) -> None:
    with Command(str(EXAMPLES / "welcome_email.py"), "worker", url=any_database_url):
        done = an_example("welcome_email.py", "trigger", "Ada", url=any_database_url, cwd=tmp_path, WELCOME_WAIT="0.2")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Ada was welcomed at ada@example.com"


def test_a_welcome_survives_the_death_of_its_worker(any_database_url: str, tmp_path: Path) -> None:
    example = str(EXAMPLES / "welcome_email.py")
    asleep = ("runs", "list", "--status", "SLEEPING")
    with Command(example, "trigger", "Ada", url=any_database_url, WELCOME_WAIT="3") as trigger:
        trigger.wait_for_line("started run")
        with Command(example, "worker", url=any_database_url) as first:
            wait_until(lambda: bool(answer(*asleep, url=any_database_url)["runs"]))
            first.send(signal.SIGKILL)
        with Command(example, "worker", url=any_database_url) as second:
            status = trigger.wait()

    assert status == 0
    assert first.lines[1:] == ["fetching Ada\n"]
    assert second.lines[1:] == ["sending an e-mail to ada@example.com\n"]
    assert trigger.lines[-1] == "Ada was welcomed at ada@example.com\n"


@pytest.mark.parametrize("arguments", [(), ("fly",), ("trigger",)])
def test_a_wrong_call_says_how_to(sqlite_url: str, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = an_example("welcome_email.py", *arguments, url=sqlite_url, cwd=tmp_path)

    assert done.returncode == 1
    assert done.stderr == "usage: python welcome_email.py worker | trigger NAME\n"
