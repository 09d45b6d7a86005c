"""`kagzi versions`: lists versions, sets defaults, deprecates."""

from __future__ import annotations

from tests.cli.commands import a_worker, answer, called


def start(workflow: str, version: int, url: str) -> None:
    answer("run", workflow, "--version", str(version), "--detach", url=url)


def test_versions_are_listed_with_their_default_runs_and_workers(any_database_url: str) -> None:
    start("greet", 3, any_database_url)
    answer("versions", "default", "greet", "1", url=any_database_url)
    answer("versions", "deprecate", "greet", "3", url=any_database_url)
    answer("versions", "deprecate", "old", "1", url=any_database_url)

    with a_worker(url=any_database_url):
        listed = answer("versions", "list", url=any_database_url)["versions"]
        table = called("versions", "list", "--workflow", "old", url=any_database_url)

    found = {(each["workflow"], each["version"]): each for each in listed}
    assert found["greet", 1]["is_default"]
    assert found["greet", 1]["workers"] == 1
    assert (found["greet", 3]["open_runs"], found["greet", 3]["workers"], found["greet", 3]["can_go"]) == (1, 0, False)
    assert found["old", 1]["can_go"]
    assert "its code can go" in table.stdout
    assert "greet" not in table.stdout


def test_deprecating_says_what_still_needs_the_code_and_is_undone(sqlite_url: str) -> None:
    start("greet", 1, sqlite_url)

    said = called("versions", "deprecate", "greet", "1", url=sqlite_url)
    refused = called("run", "greet", "--version", "1", "--detach", url=sqlite_url)
    undone = called("versions", "deprecate", "greet", "1", "--undo", url=sqlite_url)
    again = called("run", "greet", "--version", "1", "--detach", url=sqlite_url)

    assert "1 open run still needs its code" in said.stdout
    assert refused.exit_code == 2
    assert "deprecated" in refused.stderr
    assert "gets new runs again" in undone.stdout
    assert again.exit_code == 0


def test_what_can_not_be_done_gives_status_2(sqlite_url: str) -> None:
    answer("db", "migrate", url=sqlite_url)
    answer("versions", "default", "greet", "1", url=sqlite_url)

    assert called("versions", "deprecate", "greet", "1", url=sqlite_url).exit_code == 2
    assert called("versions", "default", "greet", "0", url=sqlite_url).exit_code == 2
    assert called("versions", "deprecate", "", "1", url=sqlite_url).exit_code == 2
    assert called("versions", "default", "greet", "one", url=sqlite_url).exit_code == 2
