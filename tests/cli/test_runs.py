"""`kagzi runs`: lists and shows runs, harmlessly whatever they are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import a_worker, answer, called, kagzi

START = ("--version", "1", "--detach")


def start(workflow: str, *options: str, url: str) -> str:
    """Store a run and give its run_id."""
    run_id: str = answer("run", workflow, *START, *options, url=url)["run_id"]
    return run_id


# -- list --------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_without_payloads(any_database_url: str) -> None:
    started = [start("greet", "--input", '"Ada"', url=any_database_url) for _ in range(3)]

    listed = answer("runs", "list", url=any_database_url)

    assert [run["run_id"] for run in listed["runs"]] == started[::-1]
    assert listed["cursor"] is None
    assert set(listed["runs"][0]) == {
        *("run_id", "id", "namespace", "workflow", "version", "queue", "priority", "status", "error", "attempts"),
        *("crashes", "wakeups", "created_at", "started_at", "finished_at", "wake_at", "waiting_for", "worker_id"),
        *("parent_run_id", "tags", "attributes", "paused_at", "pause_reason", "forked_from", "deadline"),
        *("continued_from", "continued_to"),
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--workflow", "greet"), {"greet"}),
        (("--queue", "mail"), {"nap"}),
        (("--tag", "a", "--tag", "b"), {"nap"}),
        (("--tag", "a"), {"nap", "greet"}),
        (("--status", "pending"), {"nap", "greet"}),
        (("--status", "FAILED"), set()),
        (("--workflow", "GREET"), set()),
    ],
)
def test_listings_are_narrowed(sqlite_url: str, options: tuple[str, ...], expected: set[str]) -> None:
    start("greet", "--tag", "a", url=sqlite_url)
    start("nap", "--queue", "mail", "--tag", "a", "--tag", "b", url=sqlite_url)

    listed = answer("runs", "list", *options, url=sqlite_url)

    assert {run["workflow"] for run in listed["runs"]} == expected


def test_pages_follow_one_another(sqlite_url: str) -> None:
    started = [start("greet", url=sqlite_url) for _ in range(3)]

    first = answer("runs", "list", "--limit", "2", url=sqlite_url)
    second = answer("runs", "list", "--limit", "2", "--cursor", first["cursor"], url=sqlite_url)

    assert [run["run_id"] for run in first["runs"] + second["runs"]] == started[::-1]
    assert second["cursor"] is None


def test_people_see_a_line_for_each_run_and_how_to_go_on(sqlite_url: str) -> None:
    run_ids = [start("greet", "--id", f"ada-{number}", url=sqlite_url) for number in range(2)]

    done = called("runs", "list", "--limit", "2", url=sqlite_url)

    assert [line.split()[:4] for line in done.stdout.splitlines()[1:]] == [
        [run_id, "greet", "v1", "PENDING"] for run_id in run_ids[::-1]
    ]
    assert f"--cursor {run_ids[0]}" in done.stderr


def test_names_can_not_reach_the_terminal(sqlite_url: str) -> None:
    name = "a\x1b[2Jb\nc\u202e[bold]d[/bold]" + "e" * 200
    start(name, "--id", name, "--tag", name, url=sqlite_url)

    listed = called("runs", "list", url=sqlite_url)
    shown = called("runs", "show", name, url=sqlite_url)

    assert len(listed.stdout.splitlines()) == 2
    for output in (listed.stdout, shown.stdout):
        assert r"a\x1b[2Jb\nc\u202e[bold]d[/bold]" in output
        assert "\x1b" not in output
        assert "\u202e" not in output


@pytest.mark.parametrize(
    "options",
    [("--limit", "0"), ("--limit", "1001"), ("--status", "DONE"), ("--cursor", "yesterday"), ("--cursor", "")],
)
def test_listings_that_can_not_be_are_refused(sqlite_url: str, options: tuple[str, ...]) -> None:
    called("db", "migrate", url=sqlite_url)

    done = called("runs", "list", *options, url=sqlite_url)

    assert done.exit_code == 2
    assert "Traceback" not in done.stderr


def test_looking_does_not_make_a_schema(any_database_url: str) -> None:
    if any_database_url.startswith("sqlite"):
        Path(any_database_url.removeprefix("sqlite:///")).touch()

    done = called("runs", "list", url=any_database_url)

    assert done.exit_code == 1
    assert "Run `kagzi db migrate`" in done.stderr
    assert json.loads(called("db", "status", "--json", url=any_database_url).stdout)["current"] == 0


# -- show --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("runs", "list"), ("why", "x"), ("workers", "list"), ("health",)])
def test_looking_does_not_make_a_file(tmp_path: Path, command: tuple[str, ...]) -> None:
    file = tmp_path / "nowhere.db"

    done = called(*command, url=f"sqlite:///{file}")

    assert done.exit_code != 0
    assert f"there is no SQLite database at '{file}'" in done.output
    assert not file.exists()


def test_a_run_is_shown_with_its_steps(any_database_url: str) -> None:
    with a_worker(url=any_database_url):
        run = answer("run", "greet", "--input", '"Ada"', "--id", "welcome-ada", url=any_database_url)

    shown = answer("runs", "show", run["run_id"], url=any_database_url)
    by_id = answer("runs", "show", "welcome-ada", url=any_database_url)
    text = called("runs", "show", "welcome-ada", url=any_database_url).stdout

    (step,) = shown["steps"]
    assert shown == by_id
    assert (shown["input"], shown["output"]) == (["Ada"], "Hello, Ada!")
    assert (step["name"], step["kind"], step["status"], step["output"]) == (
        "compose",
        "STEP",
        "COMPLETED",
        "Hello, Ada!",
    )
    assert "step compose" in text
    assert '"Hello, Ada!"' in text


def test_a_sleeping_run_says_what_it_waits_for(sqlite_url: str) -> None:
    with a_worker(url=sqlite_url):
        kagzi("run", "nap", "--input", "3600", "--timeout", "1", "--id", "sleeper", url=sqlite_url)

    shown = answer("runs", "show", "sleeper", url=sqlite_url)
    text = called("runs", "show", "sleeper", url=sqlite_url).stdout

    assert shown["status"] == "SLEEPING"
    assert "doze" in shown["waiting_for"][0]
    assert shown["wake_at"] is not None
    assert "waits for  timer 'doze'" in text


def test_a_failed_run_shows_its_error_without_touching_the_terminal(sqlite_url: str) -> None:
    with a_worker(url=sqlite_url):
        called("run", "fail", "--id", "luckless", url=sqlite_url)

    done = called("runs", "show", "luckless", url=sqlite_url)

    assert r"ValueError: no \x1b[31mluck\ntoday" in done.stdout
    assert "raise ValueError" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    "which", ["nobody", "01a205e3-0823-7000-ac34-3892f38c1cfc", "\x1b[31m", "'; DROP TABLE workflow_runs; --"]
)
def test_a_run_that_is_not_there_gives_status_1(any_database_url: str, which: str) -> None:
    called("db", "migrate", url=any_database_url)

    done = called("runs", "show", which, url=any_database_url)

    assert done.exit_code == 1
    assert "no run has the id" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("which", ["", "x" * 10_000])
def test_an_id_that_no_run_can_have_gives_status_2(sqlite_url: str, which: str) -> None:
    called("db", "migrate", url=sqlite_url)

    done = called("runs", "show", which, url=sqlite_url)

    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1


# -- signal ------------------------------------------------------------------------------------------------------


def test_a_signal_reaches_the_mailbox_and_is_shown_until_it_is_received(any_database_url: str) -> None:
    run_id = start("greet", "--id", "ada", url=any_database_url)

    sent = answer("runs", "signal", "ada", "opened", "--value", '{"by": "Bea"}', url=any_database_url)
    answer("runs", "signal", run_id, "closed", url=any_database_url)

    assert sent == {"run": "ada", "signal": "opened"}
    shown = answer("runs", "show", run_id, url=any_database_url)["undelivered"]
    assert [(each["kind"], each["name"], each["value"]) for each in shown] == [
        ("SIGNAL", "opened", {"by": "Bea"}),
        ("SIGNAL", "closed", None),
    ]
    assert "'opened'" in called("runs", "show", run_id, url=any_database_url).stdout


def test_a_signal_to_nobody_or_of_no_json_is_refused(sqlite_url: str) -> None:
    start("greet", url=sqlite_url)

    nobody = called("runs", "signal", "nobody", "opened", url=sqlite_url)
    no_json = called("runs", "signal", "nobody", "opened", "--value", "Ada", url=sqlite_url)
    no_name = called("runs", "signal", "nobody", "", url=sqlite_url)

    assert (nobody.exit_code, no_json.exit_code, no_name.exit_code) == (1, 2, 2)
    assert "nobody" in nobody.stderr
