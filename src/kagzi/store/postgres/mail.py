"""The mailboxes of runs: posting to them, and looking for what has come."""

# ruff: noqa: S608 - the protocol says what the verbs do; SQL is put together from constants.

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kagzi.ids import is_id
from kagzi.model.message import Answered, Mail, Message, NewMessage, Posted, PostOutcome
from kagzi.model.run import MessageKind, RunId, WorkerKey
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.batches import array_text, rows_json
from kagzi.store.postgres.connections import Connections, Row
from kagzi.store.postgres.hint_sql import SOMEBODY_IDLE, TELL_DUE, TELL_MAIL
from kagzi.store.postgres.rows import RUN_STATUSES, readable, word

# Runs are locked in the order of their ids, as commits lock them, and a message gets its place under the run's lock:
# the order of positions is the order of commits (P19), and whoever parks the run has seen it or finds it (the counter).
POST = f"""
WITH asked AS MATERIALIZED (
    SELECT a.*, coalesce(a.run_id, (
        SELECT i.run_id FROM {{schema}}.workflow_runs AS i WHERE i.namespace = a.namespace AND i.id = a.id
    )) AS target
    FROM ROWS FROM (json_to_recordset($1::json) AS (
        namespace text, kind text, name text, run_id uuid, id text, payload text, dedup_key text
    )) WITH ORDINALITY AS a (namespace, kind, name, run_id, id, payload, dedup_key, place)
),
held AS MATERIALIZED (
    SELECT r.run_id, r.namespace, r.status, r.inbox
    FROM (SELECT DISTINCT target FROM asked WHERE target IS NOT NULL ORDER BY target) AS t
    CROSS JOIN LATERAL (
        SELECT * FROM {{schema}}.workflow_runs AS r WHERE r.run_id = t.target FOR NO KEY UPDATE
    ) AS r
),
judged AS MATERIALIZED (
    SELECT a.place, a.kind, a.name, a.payload, a.dedup_key, h.run_id, h.status, h.inbox,
        CASE
            WHEN h.run_id IS NULL THEN 'NOT_FOUND'
            WHEN d.kind IS NOT NULL THEN
                CASE WHEN d.kind = a.kind AND d.name = a.name THEN 'DUPLICATE' ELSE 'TAKEN' END
            WHEN h.status IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN 'CLOSED'
            ELSE 'POSTED'
        END AS outcome,
        d.position AS there
    FROM asked AS a
    LEFT JOIN held AS h ON h.run_id = a.target AND h.namespace = a.namespace
    LEFT JOIN LATERAL (
        SELECT m.position, m.kind, m.name FROM {{schema}}.messages AS m
        WHERE m.run_id = h.run_id AND m.dedup_key = a.dedup_key AND a.dedup_key IS NOT NULL
        UNION ALL
        (
            SELECT NULL, b.kind, b.name FROM asked AS b
            WHERE b.target = h.run_id AND b.dedup_key = a.dedup_key AND b.place < a.place ORDER BY b.place LIMIT 1
        )
        LIMIT 1
    ) AS d ON true
),
placed AS MATERIALIZED (
    SELECT j.place, j.run_id, j.kind, j.name, j.payload, j.dedup_key,
        (j.inbox + row_number() OVER (PARTITION BY j.run_id ORDER BY j.place))::integer AS position
    FROM judged AS j WHERE j.outcome = 'POSTED'
),
posted AS (
    INSERT INTO {{schema}}.messages (run_id, position, kind, name, payload, dedup_key)
    SELECT p.run_id, p.position, p.kind, p.name, p.payload, p.dedup_key FROM placed AS p
),
woken AS (
    UPDATE {{schema}}.workflow_runs AS w SET
        inbox = c.inbox,
        available_at = CASE WHEN w.status = 'SLEEPING' THEN least(w.available_at, now()) ELSE w.available_at END
    FROM (SELECT p.run_id, max(p.position) AS inbox FROM placed AS p GROUP BY p.run_id) AS c
    WHERE w.run_id = c.run_id
    RETURNING w.run_id, w.status, w.available_at
)
SELECT j.outcome, j.run_id::text, coalesce(p.position, j.there), j.status,
    -- One that was due before, too: a claim passes over rows that are locked, as these were until now.
    (SELECT {TELL_DUE} FROM woken WHERE status <> 'RUNNING' AND available_at <= now() AND {SOMEBODY_IDLE} LIMIT 1),
    (SELECT {TELL_MAIL} FROM woken WHERE status = 'RUNNING' LIMIT 1)
FROM judged AS j LEFT JOIN placed AS p ON p.place = j.place
ORDER BY j.place
"""

# Among the runs that the worker has, which are as many as it has slots: an index over this would cost every commit.
_COUNTERS = """
SELECT r.run_id::text, r.inbox, r.paused_at IS NOT NULL FROM {schema}.workflow_runs AS r WHERE r.worker_key = $1
"""

UNRECEIVED = f"""
SELECT m.run_id::text, m.position, m.kind, m.name, m.payload, {readable("m.created_at")}
FROM ROWS FROM (unnest($1::text::uuid[]), unnest($2::text::integer[])) AS asked (run_id, beyond)
CROSS JOIN LATERAL (
    SELECT * FROM {{schema}}.messages AS m
    WHERE m.run_id = asked.run_id AND m.position > asked.beyond AND m.received_seq IS NULL
) AS m
ORDER BY m.run_id, m.position
"""

_ANSWERS = """
SELECT m.run_id::text, m.position, m.reply, r.status
FROM ROWS FROM (unnest($1::text::uuid[]), unnest($2::text::integer[])) AS asked (run_id, position)
CROSS JOIN LATERAL (
    SELECT * FROM {schema}.messages AS m WHERE m.run_id = asked.run_id AND m.position = asked.position
) AS m
CROSS JOIN LATERAL (SELECT * FROM {schema}.workflow_runs AS r WHERE r.run_id = asked.run_id) AS r
"""

_VALUE = "SELECT v.value FROM {schema}.run_values AS v WHERE v.run_id = $1 AND v.key = $2"

_KINDS = {member.value: member for member in MessageKind}


class Post:
    """The verbs about mailboxes."""

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._post = names.fill(POST)
        self._counters = names.fill(_COUNTERS)
        self._unreceived = names.fill(UNRECEIVED)
        self._answers = names.fill(_ANSWERS)
        self._value = names.fill(_VALUE)

    async def post(self, messages: Sequence[NewMessage]) -> list[Posted]:
        """One trip."""
        wanted = possible(messages)
        return posted_by(messages, await self._connections.fetch(self._post, rows_json(wanted)) if wanted else ())

    async def mail(self, worker: WorkerKey, seen: Mapping[RunId, int]) -> Mail:
        """One trip, and one more where something has come."""
        rows = await self._connections.fetch(self._counters, worker)
        counters = {row[0]: row[1] for row in rows}
        news = {run_id: at for run_id, at in seen.items() if counters.get(run_id, 0) > at}
        gone = tuple(run_id for run_id in seen if run_id not in counters)
        messages = await self.unreceived(news)
        return Mail(
            inbox={run_id: counters[run_id] for run_id in news},
            messages=messages,
            gone=gone,
            paused=frozenset(row[0] for row in rows if row[2]),
        )

    async def unreceived(self, beyond: Mapping[RunId, int]) -> dict[RunId, list[Message]]:
        """The messages of these runs, each run's from beyond a position on. One trip; none for no run."""
        if not beyond:
            return {}
        run_ids, positions = array_text(beyond), array_text(beyond.values())
        return sort_messages(await self._connections.fetch(self._unreceived, run_ids, positions))

    async def answers(self, updates: Sequence[tuple[RunId, int]]) -> list[Answered]:
        """One trip."""
        run_ids, positions = array_text(run_id for run_id, _ in updates), array_text(at for _, at in updates)
        rows = await self._connections.fetch(self._answers, run_ids, positions) if updates else ()
        return [
            Answered(run_id=row[0], position=row[1], reply=row[2], status=word(RUN_STATUSES, row[3])) for row in rows
        ]

    async def value(self, run_id: RunId, key: str) -> str | None:
        """One trip."""
        rows = await self._connections.fetch(self._value, run_id, key) if is_id(run_id) else ()
        return rows[0][0] if rows else None


def sort_messages(rows: Sequence[Row]) -> dict[RunId, list[Message]]:
    """Messages by run, in order, from rows of UNRECEIVED."""
    messages: defaultdict[RunId, list[Message]] = defaultdict(list)
    for row in rows:
        messages[row[0]].append(
            Message(position=row[1], kind=_KINDS.get(row[2], row[2]), name=row[3], payload=row[4], created_at=row[5])
        )
    return dict(messages)


def possible(messages: Sequence[NewMessage]) -> list[NewMessage]:
    """Those whose run can be asked for."""
    return [message for message in messages if message.run_id is None or is_id(message.run_id)]


def posted_by(messages: Sequence[NewMessage], rows: Iterable[Row | tuple[Any, ...]]) -> list[Posted]:
    """The answer for each message, from the rows of POST for those that were possible."""
    answers = iter(rows)
    nowhere = Posted(outcome=PostOutcome.NOT_FOUND)
    return [
        _posted(next(answers)) if message.run_id is None or is_id(message.run_id) else nowhere for message in messages
    ]


def _posted(row: Row | tuple[Any, ...]) -> Posted:
    status = None if row[3] is None else word(RUN_STATUSES, row[3])
    return Posted(outcome=PostOutcome[row[0]], run_id=row[1], position=row[2], status=status)
