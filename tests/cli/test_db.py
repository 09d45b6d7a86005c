"""`kagzi db`: migrates, and says how far the schema is."""

from __future__ import annotations

import json

from tests.cli.commands import answer, called


def test_status_says_by_its_exit_status_whether_migrations_are_missing(any_database_url: str) -> None:
    before = called("db", "status", "--json", url=any_database_url)
    migrated = answer("db", "migrate", url=any_database_url)
    after = called("db", "status", "--json", url=any_database_url)

    assert before.exit_code == 1
    assert json.loads(before.stdout) | {"latest": 0} == {"current": 0, "latest": 0, "up_to_date": False}
    assert migrated["applied"] == migrated["current"] == migrated["latest"]
    assert after.exit_code == 0
    assert json.loads(after.stdout)["up_to_date"] is True


def test_migrating_again_does_nothing(any_database_url: str) -> None:
    first = called("db", "migrate", url=any_database_url)
    second = called("db", "migrate", url=any_database_url)

    assert "Applied" in first.stdout
    assert "Nothing to do" in second.stdout
    assert answer("db", "migrate", url=any_database_url)["applied"] == 0


def test_people_are_told_what_to_do(sqlite_url: str) -> None:
    done = called("db", "status", url=sqlite_url)

    assert "Run `kagzi db migrate`" in done.stdout


def test_options_may_stand_before_the_command(sqlite_url: str) -> None:
    done = called("--json", "--database-url", sqlite_url, "db", "migrate", url="postgresql://127.0.0.1:9/x")

    assert json.loads(done.stdout)["applied"] >= 1


def test_a_setting_that_can_not_be_is_refused_in_one_line(sqlite_url: str) -> None:
    done = called("db", "status", url="sqlite://host/kagzi.db")

    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
