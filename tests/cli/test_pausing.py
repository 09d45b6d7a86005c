"""`kagzi runs pause` and `kagzi runs resume`, and what others then say of the run."""

from __future__ import annotations

import pytest

from tests.cli.commands import answer, called

START = ("--version", "1", "--detach", "--id", "order-7")
NOBODY = "01997e00-0000-7000-8000-00000000c0de"


def test_a_run_is_paused_with_a_reason_which_is_shown_until_it_is_resumed(any_database_url: str) -> None:
    answer("run", "greet", *START, url=any_database_url)

    paused = answer("runs", "pause", "order-7", "--reason", "the bank is closed", url=any_database_url)
    shown = called("runs", "show", "order-7", url=any_database_url).stdout
    listed = called("runs", "list", "--paused", url=any_database_url).stdout
    why = called("why", "order-7", url=any_database_url).stdout
    resumed = called("runs", "resume", "order-7", url=any_database_url)
    after = called("runs", "list", "--paused", url=any_database_url)

    assert (paused["status"], paused["pause_reason"]) == ("PENDING", "the bank is closed")
    assert paused["paused_at"] is not None
    assert "the bank is closed" in shown
    assert "PENDING, paused" in listed
    assert "It waits for being resumed: it is paused since" in why
    assert "(the bank is closed)" in why
    assert resumed.stdout == f"Run {paused['run_id']} goes on; it is PENDING.\n"
    assert "No runs." in after.stderr


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_run_that_is_not_there_or_has_ended_can_not_be_held(sqlite_url: str, command: str) -> None:
    answer("run", "greet", *START, url=sqlite_url)
    answer("runs", "terminate", "order-7", url=sqlite_url)

    unknown = called("runs", command, NOBODY, url=sqlite_url)
    ended = called("runs", command, "order-7", url=sqlite_url)

    assert (unknown.exit_code, ended.exit_code) == (1, 1)
    assert NOBODY in unknown.stderr
    assert "has ended (CANCELLED)" in ended.stderr
