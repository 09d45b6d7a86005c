"""Starts, messages and orders to end inside a caller's own transaction, on the caller's connection (P3)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kagzi.errors import ConfigError, StoreUnavailable
from kagzi.ids import is_id
from kagzi.model.cancelling import CancelAnswer, CancelOrder
from kagzi.model.event import KeyTaken, NewEvent
from kagzi.model.message import NewMessage, Posted
from kagzi.model.run import NewRun, Started
from kagzi.store.borrowed.protocol import Borrowed, Dialect, Row
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.batches import rows_json
from kagzi.store.postgres.cancelling import CANCEL, answered_by
from kagzi.store.postgres.events import EMIT_WITHIN, TAKEN, taken_by
from kagzi.store.postgres.hint_sql import SOMEBODY_IDLE
from kagzi.store.postgres.mail import POST, possible, posted_by
from kagzi.store.postgres.start import MANY_RARE, identity

_THERE = """
SELECT r.run_id::text AS run_id, r.namespace AS namespace, r.id AS id, r.workflow AS workflow, r.input AS input
FROM json_to_recordset($1::json) AS asked (run_id uuid, namespace text, id text)
CROSS JOIN LATERAL (
    SELECT a.run_id, a.namespace, a.id, a.workflow, a.input FROM {schema}.workflow_runs AS a
    WHERE a.run_id = asked.run_id
    UNION ALL
    SELECT b.run_id, b.namespace, b.id, b.workflow, b.input FROM {schema}.workflow_runs AS b
    WHERE b.namespace = asked.namespace AND b.id = asked.id AND b.run_id <> asked.run_id
) AS r
"""

_UNKNOWN = frozenset({"42P01", "42703", "3F000"})
"""States of SQL that say that a table, a column or a schema is not there."""


def _within(sql: str) -> str:
    """A statement of the store's for a transaction that began and goes on for we don't know how long.

    The time is that of the clock, or a delay would be over early. Whoever is idle when the caller commits is to be
    told, and who that is can't be known now. Drivers may have been taught other codecs for JSON, so it travels as text.
    """
    always_told = sql.replace(f"AND {SOMEBODY_IDLE}", "")
    return always_told.replace("now()", "clock_timestamp()").replace("$1::json", "$1::text::json")


class Within:
    """The verbs `start_within`, `post_within`, `emit_within` and `cancel_within`."""

    def __init__(self, names: Names) -> None:
        self._start = names.fill(_within(MANY_RARE))
        self._there = names.fill(_within(_THERE))
        self._post = names.fill(_within(POST))
        self._emit = names.fill(_within(EMIT_WITHIN))
        self._taken = names.fill(_within(TAKEN))
        self._cancel = names.fill(_within(CANCEL))
        self._schema = names.schema

    async def start(self, borrowed: Borrowed, runs: Sequence[NewRun]) -> list[Started]:
        """One trip, or two where some of the runs were there already."""
        if not runs:
            return []
        ordered = sorted(runs, key=identity)
        now, stored = (await self._execute(borrowed, self._start, rows_json(ordered)))[0][:2]
        if stored == len(runs):
            return [_started(run, (run.run_id, None, None, run.workflow, run.input), now) for run in runs]
        there = await self._execute(borrowed, self._there, rows_json(runs))
        by_run_id = {row[0]: row for row in there}
        by_id = {(row[1], row[2]): row for row in there if row[2] is not None}
        answers: list[Started] = []
        for run in runs:
            found = by_run_id.get(run.run_id) or by_id.get((run.namespace, run.id))
            if found is None:
                raise StoreUnavailable(
                    f"a run with the id {run.id!r} is there, but your transaction can't see it: it began before, and "
                    "is REPEATABLE READ or SERIALIZABLE. Roll back and try again."
                )
            answers.append(_started(run, found, now))
        return answers

    async def post(self, borrowed: Borrowed, messages: Sequence[NewMessage]) -> list[Posted]:
        """One trip."""
        wanted = possible(messages)
        return posted_by(messages, await self._execute(borrowed, self._post, rows_json(wanted)) if wanted else ())

    async def emit(self, borrowed: Borrowed, events: Sequence[NewEvent]) -> list[KeyTaken]:
        """One trip, or two where some were there already."""
        if not events:
            return []
        stored = (await self._execute(borrowed, self._emit, rows_json(events)))[0][0]
        if stored == len(events):
            return []
        return [taken_by(row) for row in await self._execute(borrowed, self._taken, rows_json(events))]

    async def cancel(self, borrowed: Borrowed, order: CancelOrder) -> CancelAnswer:
        """One trip."""
        rows = await self._execute(borrowed, self._cancel, rows_json([order])) if is_id(order.run_id) else ()
        return answered_by([order], rows)[0]

    async def _execute(self, borrowed: Borrowed, sql: str, rows: str) -> list[Row]:
        if borrowed.dialect is not Dialect.POSTGRESQL:
            raise ConfigError(
                f"connection= is {borrowed.shown} to a {borrowed.dialect} database, but Kagzi is on PostgreSQL. Give a "
                "connection to the database of KAGZI_DATABASE_URL."
            )
        try:
            return await borrowed.execute(sql, rows)
        except Exception as error:
            if _state(error) in _UNKNOWN:
                raise ConfigError(
                    f"connection= is {borrowed.shown} to a database in which Kagzi's schema {self._schema!r} is not "
                    f"what it should be ({error}). Give a connection to the database of KAGZI_DATABASE_URL, migrated."
                ) from error
            raise


def _state(error: BaseException | None) -> str | None:
    """The state of SQL that an error of any driver bears; those on top keep the driver's own behind."""
    while error is not None:
        for name in ("sqlstate", "pgcode"):
            state = getattr(error, name, None)
            if isinstance(state, str):
                return state
        error = error.__cause__
    return None


def _started(run: NewRun, there: tuple[Any, ...], now: datetime) -> Started:
    return Started(
        run_id=there[0], created=there[0] == run.run_id, workflow=there[3], input=there[4], claimed=False, now=now
    )
