"""`kagzi worker --reload` and `kagzi dev`: real files, real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kagzi.cli.sources import Sources, differences
from tests.cli.commands import Command, answer, called, entries, wait_until

SHOP = """
import asyncio
from kagzi import Kagzi, WorkflowContext
from shop.texts import TEXT

kagzi = Kagzi()


@kagzi.workflow
async def hello(ctx: WorkflowContext) -> str:
    return TEXT


@kagzi.workflow
async def slow(ctx: WorkflowContext, ledger: str) -> str:
    return await ctx.step("work", work, ledger)


async def work(ledger: str) -> str:
    with open(ledger, "a") as file:
        file.write("begun\\n")
    await asyncio.sleep({seconds})
    with open(ledger, "a") as file:
        file.write("done\\n")
    return TEXT
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An application of two modules: `shop.flows` and `shop.texts`."""
    folder = tmp_path / "project"
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "__init__.py").touch()
    write(folder, "texts", 'TEXT = "one"\n')
    write(folder, "flows", SHOP.replace("{seconds}", "0.5"))
    return folder


def write(folder: Path, module: str, text: str) -> None:
    (folder / "shop" / f"{module}.py").write_text(text)


def reloading(folder: Path, *options: str, url: str, command: str = "worker") -> Command:
    """Start the command, and wait until its worker takes runs."""
    more = ("--reload",) if command == "worker" else ()
    process = Command("-m", "kagzi.cli.main", command, "shop.flows:kagzi", *more, *options, url=url, cwd=folder)
    process.wait_for_line("A worker takes runs.")
    return process


def hello(url: str) -> str:
    return str(answer("run", "hello", "--version", "1", url=url)["output"])


def test_a_changed_file_starts_the_worker_anew_with_the_new_code(folder: Path, sqlite_url: str) -> None:
    texts = folder / "shop" / "texts.py"
    with reloading(folder, url=sqlite_url) as process:
        before = hello(sqlite_url)
        changed_ns = texts.stat().st_mtime_ns
        fresh = texts.with_suffix(".new")
        fresh.write_text('TEXT = "two"\n')
        os.utime(fresh, ns=(changed_ns, changed_ns // 1000 * 1000 + 1))  # as long as it was, and of the same second
        fresh.replace(texts)
        process.wait_for_line("A worker takes runs.", times=2)
        after = hello(sqlite_url)
        process.send(signal.SIGTERM)
        status = process.wait()
        process.wait_for_descendants()

    assert (before, after) == ("one", "two")
    assert status == 0
    assert any("shop/texts.py" in line for line in process.lines)
    assert sum("The worker has stopped." in line for line in process.lines) == 2


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("TEXT = (\n", "SyntaxError"),
        ("import not_there_at_all\n", "No module named 'not_there_at_all'"),
        ("TEXT = 1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_a_mistake_is_shown_and_the_next_change_mends_it(
    folder: Path, sqlite_url: str, broken: str, message: str
) -> None:
    with reloading(folder, url=sqlite_url) as process:
        write(folder, "texts", broken)
        process.wait_for_line(message)
        process.wait_for_line("It is started again when a file changes.")
        write(folder, "texts", 'TEXT = "mended"\n')
        process.wait_for_line("A worker takes runs.", times=2)
        text = hello(sqlite_url)

    assert text == "mended"


def test_an_application_that_is_broken_from_the_start_is_waited_for(folder: Path, sqlite_url: str) -> None:
    write(folder, "flows", "this is no Python\n")

    with Command(
        "-m", "kagzi.cli.main", "worker", "shop.flows:kagzi", "--reload", url=sqlite_url, cwd=folder
    ) as process:
        process.wait_for_line("It is started again when a file changes.")
        write(folder, "flows", SHOP.replace("{seconds}", "0.5"))
        process.wait_for_line("A worker takes runs.")
        process.send(signal.SIGINT)
        status = process.wait()

    assert status == 0


def test_ctrl_c_ends_a_reloader_whose_worker_is_broken(folder: Path, sqlite_url: str) -> None:
    write(folder, "flows", "this is no Python\n")

    with Command(
        "-m", "kagzi.cli.main", "worker", "shop.flows:kagzi", "--reload", url=sqlite_url, cwd=folder
    ) as process:
        process.wait_for_line("It is started again when a file changes.")
        process.press_ctrl_c()
        status = process.wait(within_s=10)

    assert status == 0
    assert not any("KeyboardInterrupt" in line for line in process.lines)


def test_a_step_in_flight_finishes_before_the_new_code_comes(
    folder: Path, any_database_url: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    write(folder, "flows", SHOP.replace("{seconds}", "2.0"))
    with reloading(folder, url=any_database_url) as process:
        run = answer("run", "slow", "--args", f'["{ledger}"]', "--version", "1", "--detach", url=any_database_url)
        wait_until(lambda: entries(ledger) == ["begun"])
        write(folder, "texts", 'TEXT = "two"\n')
        process.wait_for_line("A worker takes runs.", times=2)
        wait_until(lambda: answer("runs", "show", run["run_id"], url=any_database_url)["status"] == "COMPLETED")
        output = answer("runs", "show", run["run_id"], url=any_database_url)["output"]

    assert entries(ledger) == ["begun", "done"]
    assert output == "one"


def test_a_step_that_takes_too_long_for_waiting_is_executed_again_by_the_new_code(
    folder: Path, sqlite_url: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    write(folder, "flows", SHOP.replace("{seconds}", "3600"))
    with reloading(folder, "--shutdown-timeout", "0.2", url=sqlite_url) as process:
        run = answer("run", "slow", "--args", f'["{ledger}"]', "--version", "1", "--detach", url=sqlite_url)
        wait_until(lambda: entries(ledger) == ["begun"])
        write(folder, "flows", SHOP.replace("{seconds}", "0.1"))
        process.wait_for_line("A worker takes runs.", times=2)
        wait_until(lambda: answer("runs", "show", run["run_id"], url=sqlite_url)["status"] == "COMPLETED")

    assert entries(ledger) == ["begun", "begun", "done"]


def test_ctrl_c_twice_waits_for_no_step(folder: Path, sqlite_url: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    write(folder, "flows", SHOP.replace("{seconds}", "3600"))
    with reloading(folder, "--shutdown-timeout", "600", url=sqlite_url) as process:
        answer("run", "slow", "--args", f'["{ledger}"]', "--version", "1", "--detach", url=sqlite_url)
        wait_until(lambda: entries(ledger) == ["begun"])
        process.press_ctrl_c()
        process.wait_for_line("The worker drains.")
        process.press_ctrl_c()
        status = process.wait(within_s=10)

    assert status == 0


def test_a_worker_that_is_killed_is_started_again_by_a_change(folder: Path, sqlite_url: str) -> None:
    with reloading(folder, url=sqlite_url) as process:
        (worker,) = answer("workers", "list", url=sqlite_url)["workers"]
        os.kill(worker["pid"], signal.SIGKILL)
        process.wait_for_line("It is started again when a file changes.")
        (folder / "shop" / "new.py").touch()
        process.wait_for_line("A worker takes runs.", times=2)


def test_a_worker_that_is_drained_is_not_started_again(folder: Path, sqlite_url: str) -> None:
    with reloading(folder, "--worker-id", "w1", url=sqlite_url) as process:
        answer("workers", "drain", "w1", url=sqlite_url)
        status = process.wait()

    assert status == 0


def test_the_worker_leaves_when_its_reloader_is_killed(folder: Path, sqlite_url: str) -> None:
    with reloading(folder, url=sqlite_url) as process:
        process.send(signal.SIGKILL)
        process.wait_for_descendants()

    assert any("The worker has stopped." in line for line in process.lines)


def test_dev_migrates_works_and_reloads(folder: Path, any_database_url: str) -> None:
    with reloading(folder, url=any_database_url, command="dev") as process:
        before = hello(any_database_url)
        write(folder, "texts", 'TEXT = "two"\n')
        process.wait_for_line("A worker takes runs.", times=2)
        after = hello(any_database_url)

    assert (before, after) == ("one", "two")


def test_dev_migrates_though_the_application_says_not_to(folder: Path, sqlite_url: str) -> None:
    with Command(
        *("-m", "kagzi.cli.main", "dev", "shop.flows:kagzi"), url=sqlite_url, cwd=folder, KAGZI_AUTO_MIGRATE="false"
    ) as process:
        process.wait_for_line("A worker takes runs.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("worker", "nowhere:app", "--reload"), "there is no module 'nowhere'"),
        (("dev", "nowhere.deeper:app"), "there is no module 'nowhere'"),
        (("dev", "a b"), "there is no module"),
        (("worker", "tests.cli.flows:app", "--reload", "--processes", "2"), "leave out --processes"),
    ],
)
def test_what_can_not_be_watched_is_refused(sqlite_url: str, options: tuple[str, ...], message: str) -> None:
    done = called(*options, url=sqlite_url)

    assert done.exit_code == 2
    assert message in done.stderr


# -- watching ----------------------------------------------------------------------------------------------------


def change(path: Path) -> None:
    path.write_text("changed = True\n")


@pytest.mark.parametrize(
    ("act", "found"),
    [
        (lambda root: change(root / "a.py"), ["a.py"]),
        (lambda root: change(root / "deep" / "er" / "b.py"), ["deep/er/b.py"]),
        (lambda root: change(root / "new.py"), ["new.py"]),
        (lambda root: (root / "a.py").unlink(), ["a.py"]),
        (lambda root: (root / "a.py").rename(root / "z.py"), ["a.py", "z.py"]),
        (lambda root: os.utime(root / "a.py", ns=(1, 1)), ["a.py"]),
        (lambda root: change(root / "notes.txt"), []),
        (lambda root: change(root / ".hidden" / "c.py"), []),
        (lambda root: change(root / "env" / "lib.py"), []),
        (lambda root: change(root / "__pycache__" / "d.py"), []),
        (lambda root: (root / "broken.py").symlink_to(root / "nothing"), []),
    ],
)
def test_python_files_of_the_project_are_watched(
    tmp_path: Path, act: Callable[[Path], object], found: list[str]
) -> None:
    for name in ("deep/er", ".hidden", "env", "__pycache__"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a.py", "deep/er/b.py", "notes.txt", ".hidden/c.py", "env/lib.py", "env/pyvenv.cfg"):
        (tmp_path / name).touch()
    sources = Sources([tmp_path])
    before = sources.look()

    act(tmp_path)

    changes = differences(before, sources.look())
    assert [str(Path(path).relative_to(tmp_path)) for path in changes] == found


async def test_files_written_one_after_another_are_one_change(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    sources = Sources([tmp_path])
    waiting = asyncio.ensure_future(sources.changed(sources.look()))

    for number in range(10):
        (tmp_path / f"b{number}.py").touch()
        await asyncio.sleep(0.02)

    changes = await asyncio.wait_for(waiting, 30)
    assert len(changes) == 10
