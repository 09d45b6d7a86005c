"""`kagzi emit`."""

from __future__ import annotations

from tests.cli.commands import a_worker, answer, called, wait_until


def waits(run_id: str, url: str) -> bool:
    waiting_for: list[str] = answer("runs", "show", run_id, url=url)["waiting_for"]
    return waiting_for == ["event 'paid' with key '7'"]


def test_an_event_wakes_who_waits_for_it(any_database_url: str) -> None:
    run_id = str(
        answer("run", "expect", "--input", '"7"', "--version", "1", "--detach", url=any_database_url)["run_id"]
    )
    with a_worker(url=any_database_url):
        wait_until(lambda: waits(run_id, any_database_url))
        told = answer("emit", "paid", "--value", '{"cents": 1200}', "--key", "7", url=any_database_url)
        wait_until(lambda: answer("runs", "show", run_id, url=any_database_url)["status"] == "COMPLETED")

    run = answer("runs", "show", run_id, url=any_database_url)
    assert told == {"event": "paid", "key": "7"}
    assert run["output"] == {"cents": 1200}
    assert [step["kind"] for step in run["steps"]] == ["EVENT"]


def test_an_event_that_can_not_be_is_refused(sqlite_url: str) -> None:
    called("db", "migrate", url=sqlite_url)
    for arguments in (("",), ("paid", "--key", ""), ("paid", "--value", "no JSON")):
        refused = called("emit", *arguments, url=sqlite_url)
        assert (refused.exit_code, refused.stdout) == (2, ""), refused.stderr


def test_it_says_what_it_has_done(sqlite_url: str) -> None:
    called("db", "migrate", url=sqlite_url)
    done = called("emit", "paid", "--dedup-key", "7", url=sqlite_url)
    assert (done.exit_code, done.stdout) == (0, "Event paid is emitted.\n")
