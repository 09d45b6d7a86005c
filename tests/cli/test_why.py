"""`kagzi why`: what exactly a run waits for."""

from __future__ import annotations

from pathlib import Path

from tests.cli.commands import a_worker, answer, called, entries, kagzi, wait_until


def test_a_run_that_nobody_serves_says_why(any_database_url: str) -> None:
    answer("run", "greet", "--version", "3", "--detach", "--id", "mine", url=any_database_url)
    alone = answer("why", "mine", url=any_database_url)
    with a_worker(url=any_database_url):
        served = called("why", "mine", url=any_database_url).stdout
        by_run_id = answer("why", alone["run_id"], url=any_database_url)
        shown = answer("runs", "show", "mine", url=any_database_url)

    assert alone["waits_for"][0].startswith("a worker: no worker is up (it is due since")
    assert served.splitlines()[0] == f"Run {alone['run_id']} of workflow 'greet', version 3, is PENDING."
    expected = "no worker serves version 3 of workflow 'greet' on queue 'default'; workers that are up know version 1"
    assert f"It waits for a worker: {expected}" in served
    assert (by_run_id["status"], by_run_id["version"], by_run_id["queue"]) == ("PENDING", 3, "default")
    assert shown["waiting_for"] == [expected]


def test_a_run_that_is_for_later_and_one_that_has_ended_say_so(sqlite_url: str) -> None:
    answer("run", "greet", "--version", "1", "--detach", "--id", "later", "--delay", "3600", url=sqlite_url)
    with a_worker(url=sqlite_url):
        kagzi("run", "greet", "--input", '"Ada"', "--id", "done", url=sqlite_url)
        later, done = (answer("why", name, url=sqlite_url)["waits_for"] for name in ("later", "done"))

    assert later[0].startswith("its time: it falls due at ")
    assert done[0].startswith("nothing: it ended COMPLETED at ")


def test_a_run_whose_step_takes_long_names_it(sqlite_url: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with a_worker("--shutdown-timeout", "0", url=sqlite_url, KAGZI_HEARTBEAT_INTERVAL="0.2", KAGZI_LEASE="30"):
        answer("run", "slow", "--detach", "--id", "mine", "--args", f'["{ledger}", 60]', url=sqlite_url)
        wait_until(lambda: entries(ledger) == ["begun"])
        wait_until(lambda: "step 'work', which worker" in answer("why", "mine", url=sqlite_url)["waits_for"][0])


def test_what_a_long_step_tells_is_shown(any_database_url: str) -> None:
    with a_worker("--shutdown-timeout", "0", url=any_database_url):
        answer("run", "telling", "--detach", "--id", "mine", "--args", "[60]", url=any_database_url)
        wait_until(lambda: answer("runs", "show", "mine", url=any_database_url)["waiting_for"])
        shown = answer("runs", "show", "mine", url=any_database_url)
        text = called("runs", "show", "mine", url=any_database_url).stdout
        (waits,) = answer("why", "mine", url=any_database_url)["waits_for"]

    (step,) = shown["steps"]
    assert step["heartbeat_details"] == {"page": 7, "site": "\x1b[31mred"}
    assert step["heartbeat_at"] is not None
    assert "step 'crawl', whose last heartbeat was at " in shown["waiting_for"][0]
    assert 'heartbeat  {"page": 7, "site": ' in text
    assert "\x1b" not in text
    assert 's ago: {"page": 7, "site": ' in waits


def test_a_run_that_waits_for_a_signal_names_it_until_it_comes(any_database_url: str) -> None:
    with a_worker(url=any_database_url):
        answer("run", "listen", "--detach", "--id", "mine", url=any_database_url)
        wait_until(lambda: answer("why", "mine", url=any_database_url)["waits_for"] == ["signal 'word'"])
        answer("runs", "signal", "mine", "word", "--value", '"come"', url=any_database_url)
        wait_until(lambda: answer("runs", "show", "mine", url=any_database_url)["output"] == "come")


def test_a_run_that_is_not_there_gives_status_1(sqlite_url: str) -> None:
    answer("db", "migrate", url=sqlite_url)

    done = called("why", "nobody", url=sqlite_url)

    assert done.exit_code == 1
    assert "no run has the id 'nobody'" in done.stderr
