"""`kagzi worker --processes N`: one supervisor, N workers, and what befalls either."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from kagzi.cli.supervisor import Supervisor
from kagzi.cli.worker_order import WorkerOrder
from tests.cli.commands import Command, a_worker, answer, entries, kagzi, wait_until


def pids(supervisor: Command) -> list[int]:
    """The processes that the supervisor has started, in order."""
    records = [json.loads(line) for line in supervisor.lines]
    return [record["pid"] for record in records if record["message"] == "A worker process runs."]


def test_a_killed_worker_process_is_replaced(sqlite_url: str) -> None:
    with a_worker("--processes", "2", "--json", url=sqlite_url) as supervisor:
        os.kill(pids(supervisor)[0], signal.SIGKILL)
        supervisor.wait_for_line("A worker takes runs.", times=3)
        os.kill(pids(supervisor)[1], signal.SIGKILL)
        supervisor.wait_for_line("A worker takes runs.", times=4)
        run = answer("run", "greet", "--input", '"Ada"', url=sqlite_url)
        supervisor.send(signal.SIGTERM)
        status = supervisor.wait()
        supervisor.wait_for_descendants()

    assert run["output"] == "Hello, Ada!"
    assert status == 0
    assert len(pids(supervisor)) == 4
    assert sum("The worker has stopped." in line for line in supervisor.lines) == 2


def test_a_run_goes_on_in_another_process_when_its_own_is_killed(sqlite_url: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    quick = {"KAGZI_LEASE": "1", "KAGZI_HEARTBEAT_INTERVAL": "0.3", "KAGZI_POLL_INTERVAL": "0.1"}
    with a_worker("--processes", "2", "--json", url=sqlite_url, **quick) as supervisor:
        run = answer("run", "slow", "--args", f'["{ledger}", 2]', "--detach", url=sqlite_url)
        wait_until(lambda: entries(ledger) == ["begun"])
        owner = answer("runs", "show", run["run_id"], url=sqlite_url)["worker_id"]
        assert owner is not None
        for pid in pids(supervisor):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: bool(answer("runs", "list", "--status", "COMPLETED", url=sqlite_url)["runs"]))

    ended = answer("runs", "show", run["run_id"], url=sqlite_url)
    assert ended["crashes"] == 1
    assert entries(ledger) == ["begun", "begun", "done"]


def test_ctrl_c_reaches_each_worker_once_and_all_drain(sqlite_url: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with a_worker("--processes", "2", "--json", url=sqlite_url) as supervisor:
        run = answer("run", "slow", "--args", f'["{ledger}", 1]', "--detach", url=sqlite_url)
        wait_until(lambda: entries(ledger) == ["begun"])
        supervisor.press_ctrl_c()
        status = supervisor.wait()

    found = answer("runs", "show", run["run_id"], url=sqlite_url)
    assert status == 0
    assert entries(ledger) == ["begun", "done"]
    assert [(step["name"], step["attempts"]) for step in found["steps"]] == [("work", 1)]


def test_a_second_signal_makes_all_stop_at_once(sqlite_url: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with a_worker("--processes", "2", "--json", url=sqlite_url) as supervisor:
        answer("run", "stubborn", "--args", f'["{ledger}", 60]', "--detach", url=sqlite_url)
        wait_until(lambda: entries(ledger) == ["begun"])
        supervisor.send(signal.SIGTERM)
        supervisor.wait_for_line("The worker drains.", times=2)
        supervisor.send(signal.SIGTERM)
        status = supervisor.wait(within_s=10)
        supervisor.wait_for_descendants()

    assert status == 0
    assert [run["status"] for run in answer("runs", "list", url=sqlite_url)["runs"]] == ["PENDING"]


def test_each_line_of_a_worker_tells_which_process_wrote_it(sqlite_url: str) -> None:
    with a_worker("--processes", "2", "--json", url=sqlite_url) as machine:
        machine.send(signal.SIGTERM)
        machine.wait_for_descendants()
    with a_worker("--processes", "2", url=sqlite_url) as human:
        human.send(signal.SIGTERM)
        human.wait_for_descendants()

    records = [json.loads(line) for line in machine.lines]
    starts = [record for record in records if record["message"] == "A worker takes runs."]
    assert sorted(record["process"] for record in starts) == [1, 2]
    assert sorted(line.split()[1] for line in human.lines if "A worker takes runs." in line) == ["[1]", "[2]"]


def test_a_worker_that_was_asked_to_drain_is_not_replaced_and_the_last_ends_the_supervisor(
    any_database_url: str,
) -> None:
    with a_worker("--processes", "2", "--worker-id", "w", "--json", url=any_database_url) as supervisor:
        answer("workers", "drain", "w-1", "--wait", "--timeout", "20", url=any_database_url)
        supervisor.wait_for_line("it is not replaced")
        left = answer("workers", "list", url=any_database_url)["workers"]
        run = answer("run", "greet", "--input", '"Ada"', url=any_database_url)
        answer("workers", "drain", "w-2", url=any_database_url)
        status = supervisor.wait()

    assert [worker["worker_id"] for worker in left] == ["w-2"]
    assert run["output"] == "Hello, Ada!"
    assert status == 0
    assert len(pids(supervisor)) == 2


def test_a_worker_process_that_somebody_else_asked_to_stop_is_replaced(sqlite_url: str) -> None:
    with a_worker("--processes", "2", "--json", url=sqlite_url) as supervisor:
        os.kill(pids(supervisor)[0], signal.SIGTERM)
        supervisor.wait_for_line("A worker takes runs.", times=3)
        supervisor.send(signal.SIGTERM)
        status = supervisor.wait()

    assert status == 0
    assert len(pids(supervisor)) == 3


def test_sigterm_lets_the_steps_in_flight_of_all_processes_finish(any_database_url: str, tmp_path: Path) -> None:
    ledgers = [tmp_path / "one", tmp_path / "two"]
    with a_worker("--processes", "2", "--concurrency", "1", "--json", url=any_database_url) as supervisor:
        for ledger in ledgers:
            answer("run", "slow", "--args", f'["{ledger}", 1.5]', "--detach", url=any_database_url)
        wait_until(lambda: all(entries(ledger) == ["begun"] for ledger in ledgers))
        supervisor.send(signal.SIGTERM)
        status = supervisor.wait()

    assert status == 0
    assert [entries(ledger) for ledger in ledgers] == [["begun", "done"], ["begun", "done"]]


def test_a_signal_to_every_process_at_once_lets_steps_finish_as_one_to_the_supervisor_does(
    any_database_url: str, tmp_path: Path
) -> None:
    """What service managers do: each worker is signalled by them and by its supervisor."""
    ledger = tmp_path / "ledger"
    with a_worker("--processes", "2", "--json", url=any_database_url) as supervisor:
        run = answer("run", "slow", "--args", f'["{ledger}", 1.5]', "--detach", url=any_database_url)
        wait_until(lambda: entries(ledger) == ["begun"])
        for pid in (*pids(supervisor), supervisor.pid):
            os.kill(pid, signal.SIGTERM)
        supervisor.wait_for_line("The worker drains.", times=2)
        for pid in pids(supervisor):
            os.kill(pid, signal.SIGTERM)
        status = supervisor.wait()

    found = answer("runs", "show", run["run_id"], url=any_database_url)
    assert status == 0
    assert entries(ledger) == ["begun", "done"]
    assert [(step["name"], step["attempts"]) for step in found["steps"]] == [("work", 1)]


def test_workers_leave_when_their_supervisor_is_killed(sqlite_url: str) -> None:
    with a_worker("--processes", "2", "--json", url=sqlite_url) as supervisor:
        supervisor.send(signal.SIGKILL)
        supervisor.wait_for_descendants()

    assert sum("The worker has stopped." in line for line in supervisor.lines) == 2


def test_an_application_that_is_not_there_is_not_tried_again_and_again(sqlite_url: str) -> None:
    done = kagzi("worker", "nowhere:app", "--processes", "2", url=sqlite_url)

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


async def test_a_worker_that_does_not_hear_is_killed_in_the_end(sqlite_url: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    kagzi("run", "deaf", "--args", f'["{ledger}", 60]', "--version", "1", "--detach", url=sqlite_url)
    order = WorkerOrder(target="tests.cli.flows:app", processes=1)
    supervisor = Supervisor(order, database_url=sqlite_url, deadline_s=0.5)

    supervising = asyncio.create_task(supervisor.run())
    await asyncio.to_thread(wait_until, lambda: entries(ledger) == ["begun"])
    supervisor.stop()
    status = await asyncio.wait_for(supervising, 10)

    assert status == 1


async def test_processes_that_die_young_are_replaced_ever_more_slowly(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    order = WorkerOrder(target="nowhere:app", processes=1)
    supervisor = Supervisor(order, database_url=sqlite_url, deadline_s=0.5)

    def pauses() -> list[float]:
        return [record.__dict__["pause_s"] for record in caplog.records if "it is replaced" in record.message]

    supervising = asyncio.create_task(supervisor.run())
    await asyncio.to_thread(wait_until, lambda: len(pauses()) == 3)
    supervisor.stop()
    status = await asyncio.wait_for(supervising, 10)

    assert pauses() == [0.1, 0.2, 0.4]
    assert status == 0
