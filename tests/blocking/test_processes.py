"""Real programs: how they end, how they are interrupted, and what their forks may do."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import psycopg
import pytest

from kagzi import RunStatus, WorkerState
from tests.blocking.flows import an_application
from tests.cli.commands import PATIENCE_S, ROOT, Command, environment

MODULE = "tests.blocking.program"


def program(name: str, url: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with Python's own warnings as loud as they get."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", MODULE, name],
        cwd=ROOT,
        env=environment(url),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@pytest.mark.parametrize(
    ("name", "said", "status"),
    [
        ("leave_open", ["PENDING"], 0),
        ("leave_a_worker_open", ["Hello, Ada!"], 0),
        ("leave_with_threads_waiting", ["PENDING"], 0),
        ("leave_with_threads_calling", ["PENDING"], 0),
        ("fail_in_a_block", [], 3),
        ("go_on_in_a_thread", ["PENDING", "PENDING"], 0),
    ],
)
def test_a_program_ends_promptly_and_without_a_word_whatever_it_left_open(
    name: str, said: list[str], status: int, any_database_url: str
) -> None:
    began = time.monotonic()

    ended = program(name, any_database_url)

    assert ended.stderr == ""
    assert ended.stdout.split("\n")[:-1] == said
    assert ended.returncode == status
    assert time.monotonic() - began < 10  # the limits for what is still open are 5 s; it takes less than one


def test_a_database_that_was_left_open_is_closed_at_the_end(sqlite_url: str) -> None:
    program("leave_open", sqlite_url)

    file = Path(sqlite_url.removeprefix("sqlite:///"))
    assert file.exists()
    assert not file.with_name(f"{file.name}-wal").exists()  # the last connection that is closed removes the log


def test_a_worker_that_was_left_open_signs_off_at_the_end(any_database_url: str) -> None:
    program("leave_a_worker_open", any_database_url)

    with an_application(any_database_url) as kagzi:
        (worker,) = kagzi.find_workers(ended=True)
        (waiting,) = kagzi.find_runs(workflow="wait")
    assert worker.state is WorkerState.STOPPED
    assert waiting.status in (RunStatus.SLEEPING, RunStatus.PENDING)


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Keep everybody else from writing runs."""
    if url.startswith("sqlite"):
        sqlite = apsw.Connection(url.removeprefix("sqlite:///"))
        sqlite.execute("BEGIN IMMEDIATE")
        yield
        sqlite.close()
    else:
        with psycopg.connect(url) as connection:
            connection.execute("LOCK TABLE kagzi.workflow_runs IN ACCESS EXCLUSIVE MODE")
            yield
            connection.rollback()


def test_a_database_that_does_not_answer_holds_up_the_end_for_seconds_only(any_database_url: str) -> None:
    with Command("-W", "error", "-m", MODULE, "leave_with_a_start_under_way", url=any_database_url) as command:
        command.wait_for_line("open")
        with locked(any_database_url):
            command.tell("go")
            status = command.wait(within_s=20)
            command.wait_for_descendants()

    assert status == 0
    assert len(command.lines) <= 2, command.lines  # at most a warning


def test_ctrl_c_ends_the_wait_and_leaves_the_application_usable(any_database_url: str) -> None:
    with Command("-W", "error", "-m", MODULE, "interrupted", url=any_database_url) as command:
        command.wait_for_line("waiting")
        command.press_ctrl_c()
        status = command.wait()
        command.wait_for_descendants()

    assert command.lines == ["waiting\n", "interrupted\n", "PENDING\n", "0\n", "1\n"]
    assert status == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_a_worker_that_the_main_thread_started(number: signal.Signals, any_database_url: str) -> None:
    with Command("-W", "error", "-m", MODULE, "serve", url=any_database_url) as command:
        command.wait_for_line("working")
        command.send(number)
        status = command.wait()
        command.wait_for_descendants()

    assert command.lines == ["working\n", "done\n", "STOPPED\n", "COMPLETED\n", "True\n"]
    assert status == 0


def test_forks_of_a_program_that_has_not_used_it_yet_connect_by_themselves(any_database_url: str) -> None:
    ended = program("fork_unused", any_database_url)

    assert ended.stderr == ""
    assert ended.stdout.split() == ["PENDING"] * 3 + ["3"]
    assert ended.returncode == 0


def test_forks_after_closing_connect_by_themselves(any_database_url: str) -> None:
    ended = program("fork_after_closing", any_database_url)

    assert ended.stderr == ""
    assert ended.stdout.split() == ["PENDING"] * 2 + ["3"]


def test_forks_of_a_program_in_the_middle_of_using_postgresql_have_connections_of_their_own(postgres_url: str) -> None:
    ended = program("fork_in_use", postgres_url)

    lines = ended.stdout.split("\n")
    assert ended.stderr == ""
    assert sum("before the process was forked" in line for line in lines) == 3
    assert lines.count("['child']") == lines.count("PENDING") == 3
    assert lines[-4:-1] == ["errors: []", "of children: 3", "parent: PENDING"]
    assert ended.returncode == 0


def test_forks_of_a_program_in_the_middle_of_using_sqlite_are_told_to_close_before(sqlite_url: str) -> None:
    ended = program("fork_in_use", sqlite_url)

    lines = ended.stdout.split("\n")
    assert ended.stderr == ""
    assert sum(line.startswith("start: the SQLite file") and "kagzi.close()" in line for line in lines) == 3
    assert lines[-4:-1] == ["errors: []", "of children: 0", "parent: PENDING"]
    assert ended.returncode == 0


def test_forks_beside_an_open_async_application_open_it_anew(postgres_url: str) -> None:
    ended = program("fork_async", postgres_url)

    lines = ended.stdout.split("\n")
    assert ended.stderr == ""
    assert lines.count("PENDING") == 2
    assert sum("before the process was forked" in line for line in lines) == 2
    assert lines[-2] == "3"


def test_who_imports_kagzi_does_not_import_its_blocking_twin(sqlite_url: str) -> None:
    ended = program("imports", sqlite_url)

    assert ended.stdout.split() == ["False", "False"]
