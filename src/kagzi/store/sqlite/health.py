"""What the database tells of itself, and what waits in its queues."""

# ruff: noqa: S608 - SQL is put together from constants only.

from __future__ import annotations

from typing import Any, NamedTuple

from kagzi.model.probe import Backlog, LaneBacklog, StoreProbe
from kagzi.store.sql.budget import LANES, LIMITS
from kagzi.store.sqlite.rows import Row
from kagzi.store.sqlite.session import Session, each
from kagzi.store.sqlite.times import EARLIEST, moment

# Reads the file, unlike a SELECT of constants.
_PROBE = "SELECT count(*) FROM (SELECT 1 FROM sqlite_master LIMIT 1)"

_OPEN_RUNS = """workflow_runs AS r INDEXED BY workflow_runs_claim
        WHERE r.namespace = ?1 AND r.status IN ('PENDING', 'SLEEPING')"""
_OF_LANE = f"{_OPEN_RUNS} AND r.queue = l.queue AND r.workflow = l.workflow AND r.version = l.version"

# Like a claim's lanes, but whoever serves them: each is found in the claim index by a probe past the last, and is known
# by one of its rows, even where a damaged name is no text any more. The next one takes three probes: SQLite looks up no
# more than the first column of a comparison of rows, and would read the rest of the queue.
_WAITING = f"""
WITH RECURSIVE
found (run) AS (
    SELECT (SELECT r.rowid FROM {_OPEN_RUNS} ORDER BY r.queue, r.workflow, r.version LIMIT 1)
    UNION ALL
    SELECT coalesce(
        (
            SELECT r.rowid FROM {_OPEN_RUNS}
                AND r.queue = l.queue AND r.workflow = l.workflow AND r.version > l.version
            ORDER BY r.version LIMIT 1
        ),
        (
            SELECT r.rowid FROM {_OPEN_RUNS} AND r.queue = l.queue AND r.workflow > l.workflow
            ORDER BY r.workflow, r.version LIMIT 1
        ),
        (SELECT r.rowid FROM {_OPEN_RUNS} AND r.queue > l.queue ORDER BY r.queue, r.workflow, r.version LIMIT 1)
    )
    FROM found AS f CROSS JOIN workflow_runs AS l WHERE l.rowid = f.run
    LIMIT ?3
),
lane (run) AS (
    SELECT (SELECT r.rowid FROM {_OF_LANE} ORDER BY r.priority DESC LIMIT 1)
    FROM found AS f CROSS JOIN workflow_runs AS l WHERE l.rowid = f.run
    UNION ALL
    SELECT (SELECT r.rowid FROM {_OF_LANE} AND r.priority < l.priority ORDER BY r.priority DESC LIMIT 1)
    FROM lane AS f CROSS JOIN workflow_runs AS l WHERE l.rowid = f.run
)
SELECT l.queue, l.workflow, l.version, l.priority, (
    SELECT r.available_at FROM {_OF_LANE} AND r.priority = l.priority
        AND r.available_at >= {EARLIEST} AND r.available_at <= ?2
    ORDER BY r.available_at LIMIT 1
) AS oldest, (SELECT count(*) FROM found WHERE run IS NOT NULL)
FROM lane AS f CROSS JOIN workflow_runs AS l
WHERE l.rowid = f.run
ORDER BY l.queue, l.workflow, l.version
"""

_COUNT = f"""
SELECT count(*) FROM (
    SELECT 1 FROM {_OPEN_RUNS} AND r.queue = ?2 AND r.workflow = ?3 AND r.version = ?4 AND r.priority = ?5
        AND r.available_at >= {EARLIEST} AND r.available_at <= ?6
    LIMIT ?7
)
"""


class BacklogRequest(NamedTuple):
    """Whose due runs are counted, and up to how many."""

    namespace: str
    limit: int


def _probe(session: Session, _: None) -> StoreProbe:
    session.value(_PROBE)
    writable = not session.connection.readonly("main")
    return StoreProbe(now=moment(session.now), has_own_clock=False, writable=writable)


def _backlog(session: Session, request: BacklogRequest) -> Backlog:
    rows = session.rows(_WAITING, (request.namespace, session.now, LANES))
    budget = request.limit * LIMITS
    lanes: dict[tuple[Any, ...], LaneBacklog] = {}
    for row in rows:
        if row[4] is not None:
            counted = _counted(session, request, row, budget)
            budget -= counted.due
            known = lanes.get(row[:3])
            lanes[row[:3]] = counted if known is None else _together(known, counted, limit=request.limit)
    complete = not rows or rows[0][5] < LANES
    return Backlog(now=moment(session.now), lanes=tuple(lanes.values()), complete=complete)


def _counted(session: Session, request: BacklogRequest, row: Row, budget: int) -> LaneBacklog:
    most = max(0, min(request.limit, budget))
    due = session.value(_COUNT, (request.namespace, *row[:4], session.now, most + 1))
    return LaneBacklog(
        queue=row[0],
        workflow=row[1],
        version=row[2],
        due=max(1, min(due, most)),  # one is there, however early the counting has to end
        more=due > most,
        oldest_due_at=moment(row[4]),
    )


def _together(one: LaneBacklog, other: LaneBacklog, *, limit: int) -> LaneBacklog:
    """A lane of two priorities."""
    due = one.due + other.due
    return LaneBacklog(
        queue=one.queue,
        workflow=one.workflow,
        version=one.version,
        due=min(due, limit),
        more=one.more or other.more or due > limit,
        oldest_due_at=min(one.oldest_due_at, other.oldest_due_at),
    )


PROBE = each(_probe)
BACKLOG = each(_backlog)
