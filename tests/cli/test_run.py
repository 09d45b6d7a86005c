"""`kagzi run`: starts a run, shows what happens, prints the result, and says by its status how it went."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from tests.cli.commands import Command, a_worker, answer, called, kagzi


@pytest.fixture
def served_url(sqlite_url: str) -> Iterator[str]:
    """A database with a worker."""
    with a_worker(url=sqlite_url):
        yield sqlite_url


# -- the result --------------------------------------------------------------------------------------------------


def test_the_result_goes_to_stdout_and_the_rest_to_stderr(any_database_url: str) -> None:
    with a_worker(url=any_database_url):
        done = kagzi("run", "greet", "--input", '"Ada"', url=any_database_url)

    assert done.returncode == 0
    assert done.stdout == '"Hello, Ada!"\n'
    assert "of greet is stored" in done.stderr


def test_a_failed_run_gives_status_1_and_its_error_in_one_line(served_url: str) -> None:
    done = called("run", "fail", url=served_url)

    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].endswith(r"ended FAILED: ValueError: no \x1b[31mluck today")


def test_a_failed_run_is_told_in_json_too(served_url: str) -> None:
    done = called("run", "fail", "--json", url=served_url)

    run = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (run["status"], run["error"]["type"], run["error"]["message"]) == (
        "FAILED",
        "ValueError",
        "no \x1b[31mluck\ntoday",
    )


@pytest.mark.parametrize(
    "value",
    ["null", "[1, [2, {}]]", str(2**70), '"\\u0000\\u001b[31m\\n"', '{"": 1e300}', json.dumps("ü\U0001f600" * 1000)],
)
def test_json_values_come_back_as_they_were_given(served_url: str, value: str) -> None:
    done = called("run", "echo", "--input", value, url=served_url)

    assert json.loads(done.stdout) == json.loads(value)
    assert len(done.stdout.splitlines()) == 1
    assert "\x1b" not in done.stdout


def test_a_large_input_can_come_from_stdin(served_url: str) -> None:
    value = "x" * 1_000_000

    done = called("run", "echo", "--input", "-", url=served_url, stdin=json.dumps(value))

    assert json.loads(done.stdout) == value


def test_several_arguments_are_given_as_an_array(served_url: str) -> None:
    done = called("run", "buy", "--args", '[{"name": "pen", "price": 1.5}, 3]', url=served_url)

    assert done.stdout == "4.5\n"


# -- watching ----------------------------------------------------------------------------------------------------


def test_watch_shows_every_step_as_it_happens(served_url: str) -> None:
    done = called("run", "nap", "--input", "1.5", "--watch", url=served_url)

    lines = done.stderr.splitlines()
    assert done.exit_code == 0
    assert done.stdout == '"rested"\n'
    assert any("SLEEPING" in line and "'doze'" in line for line in lines)
    assert any("COMPLETED" in line and "timer doze" in line for line in lines)
    assert "COMPLETED  run" in lines[-1]


def test_watch_tells_programs_one_event_per_line(served_url: str) -> None:
    done = called("run", "greet", "--input", '"Ada"', "--watch", "--json", url=served_url)

    events = [json.loads(line) for line in done.stdout.splitlines()]
    steps = [event["step"] for event in events if event["event"] == "step" and event["step"]["status"] == "COMPLETED"]
    assert [(step["name"], step["output"]) for step in steps] == [("compose", "Hello, Ada!")]
    assert events[-1]["event"] == "run"
    assert (events[-1]["run"]["status"], events[-1]["run"]["output"]) == ("COMPLETED", "Hello, Ada!")


def test_who_waits_learns_that_no_worker_has_taken_the_run(sqlite_url: str) -> None:
    done = called("run", "greet", "--input", '"Ada"', "--version", "1", "--timeout", "1.5", url=sqlite_url)

    assert done.exit_code == 1
    assert "No worker has taken the run yet." in done.stderr
    assert "did not end within 1.5 s. It goes on" in done.stderr.splitlines()[-1]


def test_ctrl_c_leaves_the_run_to_its_worker(sqlite_url: str) -> None:
    waiting = ("-m", "kagzi.cli.main", "run", "greet", "--input", '"Ada"', "--version", "1")
    with Command(*waiting, url=sqlite_url) as command:
        command.wait_for_line("No worker has taken the run yet.")
        command.send(signal.SIGINT)
        status = command.wait()
        command.wait_for_line("goes on")

    assert status == 1
    assert not any("Traceback" in line for line in command.lines)
    assert [run["status"] for run in answer("runs", "list", url=sqlite_url)["runs"]] == ["PENDING"]


# -- which run ---------------------------------------------------------------------------------------------------


def test_detach_prints_the_run_id_at_once(sqlite_url: str) -> None:
    done = called("run", "greet", "--input", '"Ada"', "--version", "1", "--detach", url=sqlite_url)

    (run,) = answer("runs", "list", url=sqlite_url)["runs"]
    assert done.stdout == f"{run['run_id']}\n"
    assert run["status"] == "PENDING"


def test_starts_with_one_id_give_one_run(sqlite_url: str) -> None:
    start = ("run", "greet", "--input", '"Ada"', "--version", "1", "--id", "welcome/ada", "--detach")

    first, second = answer(*start, url=sqlite_url), answer(*start, url=sqlite_url)

    assert first == second


def test_an_id_with_another_input_is_a_conflict(sqlite_url: str) -> None:
    start = ("run", "greet", "--version", "1", "--id", "welcome/ada", "--detach")
    called(*start, "--input", '"Ada"', url=sqlite_url)

    done = called(*start, "--input", '"Bob"', url=sqlite_url)

    assert done.exit_code == 1
    assert "welcome/ada" in done.stderr


def test_options_of_the_start_are_kept(sqlite_url: str) -> None:
    options = ("--queue", "mail", "--priority", "7", "--delay", "3600", "--tag", "a", "--tag", "b")

    answer("run", "greet", "--input", '"Ada"', "--version", "3", *options, "--detach", url=sqlite_url)

    (run,) = answer("runs", "list", url=sqlite_url)["runs"]
    assert (run["version"], run["queue"], run["priority"], run["tags"]) == (3, "mail", 7, ["a", "b"])
    assert run["wake_at"] > run["created_at"]


def test_a_workflow_that_nobody_knows_needs_a_version(sqlite_url: str) -> None:
    done = called("run", "greet", "--input", '"Ada"', url=sqlite_url)

    assert done.exit_code == 2
    assert "give --version N or --app MODULE:APP" in done.stderr


# -- with the application ----------------------------------------------------------------------------------------

APP = ("--app", "tests.cli.flows:app")


def test_an_application_gives_types_and_version(served_url: str) -> None:
    # In a process of its own: another test of this process may have an application open.
    done = kagzi(
        "run", "buy", "--input", '{"name": "pen", "price": 2.5}', *APP, "--database-url", served_url, url=served_url
    )

    assert done.stdout == "2.5\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("buy", "--input", '{"name": "pen"}'), "does not fit at $.item: Object missing required field `price`"),
        (("buy", "--input", '{"name": "pen", "price": "dear"}'), "does not fit at $.item.price"),
        (("buy",), "missing a required argument: 'item'"),
        (("buy", "--args", "[1, 2, 3]"), "too many positional arguments"),
        (("sell", "--input", "1"), "workflow 'sell' is not registered in this application; it knows: buy"),
        (("buy", "--input", "1", "--version", "9"), "workflow 'buy' has no version 9"),
    ],
)
def test_what_does_not_fit_the_application_is_refused(
    sqlite_url: str, arguments: tuple[str, ...], message: str
) -> None:
    answer("db", "migrate", url=sqlite_url)

    done = kagzi("run", *arguments, *APP, "--database-url", sqlite_url, url=sqlite_url)

    assert done.returncode == 2
    assert message in done.stderr
    assert answer("runs", "list", url=sqlite_url)["runs"] == []


# -- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ("--input", "Ada"),
        ("--input", ""),
        ("--input", "NaN"),
        ("--input", "-Infinity"),
        ("--input", "[" * 100_000),
        ("--input", r'"\ud800"'),
        ("--input", r'{"\udfff": 1}'),
        ("--input", "1" * 5000),
        ("--args", "1"),
        ("--args", '{"a": 1}'),
        ("--input", "1", "--args", "[1]"),
        ("--watch", "--detach"),
        ("--id", ""),
        ("--id", "i" * 10_000),
        ("--queue", ""),
        ("--tag", ""),
        ("--priority", "101"),
        ("--priority", "high"),
        ("--delay", "-1"),
        ("--delay", "nan"),
        ("--delay", "1e300"),
        ("--version", "0"),
        ("--timeout", "-1"),
        ("--app", "nowhere:app"),
        ("--database-url", "mysql://localhost/x"),
        ("--database-url", "kagzi.db"),
    ],
)
def test_what_can_not_be_is_refused_and_nothing_is_stored(sqlite_url: str, options: tuple[str, ...]) -> None:
    version = () if "--version" in options else ("--version", "1")

    done = called("run", "echo", *version, *options, url=sqlite_url)

    assert done.exit_code == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert len(done.stderr) < 1000
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("workflow", ["", "w" * 10_000])
def test_a_name_that_can_not_be_is_refused(sqlite_url: str, workflow: str) -> None:
    done = called("run", workflow, "--version", "1", "--detach", url=sqlite_url)

    assert done.exit_code == 2
    assert len(done.stderr) < 1000


def test_an_input_that_is_too_large_is_refused(sqlite_url: str) -> None:
    value = json.dumps("x" * 5_000_000)

    done = called("run", "echo", "--version", "1", "--input", "-", url=sqlite_url, stdin=value)

    assert done.exit_code == 2
    assert len(done.stderr) < 1000


def test_a_database_that_can_not_be_reached_gives_status_1() -> None:
    done = called("run", "echo", "--version", "1", url="postgresql://user:secret@127.0.0.1:9/kagzi")

    assert done.exit_code == 1
    assert "secret" not in done.output
    assert len(done.stderr.splitlines()) == 1
