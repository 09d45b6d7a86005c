"""What the function of a transaction may do with its connection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kagzi import ErrorKind, Kagzi, KagziError, StepFailed, WorkflowContext
from kagzi.testing import Environment


async def outcome(kagzi: Kagzi, fn: Callable[[Any], Any], *, timeout: timedelta | None = None) -> str:
    """What a workflow sees of a transaction: the failure's text, or the result's."""

    @kagzi.workflow("outcome")
    async def flow(ctx: WorkflowContext) -> str:
        try:
            return str(await ctx.options(timeout=timeout).transaction("tx", fn))
        except StepFailed as failed:
            return f"{failed.error.kind}: {failed.error.message}"

    async with Environment(kagzi) as env:
        handle = await flow.start()
        await env.settle()
        return await handle.result()


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM workflow_runs",
        "UPDATE Step_Runs SET output = NULL",
        "INSERT INTO kagzi_migrations VALUES (99, 'x', 0)",
        "DROP TABLE workers",
        "COMMIT",
        "ATTACH ':memory:' AS other",
        "PRAGMA synchronous = OFF",
    ],
)
async def test_a_function_can_not_touch_what_is_kagzis(sql: str) -> None:
    def harm(conn: Any) -> None:
        conn.execute(sql)

    assert "not authorized" in await outcome(Kagzi("sqlite://"), harm)


async def test_a_connection_is_of_no_use_after_its_function(tmp_path: object) -> None:
    kept: list[Any] = []

    def keep(conn: Any) -> str:
        kept.append(conn)
        return "kept"

    assert await outcome(Kagzi("sqlite://"), keep) == "kept"
    with pytest.raises(KagziError, match="after its function had returned"):
        kept[0].execute("SELECT 1")


async def test_sql_that_takes_too_long_is_interrupted() -> None:
    def count(conn: Any) -> int:
        sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1e12) SELECT max(i) FROM n"
        return int(conn.execute(sql).fetchall()[0][0])

    found = await outcome(Kagzi("sqlite://"), count, timeout=timedelta(seconds=0.2))

    assert found.startswith(ErrorKind.TIMEOUT)


async def test_a_function_that_exits_fails_its_step_and_no_more() -> None:
    def leave(conn: Any) -> None:
        raise SystemExit(3)

    assert "3" in await outcome(Kagzi("sqlite://"), leave)


async def test_an_async_function_is_refused() -> None:
    async def wait(conn: Any) -> None: ...

    assert "plain `def`" in await outcome(Kagzi("sqlite://"), wait)


async def test_a_transaction_survives_a_crash_at_every_write() -> None:
    """P12."""
    kagzi = Kagzi("sqlite://")

    def note(conn: Any, word: str) -> list[str]:
        conn.execute("CREATE TABLE IF NOT EXISTS notes (word TEXT)")
        conn.execute("INSERT INTO notes VALUES (?)", (word,))
        return [row[0] for row in conn.execute("SELECT word FROM notes")]

    @kagzi.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        await ctx.transaction("first", note, "one")
        await ctx.sleep("night", timedelta(hours=8))
        return await ctx.transaction("second", note, "two")

    async with Environment(kagzi) as env:
        report = await env.crash_everywhere(flow)

    assert report.writes.count("transaction") == 2


async def test_a_mock_stands_in_for_a_transaction() -> None:
    kagzi = Kagzi("sqlite://")

    @kagzi.workflow
    async def flow(ctx: WorkflowContext) -> str:
        return await ctx.transaction("tx", _never, 7)

    async with Environment(kagzi) as env:
        mock = env.mock("tx", "sent")
        handle = await flow.start()
        await env.settle()
        assert await handle.result() == "sent"

    assert len(mock.calls) == 1


def _never(conn: Any, number: int) -> str:
    raise AssertionError("the mock stands in")
