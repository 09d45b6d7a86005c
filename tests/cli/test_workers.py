"""`kagzi workers`: lists workers, and has one drain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kagzi import Kagzi
from kagzi.store.protocol import Store
from tests.cli.commands import Command, a_worker, answer, called, entries, wait_until
from tests.contract.builders import a_registration, kill


def test_workers_are_listed_with_what_they_told(any_database_url: str) -> None:
    options = ("--worker-id", "w1", "--queue", "mail", "--queue", "fax", "--concurrency", "3", "--lease", "90")
    with a_worker(*options, url=any_database_url, KAGZI_BUILD_ID="1f3a") as worker:
        wait_until(lambda: answer("workers", "list", url=any_database_url)["workers"][0]["state"] == "RUNNING")
        (found,) = answer("workers", "list", url=any_database_url)["workers"]
        text = called("workers", "list", url=any_database_url).stdout

    assert (found["worker_id"], found["pid"], found["queues"]) == ("w1", worker.pid, ["mail", "fax"])
    assert (found["slots"], found["build_id"], found["load"]["runs"]) == (3, "1f3a", 0)
    assert ["greet", 1] in found["workflows"]
    assert 0 <= found["silent_for_s"] < 30
    assert "RUNNING" in text
    assert "0/3" in text
    assert "mail, fax" in text
    assert f":{worker.pid}" in text


def test_workers_that_ended_are_listed_on_request(sqlite_url: str) -> None:
    with a_worker("--worker-id", "gone", url=sqlite_url) as worker:
        answer("workers", "drain", "gone", "--wait", url=sqlite_url)
        status = worker.wait()

    none, all_of_them = called("workers", "list", url=sqlite_url), called("workers", "list", "--all", url=sqlite_url)
    assert status == 0
    assert (none.exit_code, none.stdout, none.stderr.strip()) == (0, "", "No workers.")
    assert "gone" in all_of_them.stdout
    assert "STOPPED" in all_of_them.stdout


def test_a_worker_is_drained_by_the_beginning_of_its_name(any_database_url: str, tmp_path: Path) -> None:
    """Its step finishes first, though its next heartbeat is far off."""
    ledger = tmp_path / "ledger"
    with a_worker("--worker-id", "mail-1", "--heartbeat", "600", "--lease", "6000", url=any_database_url) as worker:
        answer("run", "slow", "--args", f'["{ledger}", 1.5]', "--detach", url=any_database_url)
        wait_until(lambda: entries(ledger) == ["begun"])
        asked = called("workers", "drain", "mail", url=any_database_url)
        worker.wait_for_line("The worker drains.")
        waited = called("workers", "drain", "mail", "--wait", "--timeout", "30", url=any_database_url)
        status = worker.wait()

    assert (asked.exit_code, asked.stdout) == (0, "Worker mail-1 was asked to drain.\n")
    # It may have gone before we asked again.
    assert waited.stdout == "Worker mail-1 has stopped.\n" or "no living worker" in waited.stderr
    assert status == 0
    assert entries(ledger) == ["begun", "done"]


def test_a_worker_that_does_not_stop_in_time_gives_status_1(sqlite_url: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with a_worker("--worker-id", "w1", url=sqlite_url) as worker:
        answer("run", "slow", "--args", f'["{ledger}", 60]', "--detach", url=sqlite_url)
        wait_until(lambda: entries(ledger) == ["begun"])
        called("workers", "drain", "w1", url=sqlite_url)
        worker.wait_for_line("The worker drains.")
        done = called("workers", "drain", "w1", "--wait", "--timeout", "0.5", url=sqlite_url)

    assert done.exit_code == 1
    assert "did not stop within 0.5 s" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("nobody",), 1, "no living worker has the name or key 'nobody'"),
        (("twin",), 1, "could be any of these workers: twin ("),
        (("t",), 1, "could be any of these workers"),
        (("gone",), 1, "There are: "),
        (("\x1b[31m\n",), 1, "no living worker"),
        (("",), 2, "worker_id is empty"),
        (("w" * 1000,), 2, "1000 characters"),
        (("twin", "--timeout", "5"), 2, "--timeout is for --wait"),
    ],
)
def test_a_worker_that_is_not_meant_clearly_is_refused_in_one_line(
    sqlite_url: str, arguments: tuple[str, ...], status: int, message: str
) -> None:
    asyncio.run(on_store(sqlite_url, enter_some))

    done = called("workers", "drain", *arguments, url=sqlite_url)

    assert done.exit_code == status
    assert message in done.stderr
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr


async def enter_some(store: Store) -> None:
    """Two workers of one name, one that begins like them, and one that is gone."""
    for name in ("twin", "twin", "third"):
        await store.register(a_registration(worker_id=name))
    gone = a_registration(worker_id="gone")
    await store.register(gone)
    await store.leave(gone.key)


def test_a_worker_that_died_before_it_drained_gives_status_1(sqlite_url: str) -> None:
    registration = a_registration(worker_id="w1")
    asyncio.run(on_store(sqlite_url, lambda store: store.register(registration)))

    with Command("-m", "kagzi.cli.main", "workers", "drain", "w1", "--wait", url=sqlite_url) as draining:
        wait_until(lambda: answer("workers", "list", url=sqlite_url)["workers"][0]["drain_asked"])
        asyncio.run(on_store(sqlite_url, lambda store: kill(store, registration.key)))
        status = draining.wait()
        draining.wait_for_line("was declared DEAD")

    assert status == 1


async def on_store(url: str, act: Callable[[Store], Awaitable[object]]) -> None:
    async with Kagzi(url) as kagzi:
        await act(kagzi._open_link().store)


def test_names_can_not_reach_the_terminal(sqlite_url: str) -> None:
    hostile = a_registration(worker_id="a\x1b[2Jb", host="h\x1b[31m")
    asyncio.run(on_store(sqlite_url, lambda store: store.register(hostile)))

    done = called("workers", "list", url=sqlite_url)

    assert "\x1b" not in done.stdout
    assert r"a\x1b[2Jb" in done.stdout
