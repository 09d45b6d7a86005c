"""Stopping by real signals: a step in flight is executed exactly once, and whatever only waits holds nothing up."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Command, a_worker, answer, entries, wait_until

AT_ONCE_S = 10
"""What a process may take to leave that has nothing to finish: far less than anything that it could wait for."""


def start(*arguments: str, url: str) -> str:
    """Store a run and give its run_id."""
    return str(answer("run", *arguments, "--version", "1", "--detach", url=url)["run_id"])


def shown(run_id: str, url: str) -> Any:
    return answer("runs", "show", run_id, url=url)


def is_draining(worker_id: str, url: str) -> bool:
    workers = answer("workers", "list", url=url)["workers"]
    return any((worker["worker_id"], worker["state"]) == (worker_id, "DRAINING") for worker in workers)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_step_of_five_seconds_in_flight_is_executed_exactly_once(
    any_database_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    """P10: beside a worker that would take the run over at the first chance."""
    ledger = tmp_path / "ledger"
    with a_worker("--worker-id", "leaving", url=any_database_url) as leaving:
        run_id = start("slow", "--args", f'["{ledger}", 5.0]', url=any_database_url)
        wait_until(lambda: entries(ledger) == ["begun"])
        with a_worker("--worker-id", "staying", url=any_database_url):
            leaving.send(number)
            leaving.wait_for_line("The worker drains.")
            wait_until(lambda: is_draining("leaving", any_database_url))
            status = leaving.wait()
            wait_until(lambda: shown(run_id, any_database_url)["status"] == "COMPLETED")

    run = shown(run_id, any_database_url)
    assert status == 0
    assert entries(ledger) == ["begun", "done"]
    assert [(step["name"], step["attempts"]) for step in run["steps"]] == [("work", 1), ("finish", 1)]
    assert (run["attempts"], run["crashes"]) == (1, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_leaves_at_once(any_database_url: str, number: signal.Signals) -> None:
    with a_worker(url=any_database_url) as worker:
        worker.send(number)
        status = worker.wait(within_s=AT_ONCE_S)

    (registered,) = answer("workers", "list", "--all", url=any_database_url)["workers"]
    assert status == 0
    assert registered["state"] == "STOPPED"


@pytest.mark.parametrize(
    ("park_after", "status"), [("0", "SLEEPING"), ("100000", "PENDING")], ids=["parked", "in memory"]
)
def test_a_sleeping_run_holds_no_worker_up(any_database_url: str, park_after: str, status: str) -> None:
    with a_worker("--heartbeat", "0.2", url=any_database_url, KAGZI_PARK_AFTER=park_after) as worker:
        run_id = start("nap", "--input", "3600", url=any_database_url)
        key = "parked" if status == "SLEEPING" else "runs"
        wait_until(lambda: answer("workers", "list", url=any_database_url)["workers"][0]["load"].get(key) == 1)
        worker.send(signal.SIGTERM)
        ended = worker.wait(within_s=AT_ONCE_S)

    run = shown(run_id, any_database_url)
    assert ended == 0
    assert (run["status"], run["attempts"], run["crashes"]) == (status, 1, 0)


@pytest.mark.parametrize("park_after", ["0", "100000"], ids=["parked", "in memory"])
def test_a_wait_for_the_next_attempt_holds_no_worker_up_and_keeps_its_count(
    any_database_url: str, tmp_path: Path, park_after: str
) -> None:
    ledger = tmp_path / "ledger"
    with a_worker("--heartbeat", "0.2", url=any_database_url, KAGZI_PARK_AFTER=park_after) as worker:
        run_id = start("stumble", "--args", f'["{ledger}", 3]', url=any_database_url)
        wait_until(lambda: any(step["failed_attempts"] for step in shown(run_id, any_database_url)["steps"]))
        worker.send(signal.SIGTERM)
        status = worker.wait(within_s=AT_ONCE_S)
    with a_worker(url=any_database_url):
        wait_until(lambda: shown(run_id, any_database_url)["status"] == "COMPLETED")

    run = shown(run_id, any_database_url)
    (step,) = run["steps"]
    assert status == 0
    assert (run["output"], run["attempts"], run["crashes"]) == ("up again", 1, 0)
    assert step["attempts"] == 2
    assert entries(ledger) == ["begun", "begun"]


def test_a_step_in_a_thread_finishes(any_database_url: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with a_worker(url=any_database_url) as worker:
        run_id = start("stubborn", "--args", f'["{ledger}", 1.5]', url=any_database_url)
        wait_until(lambda: entries(ledger) == ["begun"])
        worker.send(signal.SIGTERM)
        status = worker.wait()

    run = shown(run_id, any_database_url)
    assert status == 0
    assert (run["status"], run["output"]) == ("COMPLETED", "worked")
    assert entries(ledger) == ["begun"]


@pytest.fixture
def silent_server() -> Iterator[tuple[str, threading.Event]]:
    """A database that takes connections and never answers, and whether somebody has connected."""
    connected = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    held.append(server.accept()[0])
                    connected.set()
            except OSError:
                return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"postgresql://127.0.0.1:{server.getsockname()[1]}/kagzi", connected
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for connection in held:
            connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_still_waits_for_its_database_leaves_at_once(
    silent_server: tuple[str, threading.Event], number: signal.Signals
) -> None:
    url, connected = silent_server
    with Command("-m", "kagzi.cli.main", "worker", "tests.cli.flows:app", url=url) as worker:
        assert connected.wait(30)
        worker.send(number)
        status = worker.wait(within_s=AT_ONCE_S)

    assert status == 0, "".join(worker.lines)
