"""Children that their parents have left behind."""

# ruff: noqa: S608 - SQL is put together from constants only.

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kagzi.model.child import Forsaken, LeftBehind
from kagzi.store.sqlite.rows import BY_RUN_ID
from kagzi.store.sqlite.session import Session, each


class Looked(NamedTuple):
    """One call of `forsaken`."""

    namespace: str
    limit: int


_PARENTS = """
SELECT p.run_id FROM workflow_runs AS p INDEXED BY workflow_runs_leaving
WHERE p.namespace = ? AND p.has_children AND p.finished_at IS NOT NULL
ORDER BY p.run_id LIMIT ?
"""

_LEFT_BEHIND = """
SELECT c.run_id, c.parent_run_id, c.parent_close = 'TERMINATE'
FROM json_each(?) AS asked CROSS JOIN workflow_runs AS c INDEXED BY workflow_runs_children
WHERE c.parent_run_id = asked.value AND c.finished_at IS NULL
    AND (c.parent_close = 'TERMINATE' OR (c.parent_close = 'CANCEL' AND c.cancel_asked_at IS NULL))
LIMIT ?
"""

_DONE = f"UPDATE workflow_runs {BY_RUN_ID} SET has_children = 0 WHERE run_id IN (SELECT value FROM json_each(?))"


def _peek(session: Session, looked: Looked) -> LeftBehind | None:
    """Answer where no parent has ended, which is nearly always, without the write lock."""
    return None if session.value(_PARENTS, (looked.namespace, 1)) is not None else LeftBehind(children=(), more=False)


def _forsaken(session: Session, looked: Looked) -> LeftBehind:
    parents = [run_id for (run_id,) in session.rows(_PARENTS, (looked.namespace, looked.limit))]
    rows = session.rows(_LEFT_BEHIND, (msgspec.json.encode(parents).decode(), looked.limit))
    if len(rows) < looked.limit:
        done = set(parents).difference(row[1] for row in rows)
        session.write(_DONE, (msgspec.json.encode(sorted(done)).decode(),))
    children = tuple(Forsaken(run_id=row[0], parent_run_id=row[1], at_once=bool(row[2])) for row in rows)
    return LeftBehind(children=children, more=bool(children) or len(parents) >= looked.limit)


FORSAKEN = each(_forsaken, peek=_peek)
