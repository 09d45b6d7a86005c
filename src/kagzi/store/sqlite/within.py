"""Starts, messages and orders to end in a caller's own transaction, on its connection to the same file (P3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from kagzi.errors import ConfigError
from kagzi.model.cancelling import CancelAnswer, CancelOrder, CancelOutcome
from kagzi.model.event import KeyTaken, NewEvent
from kagzi.model.message import CANCEL as CANCEL_NAME
from kagzi.model.message import NewMessage, Posted, PostOutcome
from kagzi.model.run import TERMINAL, MessageKind, NewRun, Started
from kagzi.store.borrowed.protocol import Borrowed, Dialect
from kagzi.store.sqlite.address import MEMORY
from kagzi.store.sqlite.cancelling import ASK, END, LOOK, judge
from kagzi.store.sqlite.events import EVENT_INSERTED, event_row, taken_by
from kagzi.store.sqlite.mail import met
from kagzi.store.sqlite.rows import RUN_STATUSES, word
from kagzi.store.sqlite.start import INSERTED, new_row
from kagzi.store.sqlite.times import later, micros, moment

_START = f"{INSERTED} VALUES ({', '.join(f'${place}' for place in range(1, 18))}) ON CONFLICT DO NOTHING"
_EMIT = f"{EVENT_INSERTED} VALUES ({', '.join(f'${place}' for place in range(1, 9))}) ON CONFLICT DO NOTHING"
_BY_DEDUP_KEY = "SELECT e.name, e.key FROM events AS e WHERE e.namespace = $1 AND e.dedup_key = $2"
_THERE = """
SELECT r.run_id, r.workflow, r.input FROM workflow_runs AS r WHERE r.run_id = $1
UNION ALL
SELECT r.run_id, r.workflow, r.input FROM workflow_runs AS r WHERE r.namespace = $2 AND r.id = $3
"""
_LIMIT = "UPDATE workflow_runs SET deadline = $2, start_deadline = $3, timeout_s = $4 WHERE run_id = $1"
_FIND = """
SELECT r.run_id, r.status, r.inbox FROM workflow_runs AS r WHERE r.run_id = $1 AND r.namespace = $2
UNION ALL
SELECT r.run_id, r.status, r.inbox FROM workflow_runs AS r WHERE r.namespace = $2 AND r.id = $3
"""
_BY_KEY = "SELECT m.position, m.kind, m.name FROM messages AS m WHERE m.run_id = $1 AND m.dedup_key = $2"
_POST = """
INSERT INTO messages (run_id, position, kind, name, payload, dedup_key, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_COUNT = """
UPDATE workflow_runs SET
    inbox = $2,
    available_at = CASE WHEN status = 'SLEEPING' THEN min(coalesce(available_at, $3), $3) ELSE available_at END
WHERE run_id = $1
"""
_LOOK, _END, _ASK = (sql.replace("?", "$") for sql in (LOOK, END, ASK))


class Within:
    """The verbs `start_within`, `post_within`, `emit_within` and `cancel_within`. `clock` is the store's."""

    def __init__(self, path: str, clock: Callable[[], datetime]) -> None:
        self._path = path
        self._clock = clock

    async def start(self, borrowed: Borrowed, runs: Sequence[NewRun]) -> list[Started]:
        """Two statements for each run, and a third where it is not a plain one."""
        await self._check(borrowed)
        now = micros(self._clock())
        return [await self._start_one(borrowed, run, now) for run in runs]

    async def post(self, borrowed: Borrowed, messages: Sequence[NewMessage]) -> list[Posted]:
        """Up to four statements for each message."""
        await self._check(borrowed)
        now = micros(self._clock())
        return [await self._post_one(borrowed, message, now) for message in messages]

    async def emit(self, borrowed: Borrowed, events: Sequence[NewEvent]) -> list[KeyTaken]:
        """One statement for each event, and another where it has a dedup_key."""
        await self._check(borrowed)
        now = micros(self._clock())
        taken: list[KeyTaken] = []
        for event in events:
            await borrowed.execute(_EMIT, *event_row(event, now))
            if event.dedup_key is not None:
                there = await borrowed.execute(_BY_DEDUP_KEY, event.namespace, event.dedup_key)
                taken += taken_by(event, there)
        return taken

    async def cancel(self, borrowed: Borrowed, order: CancelOrder) -> CancelAnswer:
        """Up to three statements."""
        await self._check(borrowed)
        now = micros(self._clock())
        found = await borrowed.execute(_LOOK, order.run_id, order.namespace)
        if not found:
            return CancelAnswer(outcome=CancelOutcome.NOT_FOUND)
        stored, inbox, was_asked, begun = found[0]
        status = word(RUN_STATUSES, stored)
        outcome = judge(order, status, was_asked=bool(was_asked), begun=bool(begun))
        if outcome is CancelOutcome.ENDED:
            await borrowed.execute(_END, order.run_id, order.error, now)
        elif outcome is CancelOutcome.ASKED:
            content = (MessageKind.CANCEL.value, CANCEL_NAME, order.error, None)
            await borrowed.execute(_POST, order.run_id, inbox + 1, *content, now)
            await borrowed.execute(_ASK, order.run_id, now)
        return CancelAnswer(outcome=outcome, status=status)

    async def _start_one(self, borrowed: Borrowed, run: NewRun, now: int) -> Started:
        due = later(now, run.delay_s) if run.available_at is None else micros(run.available_at)
        await borrowed.execute(_START, *new_row(run, None, due, now))
        run_id, workflow, payload = (await borrowed.execute(_THERE, run.run_id, run.namespace, run.id))[0]
        created = run_id == run.run_id
        if created and not run.is_plain:
            await self._complete(borrowed, run, max(due, now), now)
        return Started(run_id=run_id, created=created, workflow=workflow, input=payload, claimed=False, now=moment(now))

    async def _complete(self, borrowed: Borrowed, run: NewRun, due: int, now: int) -> None:
        if run.message is not None:
            content = (run.message.kind.value, run.message.name, run.message.payload)
            await borrowed.execute(_POST, run.run_id, 1, *content, None, now)
            await borrowed.execute(_COUNT, run.run_id, 1, now)
        limits = [None if each is None else later(due, each) for each in (run.timeout_s, run.start_timeout_s)]
        await borrowed.execute(_LIMIT, run.run_id, *limits, run.timeout_s)

    async def _post_one(self, borrowed: Borrowed, message: NewMessage, now: int) -> Posted:
        found = await borrowed.execute(_FIND, message.run_id, message.namespace, message.id)
        if not found:
            return Posted(outcome=PostOutcome.NOT_FOUND)
        run_id, stored, inbox = found[0]
        status = word(RUN_STATUSES, stored)
        if message.dedup_key is not None:
            there = await borrowed.execute(_BY_KEY, run_id, message.dedup_key)
            if there:
                return met(message, there[0], run_id=run_id, status=status)
        if status in TERMINAL:
            return Posted(outcome=PostOutcome.CLOSED, run_id=run_id, status=status)
        position = inbox + 1
        content = (message.kind.value, message.name, message.payload, message.dedup_key)
        await borrowed.execute(_POST, run_id, position, *content, now)
        await borrowed.execute(_COUNT, run_id, position, now)
        return Posted(outcome=PostOutcome.POSTED, run_id=run_id, position=position, status=status)

    async def _check(self, borrowed: Borrowed) -> None:
        """See that the connection is to the same file. Raises ConfigError."""
        files: list[str] = []
        if borrowed.dialect is Dialect.SQLITE and not borrowed.is_by_apsw:
            # Locks on files are a process's. Each copy of SQLite keeps a book of its own about those of its process, so
            # two don't exclude each other: tried, a row that sqlite3 had committed was gone after apsw's next commit.
            raise ConfigError(
                f"connection= is {borrowed.shown} by Python's sqlite3, which brings a SQLite of its own: in one "
                "process it and Kagzi's (apsw) don't see each other's locks, and undo each other's commits. Give a "
                "connection of apsw, and don't open Kagzi's file with sqlite3 in a process that uses Kagzi."
            )
        if borrowed.dialect is Dialect.SQLITE and self._path != MEMORY:
            files = [row[2] for row in await borrowed.execute("PRAGMA database_list") if row[1] == "main"]
        if not files or not files[0] or not _is_one_file(files[0], self._path):
            raise ConfigError(
                f"connection= is {borrowed.shown} to another database than Kagzi's, which is the SQLite "
                f"{'database in memory' if self._path == MEMORY else f'file {self._path!r}'}. No transaction reaches "
                "from one to the other: give a connection to the same file."
            )


def _is_one_file(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False
