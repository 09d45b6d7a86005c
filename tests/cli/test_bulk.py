"""`kagzi runs cancel|terminate|pause|resume|retry` with filters in place of a run."""

from __future__ import annotations

import pytest

from tests.cli.commands import answer, called

START = ("--version", "1", "--detach")
PAST = {"cancel": "cancelled", "terminate": "terminated", "pause": "paused"}


@pytest.fixture
def url(any_database_url: str) -> str:
    """A database with three queued runs of `greet`."""
    for number in range(3):
        answer("run", "greet", *START, "--id", f"order-{number}", url=any_database_url)
    return any_database_url


@pytest.mark.parametrize("command", PAST)
def test_what_filters_find_is_shown_asked_for_and_done(url: str, command: str) -> None:
    found = ("runs", command, "--workflow", "greet", "--status", "PENDING")

    shown = called(*found, "--dry-run", url=url)
    declined = called(*found, url=url, stdin="n\n")
    nobody = called(*found, url=url)
    done = called(*found, url=url, stdin="y\n")

    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"3 runs would be {PAST[command]}.\n")
    assert (declined.exit_code, nobody.exit_code) == (2, 2)
    assert f"{command.capitalize()} 3 runs? [y/N]" in declined.stderr
    assert "nothing was done" in declined.stderr
    assert "--yes" in nobody.stderr
    assert (done.exit_code, done.stdout) == (0, f"3 runs {PAST[command]}.\n")


def test_programs_say_yes_and_read_what_was_done(url: str) -> None:
    asked = called("runs", "pause", "--all", "--json", url=url)
    paused = answer("runs", "pause", "--all", "--yes", "--reason", "lunch", url=url)
    again = answer("runs", "pause", "--all", "--dry-run", url=url)
    resumed = answer("runs", "resume", "--paused", "--yes", url=url)
    terminated = answer("runs", "terminate", "--created-after", "2020-01-01", "--yes", url=url)
    retried = answer("runs", "retry", "--status", "CANCELLED", "--yes", url=url)

    assert asked.exit_code == 2
    assert len(paused["done"]) == 3
    assert paused | {"done": []} == {"done": [], "unchanged": [], "refused": {}, "dry_run": False}
    assert (again["unchanged"], again["dry_run"]) == (paused["done"], True)
    assert resumed["done"] == terminated["done"] == retried["done"] == paused["done"]


def test_one_run_needs_no_yes_and_takes_no_filters(url: str) -> None:
    refused = called("runs", "cancel", "order-1", "--workflow", "greet", url=url)
    cancelled = called("runs", "cancel", "order-1", url=url)

    assert refused.exit_code == 2
    assert "not both" in refused.stderr
    assert cancelled.exit_code == 0


@pytest.mark.parametrize("command", ["cancel", "terminate", "pause", "resume", "retry"])
def test_nothing_is_done_where_no_run_is_named(sqlite_url: str, command: str) -> None:
    answer("db", "migrate", url=sqlite_url)

    bare = called("runs", command, "--yes", url=sqlite_url)
    both = called("runs", command, "--all", "--workflow", "greet", "--yes", url=sqlite_url)
    misspelled = called("runs", command, "--status", "DONE", "--yes", url=sqlite_url)
    none = called("runs", command, "--all", url=sqlite_url)

    assert (bare.exit_code, both.exit_code, misspelled.exit_code, none.exit_code) == (2, 2, 2, 0)
    assert bare.stderr == "Error: give RUN, or filters to find runs, or --all.\n"
    assert both.stderr == "Error: give filters or --all, not both.\n"
    assert "0 runs" in none.stdout
