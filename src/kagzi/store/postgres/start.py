"""New runs: one insert for all, and a look at what was there only where something was."""

# ruff: noqa: S608 - SQL is put together from constants, and the schema name is quoted.

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kagzi.errors import StoreUnavailable
from kagzi.model.run import NewRun, Started
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.batches import rows_json
from kagzi.store.postgres.connections import Connections, Row
from kagzi.store.postgres.hint_sql import SOMEBODY_IDLE, TELL_DUE
from kagzi.store.postgres.rows import not_beyond

_COLUMNS = """run_id, namespace, id, workflow, version, queue, priority, input, tags, attributes, parent_run_id,
    awaited, status, fence, worker_key, started_at, available_at"""

# A run with an owner is born RUNNING, if it is due and the owner's registration is alive. The lease is asked for in
# this statement, and a registration that dies meanwhile is met by `recover`, which looks at owners all the time.
_ALIVE = """EXISTS (
        SELECT FROM {schema}.workers AS k WHERE k.key = n.owner AND k.ended_at IS NULL AND k.lease_until > now()
    )"""

_SELECT = f"""
SELECT n.run_id, n.namespace, n.id, n.workflow, n.version, n.queue, n.priority, n.input, n.tags, n.attributes,
    n.parent_run_id, n.awaited,
    CASE WHEN e.eager THEN 'RUNNING' ELSE 'PENDING' END,
    CASE WHEN e.eager THEN 1 ELSE 0 END,
    CASE WHEN e.eager THEN n.owner END,
    CASE WHEN e.eager THEN now() END,
    CASE WHEN e.eager THEN NULL ELSE e.due_at END
FROM new AS n
CROSS JOIN LATERAL (
    SELECT d.due_at, n.owner IS NOT NULL AND d.due_at <= now() AND {_ALIVE} AS eager
    FROM (SELECT coalesce(n.available_at, now() + n.delay_s * interval '1 second') AS due_at) AS d
) AS e
"""

# One run has a statement of its own: an array of one costs the server 40 µs more.
_ONE = f"""
WITH new AS (
    SELECT $1::uuid AS run_id, $2::text AS namespace, $3::text AS id, $4::text AS workflow, $5::integer AS version,
        $6::text AS queue, $7::integer AS priority, $8::text AS input, $9::text[] AS tags, $10::text AS attributes,
        $11::uuid AS parent_run_id, $12::uuid AS owner, $13::timestamptz AS available_at,
        $14::double precision AS delay_s, $15::boolean AS awaited
)
INSERT INTO {{schema}}.workflow_runs ({_COLUMNS})
{_SELECT}
ON CONFLICT DO NOTHING
RETURNING now(), fence,
    CASE WHEN available_at <= now() THEN CASE WHEN {SOMEBODY_IDLE} THEN {TELL_DUE} END END
"""


def _many(*, rare: bool) -> str:
    """The runs of a batch; of `rare` ones some have a message in their mailbox from the start, or timeouts."""
    select = _SELECT if not rare else _SELECT.replace("n.parent_run_id,", f"n.parent_run_id, {_RARE_VALUES},", 1)
    columns = _COLUMNS if not rare else _COLUMNS.replace("parent_run_id,", f"parent_run_id, {_RARE_COLUMNS},")
    return f"""
WITH new AS (
    SELECT n.run_id, n.namespace, n.id, n.workflow, n.version, coalesce(n.queue, 'default') AS queue,
        coalesce(n.priority, 0) AS priority, n.input, coalesce(n.tags, '{{}}') AS tags, n.attributes, n.parent_run_id,
        n.owner, n.available_at, coalesce(n.delay_s, 0) AS delay_s, coalesce(n.awaited, false) AS awaited
        {_RARE_FIELDS if rare else ""}
    FROM json_to_recordset($1::json) AS n (
        run_id uuid, namespace text, id text, workflow text, version integer, queue text, priority integer,
        input text, tags text[], attributes text, parent_run_id uuid, owner uuid, available_at timestamptz,
        delay_s double precision, awaited boolean {_RARE_TYPES if rare else ""}
    )
),
stored AS (
    INSERT INTO {{schema}}.workflow_runs ({columns})
    {select}
    ON CONFLICT DO NOTHING
    RETURNING run_id, fence, available_at
)
{_POSTED if rare else ""}
SELECT now(), (SELECT count(*) FROM stored), (SELECT array_agg(run_id::text) FROM stored WHERE fence = 1),
    (SELECT {TELL_DUE} FROM stored WHERE available_at <= now() AND {SOMEBODY_IDLE} LIMIT 1)
"""


_RARE_TYPES = ", message json, timeout_s double precision, start_timeout_s double precision"
_RARE_FIELDS = ", n.message, n.timeout_s, n.start_timeout_s"
_RARE_COLUMNS = "inbox, timeout_s, deadline, start_deadline"
_RARE_VALUES = f"""CASE WHEN n.message IS NULL THEN 0 ELSE 1 END, n.timeout_s,
    {not_beyond("greatest(e.due_at, now()) + n.timeout_s * interval '1 second'")},
    {not_beyond("greatest(e.due_at, now()) + n.start_timeout_s * interval '1 second'")}"""
_POSTED = """
, posted AS (
    INSERT INTO {schema}.messages (run_id, position, kind, name, payload)
    SELECT n.run_id, 1, m.kind, m.name, m.payload
    FROM new AS n CROSS JOIN LATERAL json_to_record(n.message) AS m (kind text, name text, payload text)
    WHERE n.message IS NOT NULL AND n.run_id IN (SELECT stored.run_id FROM stored)
)
"""

_MANY = _many(rare=False)
MANY_RARE = _many(rare=True)

# A statement of its own after the insert: it must see what was committed while the insert waited.
_THERE_BY_RUN_ID = """
SELECT r.run_id::text, r.namespace, r.id, r.workflow, r.input, r.fence = 1 AND r.status = 'RUNNING', r.worker_key::text
FROM unnest($1::uuid[]) AS asked (run_id)
CROSS JOIN LATERAL (SELECT * FROM {schema}.workflow_runs AS r WHERE r.run_id = asked.run_id) AS r
"""
_THERE_BY_ID = """
SELECT r.run_id::text, r.namespace, r.id, r.workflow, r.input, r.fence = 1 AND r.status = 'RUNNING', r.worker_key::text
FROM unnest($1::text[], $2::text[]) AS asked (namespace, id)
CROSS JOIN LATERAL (
    SELECT * FROM {schema}.workflow_runs AS r WHERE r.namespace = asked.namespace AND r.id = asked.id
) AS r
"""

_TRIES = 3


class Starter:
    """The verb `start`."""

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._one = names.fill(_ONE)
        self._many = names.fill(_MANY)
        self._many_rare = names.fill(MANY_RARE)
        self._there_by_run_id = names.fill(_THERE_BY_RUN_ID)
        self._there_by_id = names.fill(_THERE_BY_ID)

    async def start(self, runs: Sequence[NewRun]) -> list[Started]:
        """One trip, or three where some of the runs were there already."""
        if not runs:
            return []
        alone = len(runs) == 1 and runs[0].is_plain
        for _ in range(_TRIES):
            answer = await (self._start_one(runs[0]) if alone else self._start_many(runs))
            if answer is not None:
                return answer
        raise StoreUnavailable("a run was deleted each time that its start found it there. Try again.")

    async def _start_one(self, run: NewRun) -> list[Started] | None:
        rows = await self._connections.fetch(self._one, *_arguments(run))
        if rows:
            return [_created(run, claimed=rows[0][1] == 1, now=rows[0][0])]
        return await self._look([run], now=None)

    async def _start_many(self, runs: Sequence[NewRun]) -> list[Started] | None:
        # In one order, or two batches that share ids could each wait for the other's uncommitted row.
        ordered = sorted(runs, key=identity) if any(run.id is not None for run in runs) else runs
        sql = self._many if all(run.is_plain for run in runs) else self._many_rare
        now, stored, claimed = (await self._connections.fetch(sql, rows_json(ordered)))[0][:3]
        if stored == len(runs):
            ours = frozenset(claimed or ())
            return [_created(run, claimed=run.run_id in ours, now=now) for run in runs]
        return await self._look(runs, now=now)

    async def _look(self, runs: Sequence[NewRun], *, now: datetime | None) -> list[Started] | None:
        """Answer each start with the run that is there; None where one has vanished since the insert met it."""
        rows = await self._connections.fetch(self._there_by_run_id, [run.run_id for run in runs])
        by_run_id = {row[0]: row for row in rows}
        by_id: dict[tuple[str, str], Row] = {}
        if others := [run for run in runs if run.run_id not in by_run_id and run.id is not None]:
            rows = await self._connections.fetch(
                self._there_by_id, [run.namespace for run in others], [run.id for run in others]
            )
            by_id = {(row[1], row[2]): row for row in rows}
        if now is None:
            now = await self._connections.now()
        answers: list[Started] = []
        for run in runs:
            mine = by_run_id.get(run.run_id)
            there = mine if mine is not None else by_id.get((run.namespace, run.id or ""))
            if there is None:
                return None
            answers.append(
                Started(
                    run_id=there[0],
                    created=mine is not None,
                    workflow=there[3],
                    input=there[4],
                    claimed=mine is not None and there[5] and run.owner is not None and there[6] == run.owner,
                    now=now,
                )
            )
        return answers


def _created(run: NewRun, *, claimed: bool, now: datetime) -> Started:
    return Started(run_id=run.run_id, created=True, workflow=run.workflow, input=run.input, claimed=claimed, now=now)


def identity(run: NewRun) -> tuple[str, str]:
    """What runs are ordered by wherever many are inserted."""
    return run.id or "", run.run_id


def _arguments(run: NewRun) -> tuple[Any, ...]:
    return (
        run.run_id,
        run.namespace,
        run.id,
        run.workflow,
        run.version,
        run.queue,
        run.priority,
        run.input,
        run.tags,
        run.attributes,
        run.parent_run_id,
        run.owner,
        run.available_at,
        run.delay_s,
        run.awaited,
    )
