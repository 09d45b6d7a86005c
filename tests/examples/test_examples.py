"""The examples run as their readers run them: as programs, on SQLite and on PostgreSQL."""

from __future__ import annotations

import re
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


ENDINGS = {
    "data_pipeline.py": """
        north: 139.90
        south: 158.50
        rejected: ["north sold a chair for 'not a number'"]
    """,
    "scheduled_reminder.py": """
        the talk begins in 0.3 s
        the talk begins in 0.15 s
        .*
        .*
        4 reminders
    """,
    "retry_pattern.py": """
        call 1
        call 2
        call 3
        the circuit opens
        call 4
        the circuit opens
        call 5
        lamp: in stock
        \\d+ attempts; \\d+ of them met an open circuit
    """,
    "step_retry_policies.py": """
        busy-service answered
        slow-service answered
        picky-service answered
        once failed: no answer in time
        payment failed: the card is expired
        busy_service: COMPLETED, attempt 4
        slow-service: COMPLETED, attempt 3
        built: COMPLETED, attempt 2
        once: FAILED, attempt 1
        payment: FAILED, attempt 1
    """,
    "parallel_execution.py": """
        for Ada, who likes lamps: [40.0, 50.0, 50.0], by the fast one
    """,
    "advanced_parallel.py": """
        ['stock is fine', 'failed: looks odd', 'address is fine', 'credit is fine']
        stopped by fraud: looks odd
        ['east foundation built', 'east left wall built', .*, 'west right wall built']
        ['roof built', 'chimney built']
    """,
    "workflow_versioning.py": """
        the default is 2
        version 2: 1300
        version 1: 1249
        open runs of version 1: 1
        version 1: 2380
        version 1 of workflow 'invoice' is deprecated: .*
    """,
    "worker_management.py": """
        fast: queues urgent, 50 slots
        slow: queues mail, urgent, 5 slots
        sent to the fire brigade
        fast: STOPPED
        ['sent to Ada', 'sent to Grace']
    """,
    "health_monitoring.py": """
        before a worker is there: UNHEALTHY
        database: HEALTHY, schema \\d+
        queue chores: UNHEALTHY, 1 waiting
        no worker takes runs
        queue 'chores': no living worker serves version 1 of workflow 'tidy-up' on queue 'chores', .*
        tidy
        caretaker is HEALTHY
        with a worker: HEALTHY
        database: HEALTHY, schema \\d+
        worker caretaker: HEALTHY
        queue chores: HEALTHY, 0 waiting
    """,
    "batch_processing.py": """
        25 files, 312 words, failed: ['file-13.txt is empty']
    """,
    "order_fulfillment.py": """
        1 order 1001 is valid
        2 lamp reserved
        3 40.00 charged
        4 lamp packed
        5 handed to the carrier
        6 invoice for payment-1001
        7 e-mail about parcel-1001
        order 1001 is on its way as parcel-1001
    """,
}


@pytest.mark.parametrize("name", ENDINGS)
def test_an_example_says_what_it_shows(name: str, any_database_url: str, tmp_path: Path) -> None:
    done = an_example(name, url=any_database_url, cwd=tmp_path, REMINDER_WAIT="0.3")

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told = [line.strip() for line in done.stdout.splitlines()]
    expected = [line.strip() for line in ENDINGS[name].strip().splitlines()]
    assert len(told) == len(expected), done.stdout
    for line, pattern in zip(told, expected, strict=True):
        assert re.fullmatch(_as_pattern(pattern), line), f"{line!r} is not {pattern!r}"


def _as_pattern(text: str) -> str:
    r"""The text, in which only `.*` and `\d+` stand for others."""
    parts = re.split(r"(\.\*|\\d\+)", text)
    return "".join(part if part in (".*", r"\d+") else re.escape(part) for part in parts)


def test_an_order_whose_parcel_nobody_takes_is_undone_in_reverse_order(any_database_url: str, tmp_path: Path) -> None:
    done = an_example("order_fulfillment.py", "shipping", url=any_database_url, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-4:] == [
        "undo: lamp unpacked",
        "undo: payment-1001 refunded",
        "undo: reservation-1001 released",
        "order 1001 was given up: step 'ship' failed: ConnectionError: no carrier answers",
    ]


def test_a_batch_that_is_started_again_counts_no_file_twice(any_database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    first = an_example("batch_processing.py", str(folder), url=any_database_url, cwd=tmp_path)
    second = an_example("batch_processing.py", str(folder), url=any_database_url, cwd=tmp_path)

    runs = answer("runs", "list", "--workflow", "count-words", url=any_database_url)["runs"]
    assert first.stdout == second.stdout != ""
    assert len(runs) == 1


def test_every_example_is_run_by_a_test_and_named_in_the_overview() -> None:
    here = {path.name for path in EXAMPLES.glob("*.py")}
    overview = (EXAMPLES / "README.md").read_text(encoding="utf-8")

    assert here == {"simple.py", "welcome_email.py", *ENDINGS}
    assert {name for name in here if f"[`{name}`]({name})" in overview} == here


@pytest.mark.parametrize("arguments", [(), ("fly",), ("trigger",)])
def test_a_wrong_call_says_how_to(sqlite_url: str, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = an_example("welcome_email.py", *arguments, url=sqlite_url, cwd=tmp_path)

    assert done.returncode == 1
    assert done.stderr == "usage: python welcome_email.py worker | trigger NAME\n"
