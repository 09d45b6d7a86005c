"""`kagzi health`: what it prints, and its exit status."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import a_worker, answer, called, kagzi, wait_until
from tests.servers import PostgresServer


def health(*options: str, url: str) -> tuple[int, dict[str, Any]]:
    """Exit status and report. The bounds are those that a busy machine keeps."""
    done = called("health", "--json", "--timeout", "20", *options, url=url)
    return done.exit_code, json.loads(done.stdout)


def test_with_a_worker_and_nothing_waiting_it_succeeds(any_database_url: str) -> None:
    with a_worker("--worker-id", "w1", url=any_database_url):
        status, report = health("--min-workers", "1", url=any_database_url)
        shown = called("health", "--timeout", "20", url=any_database_url)

    assert status == 0
    assert report["database"]["schema_current"] == report["database"]["schema_latest"]
    assert report["database"]["writable"]
    assert [(worker["worker_id"], worker["status"]) for worker in report["workers"]] == [("w1", "HEALTHY")]
    assert [queue["queue"] for queue in report["queues"]] == ["default"]
    assert shown.exit_code == 0
    for word in ("latency", "schema", "WORKER", "w1", "QUEUE", "default"):
        assert word in shown.stdout


def test_without_a_worker_it_says_so_and_fails_once_runs_are_due(any_database_url: str) -> None:
    called("db", "migrate", url=any_database_url)
    status, report = health(url=any_database_url)
    called("run", "greet", "--version", "1", "--input", '"Ada"', "--detach", url=any_database_url)
    later_status, later = health(url=any_database_url)
    shown = called("health", url=any_database_url)

    assert (status, report["status"], report["reasons"]) == (0, "DEGRADED", ["no worker takes runs"])
    assert (later_status, later["status"]) == (1, "UNHEALTHY")
    assert later["queues"][0]["unserved"] == [["greet", 1]]
    assert shown.exit_code == 1
    assert shown.stdout.startswith("UNHEALTHY\n")
    assert "no living worker serves version 1 of workflow 'greet' on queue 'default'" in shown.stdout


def test_a_killed_worker_is_unhealthy_by_the_bounds_that_are_given(sqlite_url: str) -> None:
    bounds = ("--heartbeat-warning", "0.5", "--heartbeat-timeout", "1")
    with a_worker("--worker-id", "w1", url=sqlite_url, KAGZI_HEARTBEAT_INTERVAL="0.1", KAGZI_LEASE="60") as worker:
        worker.send(signal.SIGKILL)
        worker.wait()
        wait_until(lambda: health(*bounds, url=sqlite_url)[0] == 1)
        _, report = health(*bounds, url=sqlite_url)

    assert report["workers"][0]["status"] == "UNHEALTHY"
    assert "no sign of life" in report["reasons"][0]


def test_a_schema_that_is_not_there_is_unhealthy_and_stays_as_it_is(any_database_url: str) -> None:
    status, report = health(url=any_database_url)
    again, _ = health(url=any_database_url)

    assert (status, again) == (1, 1)
    assert len(report["reasons"]) == 1
    assert "kagzi db migrate" in report["reasons"][0]
    assert called("db", "status", url=any_database_url).exit_code == 1, "it has migrated"


# -- databases that don't answer ---------------------------------------------------------------------------------


def assert_told(done: Any, *, secret: str = "s3cret") -> None:
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert secret not in done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["status"], report["database"]["status"]) == ("UNHEALTHY", "UNHEALTHY")
    assert report["reasons"][0]


def test_a_database_that_refuses_is_told(sqlite_url: str) -> None:
    assert_told(kagzi("health", "--json", url="postgresql://user:s3cret@127.0.0.1:9/kagzi"))


def test_a_database_that_is_silent_is_told_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        began = time.monotonic()
        done = kagzi(
            "health",
            "--json",
            "--timeout",
            "1",
            url=f"postgresql://user:s3cret@127.0.0.1:{silent.getsockname()[1]}/kagzi",
        )

    assert_told(done)
    assert time.monotonic() - began < 20


def test_a_file_that_can_not_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "noise.db").write_bytes(b"this is no database at all, whatever its name says" * 100)

    folder = called("health", "--json", url=f"sqlite:///{tmp_path}/folder.db")
    noise = called("health", "--json", url=f"sqlite:///{tmp_path}/noise.db")

    assert (folder.exit_code, noise.exit_code) == (2, 2)
    assert "KAGZI_DATABASE_URL" in folder.stderr
    assert "is not a SQLite database" in noise.stderr


def test_a_server_that_stops_and_comes_back(own_postgres_server: PostgresServer) -> None:
    url = own_postgres_server.start().create_database()
    with a_worker(url=url):
        before, _ = health(url=url)
        own_postgres_server.stop()
        away, report = health(url=url)
        own_postgres_server.start()
        after, _ = health(url=url)

    assert (before, away, after) == (0, 1, 0)
    assert report["workers"] == report["queues"] == []


# -- usage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ("--heartbeat-warning", "200"),
        ("--waiting-timeout", "1"),
        ("--timeout", "0"),
        ("--timeout", "-1"),
        ("--timeout", "nan"),
        ("--timeout", "1e300"),
        ("--min-workers", "-1"),
        ("--min-workers", "many"),
    ],
)
def test_bounds_that_can_not_be_are_a_mistake_in_the_usage(sqlite_url: str, options: tuple[str, str]) -> None:
    done = called("health", *options, url=sqlite_url)

    assert done.exit_code == 2
    assert "Traceback" not in done.stderr


def test_names_that_would_upset_a_terminal_are_shown_harmlessly(sqlite_url: str) -> None:
    called("run", "greet", "--version", "1", "--input", '"Ada"', "--detach", "--queue", "a\x1b[31m\nb", url=sqlite_url)

    done = called("health", url=sqlite_url)

    assert "\x1b" not in done.stdout
    assert "a\\x1b[31m\\nb" in done.stdout


def test_it_is_answered_in_json_for_programs(sqlite_url: str) -> None:
    answer("db", "migrate", url=sqlite_url)

    report = answer("health", url=sqlite_url)

    assert set(report) == {"status", "reasons", "checked_at", "database", "workers", "queues", "complete", "is_healthy"}
