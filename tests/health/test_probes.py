"""`kagzi worker --health-port`: real processes, asked by real requests."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.cli.commands import Command, a_worker, answer, entries, kagzi, wait_until
from tests.cli.flows import write
from tests.health.requests import ask, status_of
from tests.servers import PostgresServer
from tests.servers.postgres import free_port

QUICK_BEATS = {"KAGZI_HEARTBEAT_INTERVAL": "0.3"}


@pytest.fixture
def port() -> int:
    return free_port()


def start_detached(workflow: str, ledger: Path, *more: float, url: str) -> str:
    arguments = json.dumps([str(ledger), *more])
    run_id: str = answer("run", workflow, "--args", arguments, "--version", "1", "--detach", url=url)["run_id"]
    return run_id


def test_a_worker_that_takes_runs_is_alive_and_ready(any_database_url: str, port: int) -> None:
    with a_worker("--worker-id", "w1", "--health-port", str(port), url=any_database_url):
        alive, ready = ask(port, "/healthz"), ask(port, "/readyz")

    facts = {"status": "ok", "worker_id": "w1", "state": "RUNNING"}
    assert (alive.status, alive.body) == (200, facts)
    assert (ready.status, ready.body) == (200, facts)


def test_a_worker_that_drains_is_alive_and_not_ready_and_its_step_is_executed_once(
    any_database_url: str, port: int, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    run_id = start_detached("held", ledger, url=any_database_url)
    with a_worker("--health-port", str(port), url=any_database_url) as worker:
        wait_until(lambda: entries(ledger) == ["begun"])
        worker.send(signal.SIGTERM)
        worker.wait_for_line("The worker drains.")
        ready, alive = ask(port, "/readyz"), ask(port, "/healthz")
        write(str(ledger), "go")
        status = worker.wait()

    assert (ready.status, ready.body["state"]) == (503, "DRAINING")
    assert "drains" in ready.body["reasons"][0]
    assert (alive.status, alive.body["status"]) == (200, "ok")
    assert status == 0
    assert status_of(port, "/healthz") == 0, "somebody still listens"
    assert entries(ledger) == ["begun", "go", "done"]
    assert [step["attempts"] for step in answer("runs", "show", run_id, url=any_database_url)["steps"]] == [1]


def test_while_the_database_does_not_answer_a_starting_worker_is_alive_and_not_ready(port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        url = f"postgresql://kagzi@127.0.0.1:{silent.getsockname()[1]}/kagzi"
        command = ("-m", "kagzi.cli.main", "worker", "tests.cli.flows:app", "--health-port", str(port))
        with Command(*command, url=url):
            wait_until(lambda: status_of(port, "/healthz") == 200)
            ready = ask(port, "/readyz")

    assert (ready.status, ready.body["state"]) == (503, "STARTING")


def test_a_worker_whose_event_loop_is_blocked_does_not_answer(sqlite_url: str, port: int, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with a_worker("--health-port", str(port), url=sqlite_url):
        before = status_of(port, "/healthz")
        start_detached("deaf", ledger, 60, url=sqlite_url)
        wait_until(lambda: entries(ledger) == ["begun"])

        with pytest.raises(TimeoutError):
            ask(port, "/healthz", within_s=1)

    assert before == 200


def test_a_worker_without_its_database_is_alive_and_not_ready_until_it_is_back(
    own_postgres_server: PostgresServer, port: int
) -> None:
    server = own_postgres_server.start()
    with a_worker("--health-port", str(port), url=server.create_database(), **QUICK_BEATS):
        assert status_of(port, "/readyz") == 200
        server.stop()
        wait_until(lambda: status_of(port, "/readyz") == 503)
        reasons = ask(port, "/readyz").body["reasons"]
        alive = status_of(port, "/healthz")
        server.start()
        wait_until(lambda: status_of(port, "/readyz") == 200)

    assert "heartbeat" in reasons[0]
    assert alive == 200


def test_the_port_can_be_given_in_the_environment_and_the_command_line_goes_before_it(
    sqlite_url: str, port: int
) -> None:
    other = free_port()
    environment = {"KAGZI_HEALTH_PORT": str(port), "KAGZI_HEALTH_HOST": "127.0.0.1"}
    with a_worker(url=sqlite_url, **environment):
        by_environment = status_of(port, "/readyz")
    with a_worker("--health-port", str(other), url=sqlite_url, **environment):
        by_option = status_of(other, "/readyz"), status_of(port, "/readyz")
    with a_worker("--health-port", "0", url=sqlite_url, **environment):
        switched_off = status_of(port, "/readyz")

    assert by_environment == 200
    assert by_option == (200, 0)
    assert switched_off == 0


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_port_that_is_taken_ends_the_command_in_one_line(sqlite_url: str, port: int, processes: str) -> None:
    with socket.create_server(("0.0.0.0", port)):
        done = kagzi(
            "worker", "tests.cli.flows:app", "--health-port", str(port), "--processes", processes, url=sqlite_url
        )

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: the health port can't be listened on")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("given", ["-1", "65536", "http"])
def test_what_can_not_be_a_port_is_refused(sqlite_url: str, given: str) -> None:
    done = kagzi("worker", "tests.cli.flows:app", "--health-port", given, url=sqlite_url)

    assert done.returncode == 2


# -- several processes -------------------------------------------------------------------------------------------


def pids(supervisor: Command) -> list[int]:
    records = [json.loads(line) for line in supervisor.lines]
    return [record["pid"] for record in records if record["message"] == "A worker process runs."]


def test_one_port_answers_for_all_processes(sqlite_url: str, port: int) -> None:
    options = ("--processes", "2", "--worker-id", "w", "--health-port", str(port), "--json")
    with a_worker(*options, url=sqlite_url) as supervisor:
        wait_until(lambda: status_of(port, "/readyz") == 200)
        ready, nothing = ask(port, "/readyz").body, status_of(port, "/metrics")
        wait_until(lambda: status_of(port, "/healthz") == 200)
        # The other one goes on while this one is away.
        os.kill(pids(supervisor)[0], signal.SIGSTOP)
        wait_until(lambda: status_of(port, "/healthz") == 503)
        frozen = ask(port, "/healthz").body["reasons"], status_of(port, "/readyz")
        os.kill(pids(supervisor)[0], signal.SIGKILL)
        supervisor.wait_for_line("A worker takes runs.", times=3)
        wait_until(lambda: status_of(port, "/readyz") == 200)
        supervisor.send(signal.SIGTERM)
        status = supervisor.wait()
        supervisor.wait_for_descendants()

    assert {number: each["worker_id"] for number, each in ready["processes"].items()} == {"1": "w-1", "2": "w-2"}
    assert nothing == 404
    assert "process 1: its event loop does not answer" in frozen[0]
    assert frozen[1] == 503
    assert status == 0
    assert status_of(port, "/healthz") == 0


def test_while_several_processes_drain_they_are_alive_and_not_ready(sqlite_url: str, port: int, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    options = ("--processes", "2", "--json")
    with a_worker(*options, url=sqlite_url, KAGZI_HEALTH_PORT=str(port)) as supervisor:
        start_detached("held", ledger, url=sqlite_url)
        wait_until(lambda: entries(ledger) == ["begun"])
        supervisor.send(signal.SIGTERM)
        supervisor.wait_for_line("The worker drains.", times=2)
        ready = ask(port, "/readyz")
        wait_until(lambda: status_of(port, "/healthz") == 200)
        write(str(ledger), "go")
        status = supervisor.wait()

    assert ready.status == 503
    assert ready.body["reasons"][0] == "the workers are asked to stop"
    assert status == 0
    assert entries(ledger) == ["begun", "go", "done"]


def test_a_process_that_can_not_begin_is_told_by_readiness(tmp_path: Path, sqlite_url: str, port: int) -> None:
    (tmp_path / "moody.py").write_text(
        "import sys\nfrom kagzi import Kagzi\napp = Kagzi()\nif '--supervised' in sys.argv:\n    raise SystemExit(3)\n"
    )
    command = ("-m", "kagzi.cli.main", "worker", "moody:app", "--processes", "2", "--health-port", str(port))
    with Command(*command, url=sqlite_url, PYTHONPATH=str(tmp_path)) as supervisor:
        supervisor.wait_for_line("it is replaced", times=2)
        ready, alive = ask(port, "/readyz"), ask(port, "/healthz")
        supervisor.send(signal.SIGTERM)
        supervisor.wait()

    assert ready.status == 503
    assert ready.body["reasons"] == ["process 1: it is not there yet", "process 2: it is not there yet"]
    assert alive.status == 200
