"""`kagzi worker`: takes runs, drains when asked, stops at once when asked again."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.cli.commands import a_worker, answer, entries, kagzi, wait_until
from tests.cli.flows import app

# -- finding the application -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere", "there is no module 'nowhere'"),
        ("nowhere.deeper:app", "there is no module 'nowhere.deeper'"),
        ("tests.cli.flows:nothing", "has no 'nothing'. The applications in it: app."),
        ("tests.cli.flows:greet", "is of type Workflow, but must be a Kagzi application"),
        ("tests.cli.commands", "holds no Kagzi application"),
        ("tests/cli/flows.py", "Give the module's name"),
        ("../flows", "is not the name of a module"),
        ("", "is not the name of a module"),
        ("a\x1b[31m\nb:app", "is not the name of a module"),
    ],
)
def test_a_wrong_target_is_refused_in_one_line(sqlite_url: str, target: str, message: str) -> None:
    done = kagzi("worker", target, url=sqlite_url)

    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr


def test_a_module_that_breaks_shows_where(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import kagzi\nnumber = 1 / 0\n")

    done = kagzi("worker", "broken", url=sqlite_url, cwd=tmp_path)

    assert done.returncode == 2
    assert "number = 1 / 0" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "Error: module 'broken' could not be imported: ZeroDivisionError: division by zero"
    )
    assert "importlib" not in done.stderr
    assert "kagzi/cli" not in done.stderr


def test_a_module_that_lacks_a_package_says_which(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "needy.py").write_text("import a_package_that_is_not_there\n")

    done = kagzi("worker", "needy", url=sqlite_url, cwd=tmp_path)

    assert done.returncode == 2
    assert "No module named 'a_package_that_is_not_there'" in done.stderr.splitlines()[-1]


def test_several_applications_in_a_module_must_be_told_apart(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "twins.py").write_text("from kagzi import Kagzi\none, two = Kagzi(), Kagzi()\n")

    done = kagzi("worker", "twins", url=sqlite_url, cwd=tmp_path, PYTHONSAFEPATH="1")

    assert done.returncode == 2
    assert "Name one of: twins:one, twins:two" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--concurrency", "0"),
        ("--processes", "0"),
        ("--shutdown-timeout", "-1"),
        ("--shutdown-timeout", "nan"),
        ("--log-level", "loud"),
        ("--queue", ""),
        ("--queue", "q" * 1000),
        ("--worker-id", "w" * 1000),
        ("--database-url", "mysql://localhost/x"),
    ],
)
def test_options_that_can_not_be_are_refused(sqlite_url: str, options: tuple[str, str]) -> None:
    done = kagzi("worker", "tests.cli.flows:app", *options, url=sqlite_url)

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_a_database_that_can_not_be_reached_is_told_in_one_line(sqlite_url: str) -> None:
    done = kagzi("worker", "tests.cli.flows:app", url="postgresql://user:secret@127.0.0.1:9/kagzi")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


# -- working -----------------------------------------------------------------------------------------------------


def test_a_worker_executes_runs(any_database_url: str) -> None:
    with a_worker("--worker-id", "w1", "--concurrency", "3", url=any_database_url) as worker:
        run = answer("run", "greet", "--input", '"Ada"', url=any_database_url)
        worker.send(signal.SIGTERM)
        status = worker.wait()

    assert (run["status"], run["output"]) == ("COMPLETED", "Hello, Ada!")
    assert status == 0
    assert any("worker_id=w1" in line for line in worker.lines)


def test_a_worker_takes_runs_only_from_its_queues(sqlite_url: str) -> None:
    kagzi("run", "greet", "--input", '"Ada"', "--version", "1", "--detach", url=sqlite_url)
    kagzi("run", "greet", "--input", '"Bob"', "--version", "1", "--detach", "--queue", "mail", url=sqlite_url)
    kagzi("run", "greet", "--input", '"Cy"', "--version", "1", "--detach", "--queue", "fax", url=sqlite_url)

    with a_worker("--queue", "mail", "--queue", "fax", url=sqlite_url):
        wait_until(lambda: len(answer("runs", "list", "--status", "COMPLETED", url=sqlite_url)["runs"]) == 2)

    waiting = answer("runs", "list", "--status", "PENDING", url=sqlite_url)["runs"]
    assert [run["queue"] for run in waiting] == ["default"]


def test_a_database_url_on_the_command_line_goes_before_the_application_s_own(sqlite_url: str, tmp_path: Path) -> None:
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.db"

    with a_worker("--database-url", elsewhere, url=sqlite_url):
        run = answer("run", "greet", "--input", '"Ada"', url=elsewhere)

    assert run["status"] == "COMPLETED"


@pytest.mark.parametrize("option", [("--log-format", "json"), ("--json",)])
def test_logs_in_json_carry_every_field(sqlite_url: str, option: tuple[str, ...]) -> None:
    with a_worker("--worker-id", "w1", *option, url=sqlite_url) as worker:
        worker.send(signal.SIGTERM)
        worker.wait()

    records = [json.loads(line) for line in worker.lines]
    assert records[0] | {"time": ""} == {
        "time": "",
        "level": "info",
        "logger": "kagzi.worker",
        "message": "A worker takes runs.",
        "worker_id": "w1",
        "queues": ["default"],
        "workflows": [f"{each.name}:{each.version}" for each in app._definitions],
        "database": sqlite_url,
        "max_concurrent_workflows": 100,
        "max_concurrent_steps": 1000,
    }


# -- stopping ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_step_in_flight_finish(any_database_url: str, tmp_path: Path, number: signal.Signals) -> None:
    ledger = tmp_path / "ledger"
    run = answer("run", "slow", "--args", f'["{ledger}", 1.0]', "--version", "1", "--detach", url=any_database_url)

    with a_worker(url=any_database_url) as worker:
        wait_until(lambda: entries(ledger) == ["begun"])
        worker.send(number)
        status = worker.wait()

    stopped = answer("runs", "show", run["run_id"], url=any_database_url)
    with a_worker(url=any_database_url):
        wait_until(lambda: bool(answer("runs", "list", "--status", "COMPLETED", url=any_database_url)["runs"]))
    ended = answer("runs", "show", run["run_id"], url=any_database_url)

    assert status == 0
    assert [(step["name"], step["status"]) for step in stopped["steps"]] == [("work", "COMPLETED")]
    assert (stopped["status"], stopped["crashes"]) == ("PENDING", 0)
    assert [step["name"] for step in ended["steps"]] == ["work", "finish"]
    assert ended["attempts"] == 1
    assert entries(ledger) == ["begun", "done"]


def test_a_second_signal_stops_at_once_though_a_thread_is_busy(sqlite_url: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    run = answer("run", "stubborn", "--args", f'["{ledger}", 60]', "--version", "1", "--detach", url=sqlite_url)

    with a_worker(url=sqlite_url) as worker:
        wait_until(lambda: entries(ledger) == ["begun"])
        worker.send(signal.SIGTERM)
        worker.wait_for_line("The worker drains.")
        worker.send(signal.SIGTERM)
        status = worker.wait(within_s=10)

    found = answer("runs", "show", run["run_id"], url=sqlite_url)
    assert status == 0
    assert (found["status"], found["crashes"], found["worker_id"]) == ("PENDING", 0, None)


def test_a_worker_leaves_when_its_time_to_drain_is_over(sqlite_url: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    run = answer("run", "slow", "--args", f'["{ledger}", 60]', "--version", "1", "--detach", url=sqlite_url)

    with a_worker("--shutdown-timeout", "0.2", url=sqlite_url) as worker:
        wait_until(lambda: entries(ledger) == ["begun"])
        worker.send(signal.SIGTERM)
        status = worker.wait(within_s=10)

    assert status == 0
    assert answer("runs", "show", run["run_id"], url=sqlite_url)["status"] == "PENDING"
    assert entries(ledger) == ["begun"]
