"""Looking into a database behind Kagzi's back, and doing harm there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, LiteralString

import apsw
import psycopg

SQLITE = "sqlite:///"
Row = tuple[Any, ...]


def query(url: str, sql: LiteralString) -> list[Row]:
    """Run one statement, understood by every database, and give its rows."""
    if url.startswith(SQLITE):
        with closing(apsw.Connection(url.removeprefix(SQLITE))) as connection:
            connection.set_busy_timeout(30_000)
            return connection.execute(sql).fetchall()
    with _connected(url) as server:
        cursor = server.execute(sql)
        return cursor.fetchall() if cursor.description else []


def harm(url: str, sql: str) -> None:
    """Run statements that a healthy database would refuse: no check and no trigger is applied."""
    if url.startswith(SQLITE):
        with closing(apsw.Connection(url.removeprefix(SQLITE))) as connection:
            connection.set_busy_timeout(30_000)
            connection.execute("PRAGMA ignore_check_constraints = 1")
            connection.execute(sql)
        return
    with _connected(url) as server:
        server.execute(sql.encode())


@contextmanager
def _connected(url: str) -> Iterator[psycopg.Connection[Row]]:
    with psycopg.connect(url, autocommit=True, options="-c search_path=kagzi", connect_timeout=10) as server:
        yield server


def dump_runs(url: str) -> dict[str, list[Row]]:
    """Everything that the database holds about runs, row by row."""
    return {
        "workflow_runs": query(url, "SELECT * FROM workflow_runs ORDER BY run_id"),
        "step_runs": query(url, "SELECT * FROM step_runs ORDER BY run_id, step_id"),
        "step_attempts": query(url, "SELECT * FROM step_attempts ORDER BY run_id, step_id, attempt"),
        "messages": query(url, "SELECT * FROM messages ORDER BY run_id, position"),
    }


def status_counts(url: str) -> dict[str, int]:
    """How many runs there are of each status."""
    return dict(query(url, "SELECT status, count(*) FROM workflow_runs GROUP BY status"))


def stored_results(url: str) -> dict[tuple[str, str], str]:
    """The encoded result of every finished step, by run and step."""
    rows = query(
        url,
        "SELECT CAST(run_id AS text), step_id, output FROM step_runs "
        "WHERE seq IS NOT NULL AND kind = 'STEP' AND status = 'COMPLETED'",
    )
    return {(run_id, step_id): output for run_id, step_id, output in rows}
