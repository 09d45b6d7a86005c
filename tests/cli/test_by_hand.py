"""`kagzi runs retry`."""

from __future__ import annotations

import pytest

from tests.cli.commands import a_worker, answer, called

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
