"""Blocking starts inside the caller's own transaction: its connection is used in the caller's thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import apsw
import asyncpg
import psycopg
import pytest

from kagzi import ConfigError, Signal, WorkflowContext
from kagzi.blocking import Kagzi
from kagzi.errors import RunNotFound

ALIAS = "kagzi"
WORD = Signal("word", str)


@pytest.fixture
def django(postgres_url: str) -> Iterator[Any]:
    """A connection of Django to the database, under its alias, as a view of this thread has it."""
    settings: Any = import_module("django.conf").settings
    if not settings.configured:
        settings.configure(USE_TZ=True)
        import_module("django").setup()
    handler = import_module("django.db.utils").ConnectionHandler({"default": {}, ALIAS: _as_django(postgres_url)})
    connections: Any = import_module("django.db").connections
    connections[ALIAS] = handler[ALIAS]
    yield connections[ALIAS]
    connections[ALIAS].close()
    del connections[ALIAS]


def _as_django(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path[1:],
        "USER": parts.username,
        "PASSWORD": parts.password,
        "HOST": parts.hostname,
        "PORT": parts.port,
    }


@pytest.fixture
def kagzi(postgres_url: str) -> Iterator[Kagzi]:
    """An application on PostgreSQL."""
    with Kagzi(postgres_url) as kagzi:
        yield kagzi


async def flow(ctx: WorkflowContext, word: str) -> list[str]:
    return [word, await ctx.wait_for(WORD)]


# Django is imported by name: it has no types, and whoever works on other things need not have it.
def test_a_view_of_django_starts_and_signals_inside_atomic(kagzi: Kagzi, django: Any) -> None:
    """P3."""
    atomic: Callable[..., Any] = import_module("django.db.transaction").atomic
    listen = kagzi.register_workflow("listen", flow)
    waiting = listen.options(id="waiting").start("one")
    queued = listen.options(queue="another").start("never")

    with atomic(using=ALIAS):
        view = listen.options(connection=django, id="100%", tags=["a", "%s"])
        started = view.start("two")
        assert view.start("two").run_id == started.run_id
        waiting.signal(WORD, "three", connection=django)
        queued.cancel("not wanted", connection=django)
        assert queued.status() == "PENDING"
        assert [run.id for run in kagzi.find_runs(queue="default")] == ["waiting"]
    with atomic(using=ALIAS):
        vanished = listen.options(connection=django).start("four")
        import_module("django.db.transaction").set_rollback(True, using=ALIAS)

    assert queued.status() == "CANCELLED"
    assert [run.id for run in kagzi.find_runs(queue="default")] == ["100%", "waiting"]
    assert [message.name for message in waiting.describe().undelivered] == ["word"]
    with pytest.raises(RunNotFound):
        vanished.status()
    with pytest.raises(ConfigError, match="without an open transaction"):
        listen.options(connection=django).start("five")


def test_a_connection_is_used_in_the_thread_of_its_caller(postgres_url: str, kagzi: Kagzi) -> None:
    listen = kagzi.register_workflow("listen", flow)
    connection = psycopg.connect(postgres_url, cursor_factory=_CursorOfOneThread)

    starts = [listen.options(connection=connection).start(str(number)) for number in range(20)]
    connection.commit()
    connection.close()

    assert {run.run_id for run in kagzi.find_runs()} == {handle.run_id for handle in starts}


class _CursorOfOneThread(psycopg.Cursor[Any]):
    """Refuses other threads, as psycopg's own would not."""

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        assert threading.current_thread() is threading.main_thread()
        return super().execute(*args, **kwargs)


def test_a_transaction_of_apsw_carries_a_blocking_start(sqlite_url: str) -> None:
    """P3."""
    with Kagzi(sqlite_url) as kagzi:
        listen = kagzi.register_workflow("listen", flow)
        connection = apsw.Connection(sqlite_url.removeprefix("sqlite:///"))
        with connection:  # a savepoint, which is a transaction where it is the outermost
            listen.options(connection=connection, id="kept").start("one")
        with pytest.raises(ZeroDivisionError), connection:
            listen.options(connection=connection, id="gone").start(str(1 // 0))
        connection.close()

        assert [run.id for run in kagzi.find_runs()] == ["kept"]


def test_many_threads_start_on_connections_of_their_own(postgres_url: str, kagzi: Kagzi) -> None:
    listen = kagzi.register_workflow("listen", flow)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with psycopg.connect(postgres_url) as connection:
                for place in range(10):
                    listen.options(connection=connection, id=f"{number}-{place}").start("x")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len(kagzi.find_runs(limit=1000)) == 80


async def _connected(url: str) -> Any:
    return await asyncpg.connect(url)


def test_a_connection_of_an_async_driver_is_refused(postgres_url: str, kagzi: Kagzi) -> None:
    listen = kagzi.register_workflow("listen", flow)
    with asyncio.Runner() as loop:
        connection = loop.run(_connected(postgres_url))
        with pytest.raises(ConfigError, match="async"):
            listen.options(connection=connection).start("x")
        loop.run(connection.close())
