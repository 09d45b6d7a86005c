"""`kagzi runs cancel` and `kagzi runs terminate`."""

from __future__ import annotations

import pytest

from tests.cli.commands import answer, called

START = ("--version", "1", "--detach", "--id", "order-7")
NOBODY = "01997e00-0000-7000-8000-00000000c0de"


@pytest.mark.parametrize("command", ["cancel", "terminate"])
def test_a_run_is_ended_by_its_own_id_with_a_reason(any_database_url: str, command: str) -> None:
    answer("run", "greet", *START, url=any_database_url)

    ended = answer("runs", command, "order-7", "--reason", "duplicate", url=any_database_url)
    again = called("runs", command, "order-7", url=any_database_url)

    assert (ended["status"], ended["error"]["kind"], ended["error"]["message"]) == (
        "CANCELLED",
        "CANCELLED",
        "duplicate",
    )
    assert again.exit_code == 0
    assert again.stdout == f"Run {ended['run_id']} is CANCELLED.\n"


@pytest.mark.parametrize("command", ["cancel", "terminate"])
def test_a_run_that_is_not_there_can_not_be_ended(sqlite_url: str, command: str) -> None:
    answer("db", "migrate", url=sqlite_url)

    refused = called("runs", command, NOBODY, url=sqlite_url)

    assert refused.exit_code == 1
    assert NOBODY in refused.stderr
