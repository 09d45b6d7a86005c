"""Blocking applications where they are used: under `kagzi worker`, in a threaded web server, in a type checker."""

from __future__ import annotations

import json
import socketserver
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from kagzi import blocking
from tests.blocking.flows import PATIENCE_S, in_threads
from tests.cli.commands import Command, kagzi
from tests.test_public_surface import check

FLOWS = """
from kagzi import Kagzi, SyncWorkflowContext, WorkflowContext, blocking

kagzi = Kagzi()
view = blocking.Kagzi.of(kagzi)
alone = blocking.Kagzi()

def compose(name: str) -> str:
    return f"Hello, {name}!"

def delegate(name: str) -> str:  # a step that starts a run through a blocking application
    return alone.options(id=name).start_workflow("greet", name).run_id

@alone.workflow
async def greet(ctx: WorkflowContext, name: str) -> str:
    return await ctx.step("compose", compose, name)

@alone.workflow
def ask(ctx: SyncWorkflowContext, name: str) -> str:
    return ctx.step("delegate", delegate, name)

@view.workflow
async def viewed(ctx: WorkflowContext) -> str:
    return "seen"
"""


# -- the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def flows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of applications."""
    (tmp_path / "blocking_flows.py").write_text(FLOWS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_kagzi_worker_executes_a_blocking_application(any_database_url: str, flows: Path) -> None:
    with Command("-m", "kagzi.cli.main", "worker", "blocking_flows:alone", url=any_database_url) as worker:
        worker.wait_for_line("A worker takes runs.")
        asked = kagzi("run", "ask", "--input", '"Ada"', url=any_database_url, cwd=flows)
        with blocking.Kagzi(any_database_url) as client:
            greeted = client.handle(json.loads(asked.stdout)).result(timeout=PATIENCE_S)

    assert greeted == "Hello, Ada!"


def test_kagzi_worker_executes_what_a_view_registered(any_database_url: str, flows: Path) -> None:
    with Command("-m", "kagzi.cli.main", "worker", "blocking_flows:view", url=any_database_url) as worker:
        worker.wait_for_line("A worker takes runs.")
        done = kagzi("run", "viewed", url=any_database_url, cwd=flows)

    assert json.loads(done.stdout) == "seen"


def test_a_view_is_the_application_that_it_is_a_view_of(sqlite_url: str, flows: Path) -> None:
    (flows / "one_application.py").write_text("from blocking_flows import kagzi, view\n")

    done = kagzi("run", "greet", "--input", '"Ada"', "--app", "one_application", url=sqlite_url, cwd=flows)
    several = kagzi("run", "greet", "--app", "blocking_flows", url=sqlite_url, cwd=flows)

    assert "workflow 'greet' is not registered in this application; it knows: viewed." in done.stderr
    assert "Name one of: blocking_flows:kagzi, blocking_flows:view, blocking_flows:alone." in several.stderr


# -- a web server --------------------------------------------------------------------------------------------------


class ThreadingServer(socketserver.ThreadingMixIn, WSGIServer):
    """A WSGI server with a thread for each request, as Flask's and Django's own are."""

    daemon_threads = True
    request_queue_size = 64


class Quiet(WSGIRequestHandler):
    """Writes no log."""

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(app: Callable[[dict[str, Any], Any], Iterable[bytes]]) -> Iterator[str]:
    """Serve a WSGI application, and give its URL."""
    with make_server("127.0.0.1", 0, app, server_class=ThreadingServer, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_views_of_a_threaded_web_server_start_runs_and_await_them(kagzi: blocking.Kagzi) -> None:
    def app(environment: dict[str, Any], respond: Any) -> Iterable[bytes]:
        (name,) = parse_qs(environment["QUERY_STRING"])["name"]
        result = kagzi.start_workflow("greet", name).result(timeout=PATIENCE_S)
        respond("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [str(result).encode()]

    answers: dict[int, str] = {}

    def visit(number: int) -> None:
        with urllib.request.urlopen(f"{url}/?name=guest-{number}", timeout=PATIENCE_S) as response:
            answers[number] = response.read().decode()

    with kagzi.create_worker(), serving(app) as url:
        in_threads(32, visit)

    assert answers == {number: f"Hello, guest-{number}!" for number in range(32)}


# -- a type checker ------------------------------------------------------------------------------------------------

PROGRAM = """
from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import assert_type

from kagzi import Kagzi as AsyncKagzi
from kagzi import Run, RunStatus, SyncWorkflowContext, WorkflowContext
from kagzi.blocking import BoundWorkflow, Kagzi, Worker, Workflow, WorkflowHandle

kagzi = Kagzi("sqlite://")
async_kagzi = AsyncKagzi("sqlite://")


@dataclass
class User:
    id: str


@kagzi.workflow
async def plain(ctx: WorkflowContext, number: int, *, note: str = "") -> list[str]:
    return [note] * number


@kagzi.workflow("named", version=2)
async def named(ctx: WorkflowContext, user: User) -> User:
    return user


@kagzi.workflow
def sync(ctx: SyncWorkflowContext, user: User) -> int:
    return 1


@async_kagzi.workflow
async def elsewhere(ctx: WorkflowContext, user: User) -> bool:
    return True


def main() -> None:
    assert_type(plain.start(5, note="a"), WorkflowHandle[list[str]])
    assert_type(plain.start(5).result(timeout=timedelta(seconds=5)), list[str])
    assert_type(plain.options(id="a", delay=5).start(5).result(), list[str])
    assert_type(sync.start(User("a")).result(), int)
    assert_type(kagzi.start_workflow(named, User("a")).result(), User)
    assert_type(kagzi.options(priority=1).start_workflow(named, User("a")).result(), User)
    assert_type(kagzi.start_many(named, [User("a")]), list[WorkflowHandle[User]])
    assert_type(kagzi.find_runs(status="FAILED"), list[Run])
    assert_type(kagzi.handle("a").status(), RunStatus)
    assert_type(kagzi.create_worker(), Worker)
    assert_type(kagzi.create_worker_builder().worker_id("a").build(), Worker)
    assert_type(kagzi.get_default_workflow_version("named"), int | None)
    view = Kagzi.of(async_kagzi)
    assert_type(view, Kagzi)
    assert_type(view.start_workflow(elsewhere, User("a")).result(), bool)
    assert_type(view.start_many(elsewhere, [User("a")]), list[WorkflowHandle[bool]])
    with Kagzi.connect("sqlite://") as connected:
        assert_type(connected, Kagzi)
"""

WRONG = {
    "a workflow's argument": 'plain.start("five")',
    "a workflow's missing argument": "plain.start()",
    "a bound workflow's argument": 'plain.options(id="a").start("five")',
    "a started workflow's argument": "kagzi.start_workflow(named, 5)",
    "an async workflow's argument": "kagzi.start_workflow(elsewhere, 5)",
    "a handle's result": "text: str = plain.start(5).result()",
    "an unknown argument": 'kagzi.find_runs(colour="red")',
    "what is not there to await": "plain.start(5).result().__await__()",
    "a view of a view": "Kagzi.of(kagzi)",
}


@pytest.mark.slow
def test_a_users_blocking_program_is_typed_to_the_last_parameter(tmp_path: Path) -> None:
    mistakes = "\n".join(f"def mistake_{number}() -> None:\n    {line}\n" for number, line in enumerate(WRONG.values()))
    first_mistake = PROGRAM.count("\n") + 1

    checked = check(tmp_path, PROGRAM + mistakes)

    found = {int(line.split(":")[1]) for line in checked.stdout.splitlines() if ": error" in line}
    expected = {first_mistake + 3 * number + 1: name for number, name in enumerate(WRONG)}
    assert sorted(line for line in found if line < first_mistake) == [], checked.stdout
    assert [name for line, name in expected.items() if line not in found] == [], checked.stdout
