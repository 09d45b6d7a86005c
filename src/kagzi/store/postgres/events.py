"""Events, those who wait for them, and those who handle them."""

# ruff: noqa: S608 - the protocol says what the verbs do; SQL is put together from constants.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kagzi.model.event import (
    Awaiting,
    Distributed,
    Enrolment,
    EventHandler,
    Forgetting,
    Forgotten,
    KeyTaken,
    NewEvent,
    PendingEvent,
)
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.batches import array_text, rows_json
from kagzi.store.postgres.connections import Connections, Row
from kagzi.store.postgres.hint_sql import SOMEBODY_IDLE, TELL_DUE, TELL_EVENT, TELL_MAIL

_EMIT = f"""
WITH stored AS (
    INSERT INTO {{schema}}.events (event_id, namespace, name, key, payload, call, dedup_key, is_within)
    SELECT n.event_id, n.namespace, n.name, n.key, n.payload, n.call, n.dedup_key, WITHIN
    FROM json_to_recordset($1::json) AS n (
        event_id uuid, namespace text, name text, key text, payload text, call text, dedup_key text
    )
    ON CONFLICT DO NOTHING
    RETURNING event_id
)
SELECT (SELECT count(*) FROM stored), (SELECT {TELL_EVENT} FROM stored LIMIT 1)
"""

EMIT = _EMIT.replace("WITHIN", "false")
EMIT_WITHIN = _EMIT.replace("WITHIN", "true")

# A statement of its own after the insert: it must see what was committed while the insert waited.
TAKEN = """
SELECT n.event_id::text AS event_id, e.name AS name, e.key AS key
FROM json_to_recordset($1::json) AS n (event_id uuid, namespace text, name text, key text, dedup_key text)
CROSS JOIN LATERAL (
    SELECT o.name, o.key FROM {schema}.events AS o WHERE o.namespace = n.namespace AND o.dedup_key = n.dedup_key
) AS e
WHERE (e.name, e.key) <> (n.name, n.key)
"""

# What fits a wait and its run has not received before. A wait that began before the run was given the event may get it
# as well: several branches of a run can wait for one.
_FITS = """e.at >= w.since - w.lookback AND NOT EXISTS (
            SELECT FROM {schema}.event_waits AS o
            CROSS JOIN LATERAL (
                SELECT FROM {schema}.messages AS m
                WHERE m.run_id = o.run_id AND m.position = o.position AND m.received_seq IS NOT NULL
                OFFSET 0  -- by both columns, or it may read all messages of the run
            ) AS m
            WHERE o.run_id = w.run_id AND o.event_id = e.event_id AND o.given_at <= w.since
        )"""

_FIRST_OF = f"""SELECT e.event_id, e.payload FROM {{schema}}.events AS e
                WHERE e.namespace = w.namespace AND e.name = w.name AND KEYS AND {_FITS}
                ORDER BY e.at LIMIT 1"""
_EARLIEST = f"""SELECT c.event_id, c.payload FROM (
            ({_FIRST_OF.replace("KEYS", "w.key = ''")})
            UNION ALL
            ({_FIRST_OF.replace("KEYS", "e.key = w.key AND w.key <> ''")})
        ) AS c
        LIMIT 1"""

# From `found`: a wait, and the event that it is to be given. By the run's lock it gets its place among the messages.
# Whether a run's wait is open is asked of `given_at`: of `event_id`, the planner may take the index of all open ones.
_GIVE = """
locked AS MATERIALIZED (
    SELECT f.run_id, f.step_id, f.event_id, f.payload, r.status, r.inbox
    FROM (SELECT * FROM found ORDER BY run_id, step_id) AS f
    LEFT JOIN LATERAL (
        SELECT r.status, r.inbox FROM {schema}.workflow_runs AS r WHERE r.run_id = f.run_id FOR NO KEY UPDATE LOCKING
    ) AS r ON true
),
closed AS (
    DELETE FROM {schema}.event_waits AS w USING locked AS l
    WHERE w.run_id = l.run_id AND w.step_id = l.step_id AND w.given_at IS NULL AND (
        l.status IN ('COMPLETED', 'FAILED', 'CANCELLED')
        OR (l.status IS NULL AND NOT EXISTS (SELECT FROM {schema}.workflow_runs AS r WHERE r.run_id = l.run_id))
    )
),
placed AS MATERIALIZED (
    SELECT l.run_id, l.step_id, l.event_id, l.payload,
        (l.inbox + row_number() OVER (PARTITION BY l.run_id ORDER BY l.step_id))::integer AS position
    FROM locked AS l WHERE l.status IN ('PENDING', 'RUNNING', 'SLEEPING')
),
given AS (
    UPDATE {schema}.event_waits AS w SET
        event_id = p.event_id, position = p.position, given_at = clock_timestamp()
    FROM placed AS p
    WHERE w.run_id = p.run_id AND w.step_id = p.step_id AND w.given_at IS NULL
    RETURNING w.run_id, w.step_id, p.position, p.payload
),
posted AS (
    INSERT INTO {schema}.messages (run_id, position, kind, name, payload)
    SELECT g.run_id, g.position, 'EVENT', g.step_id, g.payload FROM given AS g
),
woken AS (
    UPDATE {schema}.workflow_runs AS w SET
        inbox = g.inbox,
        available_at = CASE WHEN w.status = 'SLEEPING' THEN least(w.available_at, now()) ELSE w.available_at END
    FROM (SELECT g.run_id, max(g.position) AS inbox FROM given AS g GROUP BY g.run_id) AS g
    WHERE w.run_id = g.run_id
    RETURNING w.status, w.available_at
)"""

# A run that was due before is told of, too: a claim passes over rows that are locked, as these were until now.
_TOLD = f"""(
        SELECT {TELL_DUE} FROM woken WHERE status <> 'RUNNING' AND available_at <= now() AND {SOMEBODY_IDLE} LIMIT 1
    ),
    (SELECT {TELL_MAIL} FROM woken WHERE status = 'RUNNING' LIMIT 1)"""

# An event whose statement this is was committed before: whoever's wait is committed later looks by itself (LOOK). Runs
# that somebody has locked are left for the next time, or one of them would hold up all others.
_DISTRIBUTE = f"""
WITH pending AS MATERIALIZED (
    SELECT e.event_id, e.namespace, e.name, e.key, e.payload, e.at
    FROM unnest($1::text::uuid[]) AS asked (event_id)
    CROSS JOIN LATERAL (
        SELECT * FROM {{schema}}.events AS e
        WHERE e.event_id = asked.event_id AND NOT e.is_distributed
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS e
),
fitting AS MATERIALIZED (
    SELECT e.event_id, e.payload, e.at, w.run_id, w.step_id, w.looks_back
    FROM pending AS e
    CROSS JOIN LATERAL (
        SELECT w.run_id, w.step_id, w.lookback > interval '0' AS looks_back FROM {{schema}}.event_waits AS w
        WHERE w.namespace = e.namespace AND w.name = e.name AND w.key IN ('', e.key) AND w.event_id IS NULL
            AND {_FITS}
        LIMIT $2
    ) AS w
),
-- One that looks back, and has not looked yet, gets the earliest that there is, which need not be one of these.
found AS MATERIALIZED (
    SELECT f.run_id, f.step_id, g.event_id, g.payload
    FROM (
        SELECT DISTINCT ON (run_id, step_id) run_id, step_id, event_id, payload, looks_back
        FROM fitting ORDER BY run_id, step_id, at  -- ids bear the times of those who emit
    ) AS f
    CROSS JOIN LATERAL (
        SELECT f.event_id, f.payload WHERE NOT f.looks_back
        UNION ALL
        SELECT e.event_id, e.payload
        FROM {{schema}}.event_waits AS w
        CROSS JOIN LATERAL (
        {_EARLIEST}
        ) AS e
        WHERE f.looks_back AND w.run_id = f.run_id AND w.step_id = f.step_id
    ) AS g
),
{_GIVE.replace("LOCKING", "SKIP LOCKED")},
unfinished AS MATERIALIZED (
    SELECT event_id FROM fitting GROUP BY event_id HAVING count(*) >= $2
    UNION
    SELECT f.event_id FROM fitting AS f
    WHERE (f.run_id, f.step_id) IN (SELECT l.run_id, l.step_id FROM locked AS l WHERE l.status IS NULL)
),
done AS (
    UPDATE {{schema}}.events AS e SET is_distributed = true
    FROM pending AS p WHERE e.event_id = p.event_id AND p.event_id NOT IN (SELECT event_id FROM unfinished)
)
SELECT (SELECT count(*) FROM given), (SELECT count(*) FROM unfinished), {_TOLD}
"""

# In a statement of its own before LOOK, and committed by itself: of a wait and an event one then sees the other.
_AWAIT = """
WITH held AS MATERIALIZED (
    SELECT a.run_id, a.waits, r.namespace
    FROM (
        SELECT * FROM json_to_recordset($1::json) AS a (run_id uuid, fence integer, waits json) ORDER BY run_id
    ) AS a
    CROSS JOIN LATERAL (
        SELECT r.namespace FROM {schema}.workflow_runs AS r
        WHERE r.run_id = a.run_id AND r.fence = a.fence AND r.status = 'RUNNING'
        FOR NO KEY UPDATE
    ) AS r
),
wanted AS MATERIALIZED (
    SELECT h.run_id, h.namespace, w.step_id, w.name, w.key, w.lookback_s * interval '1 second' AS lookback
    FROM held AS h
    CROSS JOIN LATERAL json_to_recordset(h.waits) AS w (
        step_id text, name text, key text, lookback_s double precision
    )
),
given_up AS (
    DELETE FROM {schema}.event_waits AS o USING (
        SELECT k.run_id, k.step_id
        FROM held AS h
        -- OFFSET 0, or the planner may read all waits of all runs to find those of these.
        CROSS JOIN LATERAL (
            SELECT k.run_id, k.step_id FROM {schema}.event_waits AS k
            WHERE k.run_id = h.run_id AND k.given_at IS NULL
            OFFSET 0
        ) AS k
        WHERE (k.run_id, k.step_id) NOT IN (SELECT w.run_id, w.step_id FROM wanted AS w)
    ) AS u
    WHERE o.run_id = u.run_id AND o.step_id = u.step_id
)
INSERT INTO {schema}.event_waits AS o (run_id, step_id, namespace, name, key, since, lookback)
SELECT w.run_id, w.step_id, w.namespace, w.name, w.key, clock_timestamp(), w.lookback
FROM wanted AS w ORDER BY w.run_id, w.step_id
-- Given an event, and asked again: the event is in the mailbox, or else was received by a wait that is no more.
ON CONFLICT (run_id, step_id) DO UPDATE SET
    name = excluded.name, key = excluded.key, since = excluded.since, lookback = excluded.lookback,
    event_id = NULL, position = NULL, given_at = NULL
WHERE o.event_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM {schema}.messages AS m
    WHERE m.run_id = o.run_id AND m.position = o.position AND m.received_seq IS NULL
)
"""

# A wait that was to be given an event and was not has just got another.
_LOOK = f"""
WITH waiting AS MATERIALIZED (
    SELECT w.* FROM unnest($1::text::uuid[]) AS asked (run_id)
    CROSS JOIN LATERAL (
        SELECT * FROM {{schema}}.event_waits AS w WHERE w.run_id = asked.run_id AND w.given_at IS NULL
    ) AS w
),
found AS MATERIALIZED (
    SELECT w.run_id, w.step_id, e.event_id, e.payload
    FROM waiting AS w
    CROSS JOIN LATERAL (
        {_EARLIEST}
    ) AS e
),
{_GIVE.replace("LOCKING", "")}
SELECT (SELECT count(*) FROM waiting) - (SELECT count(*) FROM found), {_TOLD}
"""

_PENDING = """
SELECT e.event_id::text, e.name, e.key, CASE WHEN h.workflow IS NOT NULL THEN e.call END, h.workflow, h.version, h.queue
FROM (
    SELECT * FROM {schema}.events AS e
    WHERE e.namespace = $1 AND NOT e.is_distributed ORDER BY e.event_id LIMIT $2
) AS e
LEFT JOIN LATERAL (
    SELECT * FROM {schema}.event_handlers AS h WHERE h.namespace = $1 AND h.event = e.name
) AS h ON true
ORDER BY e.event_id
"""

_ENROLL = """
WITH said AS (
    INSERT INTO {schema}.event_handlers AS h (namespace, event, workflow, version, queue)
    SELECT $1, n.event, n.workflow, n.version, coalesce(n.queue, 'default')
    FROM json_to_recordset($2::json) AS n (event text, workflow text, version integer, queue text)
    ORDER BY n.event, n.workflow
    ON CONFLICT (namespace, event, workflow) DO UPDATE SET
        seen_at = now(), version = excluded.version, queue = excluded.queue
    WHERE excluded.version >= h.version
)
DELETE FROM {schema}.event_handlers AS h
USING unnest($3::text[], $4::integer[]) AS known (workflow, version)
WHERE h.namespace = $1 AND h.workflow = known.workflow AND h.version <= known.version
    AND h.seen_at < now() - $5::interval
    AND (h.event, h.workflow) NOT IN (
        SELECT n.event, n.workflow FROM json_to_recordset($2::json) AS n (event text, workflow text)
    )
"""

_FORGET = """
WITH gone AS (
    DELETE FROM {schema}.events AS e USING (
        SELECT o.event_id FROM {schema}.events AS o
        WHERE o.namespace = $1 AND o.is_distributed AND o.at < clock_timestamp() - $2::interval
        ORDER BY o.at LIMIT $3
        FOR UPDATE SKIP LOCKED
    ) AS old
    WHERE e.event_id = old.event_id
    RETURNING e.event_id
),
page AS MATERIALIZED (
    SELECT w.run_id, w.step_id, w.event_id, w.given_at FROM {schema}.event_waits AS w
    WHERE (w.run_id, w.step_id) > ($4::uuid, $5::text) ORDER BY w.run_id, w.step_id LIMIT $3
),
-- Locked, or one of them might be reopened, and wait again, meanwhile.
ended AS MATERIALIZED (
    SELECT p.run_id, p.step_id
    FROM page AS p
    CROSS JOIN LATERAL (
        SELECT FROM {schema}.workflow_runs AS r
        WHERE r.run_id = p.run_id AND r.status IN ('COMPLETED', 'FAILED', 'CANCELLED')
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS r
    WHERE p.event_id IS NULL
    UNION ALL
    SELECT p.run_id, p.step_id FROM page AS p
    WHERE NOT EXISTS (SELECT FROM {schema}.workflow_runs AS r WHERE r.run_id = p.run_id)
),
unneeded AS (
    DELETE FROM {schema}.event_waits AS w USING ended AS d
    WHERE w.run_id = d.run_id AND w.step_id = d.step_id AND w.given_at IS NULL
),
forgotten AS (
    DELETE FROM {schema}.event_waits AS w USING page AS p
    WHERE w.run_id = p.run_id AND w.step_id = p.step_id AND w.given_at < clock_timestamp() - $2::interval
        AND p.event_id IS NOT NULL
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM page), l.run_id::text, l.step_id
FROM (SELECT) AS one
LEFT JOIN LATERAL (SELECT * FROM page AS p ORDER BY p.run_id DESC, p.step_id DESC LIMIT 1) AS l ON true
"""

_BEGINNING = "00000000-0000-0000-0000-000000000000", ""


class Events:
    """The verbs about events."""

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._emit = names.fill(EMIT)
        self._taken = names.fill(TAKEN)
        self._await = names.fill(_AWAIT)
        self._look = names.fill(_LOOK)
        self._pending = names.fill(_PENDING)
        self._distribute = names.fill(_DISTRIBUTE)
        self._enroll = names.fill(_ENROLL)
        self._forget = names.fill(_FORGET)

    async def emit(self, events: Sequence[NewEvent]) -> list[KeyTaken]:
        """One trip, or two where some were there already."""
        if not events:
            return []
        stored = (await self._connections.fetch(self._emit, rows_json(events)))[0][0]
        if stored == len(events):
            return []
        return [taken_by(row) for row in await self._connections.fetch(self._taken, rows_json(events))]

    async def await_events(self, runs: Sequence[Awaiting]) -> int:
        """Two trips, one where nothing is waited for any more."""
        if not runs:
            return 0
        await self._connections.fetch(self._await, rows_json(runs))
        waiting = [each for each in runs if each.waits]
        if not waiting:
            return 0
        still_open = (await self._connections.fetch(self._look, array_text(each.run_id for each in waiting)))[0][0]
        return sum(len(each.waits) for each in waiting) - int(still_open)

    async def pending_events(self, namespace: str, *, limit: int) -> list[PendingEvent]:
        """One trip, an index look-up where there are none."""
        rows = await self._connections.fetch(self._pending, namespace, limit)
        handlers: dict[str, list[EventHandler]] = {row[0]: [] for row in rows}
        for row in rows:
            if row[4] is not None:
                handlers[row[0]].append(EventHandler(event=row[1], workflow=row[4], version=row[5], queue=row[6]))
        first = {row[0]: row for row in reversed(rows)}
        return [
            PendingEvent(
                event_id=event_id,
                name=first[event_id][1],
                key=first[event_id][2],
                call=first[event_id][3],
                handlers=tuple(found),
            )
            for event_id, found in handlers.items()
        ]

    async def distribute(self, event_ids: Sequence[str], *, limit: int) -> Distributed:
        """One trip."""
        given, left = (await self._connections.fetch(self._distribute, array_text(event_ids), limit))[0][:2]
        return Distributed(given=given, left=left)

    async def enroll(self, namespace: str, enrolment: Enrolment) -> None:
        """One trip."""
        await self._connections.fetch(
            self._enroll,
            namespace,
            rows_json(enrolment.handlers),
            [workflow for workflow, _ in enrolment.workflows],
            [version for _, version in enrolment.workflows],
            enrolment.stale_after,
        )

    async def forget_events(self, namespace: str, forgetting: Forgetting) -> Forgotten:
        """One trip."""
        run_id, step_id = forgetting.cursor or _BEGINNING
        rows = await self._connections.fetch(
            self._forget, namespace, forgetting.older_than, forgetting.batch, run_id, step_id
        )
        gone, looked, *last = rows[0]
        cursor = (last[0], last[1]) if looked >= forgetting.batch else None
        return Forgotten(cursor=cursor, more=gone >= forgetting.batch)


def taken_by(row: Row | tuple[Any, ...]) -> KeyTaken:
    """An answer, from a row of TAKEN."""
    return KeyTaken(event_id=row[0], name=row[1], key=row[2])
