"""`kagzi runs retry` and `kagzi runs fork`, and how chains of runs are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import a_worker, answer, called, wait_until

START = ("--version", "1", "--detach")
NOBODY = "01997e00-0000-7000-8000-00000000c0de"


def test_a_failed_run_goes_on(any_database_url: str) -> None:
    with a_worker(url=any_database_url):
        called("run", "fail", "--id", "order-7", url=any_database_url)
    shown = answer("runs", "show", "order-7", url=any_database_url)

    again = answer("runs", "retry", "order-7", url=any_database_url)
    refused = called("runs", "retry", "order-7", url=any_database_url)

    assert (shown["status"], shown["attempts"]) == ("FAILED", 1)
    assert (again["run_id"], again["status"], again["attempts"]) == (shown["run_id"], "PENDING", 2)
    assert refused.exit_code == 1
    assert "has not ended (PENDING)" in refused.stderr


def test_people_are_told_that_it_goes_on(sqlite_url: str) -> None:
    answer("run", "greet", *START, "--id", "order-7", url=sqlite_url)
    called("runs", "cancel", "order-7", url=sqlite_url)

    told = called("runs", "retry", "order-7", url=sqlite_url)

    assert told.exit_code == 0
    assert told.stdout.endswith(" goes on; it is PENDING.\n")


@pytest.mark.parametrize("which", [NOBODY, "order-7"])
def test_a_run_that_is_not_there_can_not_go_on(sqlite_url: str, which: str) -> None:
    answer("db", "migrate", url=sqlite_url)

    refused = called("runs", "retry", which, url=sqlite_url)

    assert refused.exit_code == 1
    assert which in refused.stderr


# -- fork --------------------------------------------------------------------------------------------------------


def test_a_run_is_forked_with_another_input_and_another_result(any_database_url: str, tmp_path: Path) -> None:
    ledger = str(tmp_path / "ledger")
    with a_worker(url=any_database_url):
        run = answer("run", "slow", "--args", json.dumps([ledger, 0]), "--id", "order-7", url=any_database_url)

    fork = answer(
        *(
            "runs",
            "fork",
            "order-7",
            "--at",
            "finish#1",
            "--args",
            json.dumps([ledger, 1]),
            "--set",
            "work=7",
            "--id",
            "order-8",
        ),
        url=any_database_url,
    )
    shown = answer("runs", "show", "order-8", url=any_database_url)
    text = called("runs", "show", "order-8", url=any_database_url).stdout

    assert (fork["forked_from"], fork["input"], fork["status"]) == (run["run_id"], [ledger, 1], "PENDING")
    assert [(step["name"], step["output"]) for step in shown["steps"]] == [("work", 7)]
    assert f"forked     {run['run_id']}" in text


def test_people_are_told_what_was_forked(sqlite_url: str) -> None:
    with a_worker(url=sqlite_url):
        run = answer("run", "greet", "--input", '"Ada"', url=sqlite_url)

    told = called("runs", "fork", run["run_id"], "--at", "compose", "--input", '"Eve"', url=sqlite_url)

    assert told.exit_code == 0
    assert told.stdout.endswith(f" begins with the history of run {run['run_id']}.\n")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--at", "refund"), "no step 'refund'"),
        (("--at", "compose", "--set", "compose=1"), "can't be set"),
        (("--at", "compose", "--set", "compose"), "STEP=JSON"),
        (("--at", "compose", "--set", "compose=x"), "must be JSON"),
        (("--at", "compose", "--args", "7"), "must be a JSON array"),
        (("--at", "compose", "--args", "[7]", "--input", "7"), "both given"),
        ((), "--at"),
    ],
)
def test_what_can_not_be_forked_gives_status_2(sqlite_url: str, options: tuple[str, ...], says: str) -> None:
    with a_worker(url=sqlite_url):
        run = answer("run", "greet", "--input", '"Ada"', url=sqlite_url)

    refused = called("runs", "fork", run["run_id"], *options, url=sqlite_url)

    assert refused.exit_code == 2
    assert says in refused.stderr


# -- chains ------------------------------------------------------------------------------------------------------


def test_a_chain_is_shown_in_both_directions_and_its_result_is_waited_for(any_database_url: str) -> None:
    with a_worker(url=any_database_url):
        first = answer("run", "loop", "--input", "1", "--id", "order-7", url=any_database_url)
    last = answer("runs", "list", url=any_database_url)["runs"][0]

    shown = answer("runs", "show", "order-7", url=any_database_url)
    before = answer("runs", "show", first["run_id"], url=any_database_url)
    texts = [called("runs", "show", which, url=any_database_url).stdout for which in ("order-7", first["run_id"])]

    assert (shown["run_id"], shown["output"], shown["continued_from"]) == (last["run_id"], "the end", first["run_id"])
    assert (before["status"], before["continued_to"]) == ("COMPLETED", last["run_id"])
    assert f"continues  {first['run_id']}" in texts[0]
    assert f"goes on in {last['run_id']}" in texts[1]


def test_what_is_done_with_a_run_that_has_continued_is_told_of_the_last_of_its_chain(any_database_url: str) -> None:
    def has_continued() -> bool:
        return len(answer("runs", "list", url=any_database_url)["runs"]) == 2

    with a_worker(url=any_database_url):
        first = answer("run", "relay", "--input", "1", "--id", "order-7", "--detach", url=any_database_url)
        answer("runs", "signal", "order-7", "word", "--value", '"one"', url=any_database_url)
        wait_until(has_continued)
        last = answer("runs", "list", url=any_database_url)["runs"][0]

        paused = answer("runs", "pause", first["run_id"], "--reason", "lunch", url=any_database_url)
        resumed = answer("runs", "resume", first["run_id"], url=any_database_url)
        answer("runs", "terminate", first["run_id"], url=any_database_url)
        again = called("runs", "retry", first["run_id"], url=any_database_url)

    assert (paused["run_id"], paused["pause_reason"]) == (last["run_id"], "lunch")
    assert (resumed["run_id"], resumed["paused_at"]) == (last["run_id"], None)
    assert again.stdout.startswith(f"Run {last['run_id']} goes on")
