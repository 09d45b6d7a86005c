"""Bringing back the runs of workers that are gone: a predicate that everyone evaluates all the time."""

from __future__ import annotations

from typing import NamedTuple

from kagzi.model.worker import Recovery, RecoveryPolicy
from kagzi.store.sqlite.session import Session, each


class RecoveryPass(NamedTuple):
    """One call of `recover`."""

    namespace: str
    policy: RecoveryPolicy


_ANY_EXPIRED = "SELECT 1 FROM workers AS w WHERE w.namespace = ? AND w.ended_at IS NULL AND w.lease_until <= ? LIMIT 1"

_DECLARE_DEAD = """
UPDATE workers SET state = 'DEAD', ended_at = ?2
WHERE namespace = ?1 AND ended_at IS NULL AND lease_until <= ?2
RETURNING key
"""

# The owners that there are come from the owner index, each by one probe above the last, so a registration that is no
# longer in the table is met too, and the many that ended without runs cost nothing.
_LEFT_BEHIND = """
WITH RECURSIVE
owner (key) AS (
    SELECT min(r.worker_key) FROM workflow_runs AS r WHERE r.worker_key > ''
    UNION ALL
    SELECT (SELECT min(r.worker_key) FROM workflow_runs AS r WHERE r.worker_key > o.key)
    FROM owner AS o WHERE o.key IS NOT NULL
),
gone (key, crashed) AS MATERIALIZED (
    SELECT o.key, w.state IS NOT 'STOPPED'
    FROM owner AS o LEFT JOIN workers AS w ON w.key = o.key
    WHERE o.key IS NOT NULL AND (w.key IS NULL OR w.ended_at IS NOT NULL)
)
SELECT r.rowid, r.run_id, g.crashed, r.crashes, r.progress, (
    SELECT coalesce(max(s.seq), 0) FROM step_runs AS s WHERE g.crashed AND s.run_id = r.run_id
)
FROM gone AS g CROSS JOIN workflow_runs AS r INDEXED BY workflow_runs_owner
WHERE r.worker_key = g.key AND r.namespace = ?1
LIMIT ?2
"""

_RELEASE = """
UPDATE workflow_runs SET
    status = 'PENDING', fence = fence + 1, worker_key = NULL, available_at = ?2, crashes = ?3, progress = ?4
WHERE rowid = ?1
"""

_POISON = """
UPDATE workflow_runs SET
    status = 'FAILED', fence = fence + 1, worker_key = NULL, finished_at = ?2, crashes = ?3, progress = ?4, error = ?5
WHERE rowid = ?1
"""


def _peek(session: Session, wanted: RecoveryPass) -> Recovery | None:
    """Answer where nothing is wrong, which is nearly always, without the write lock."""
    wrong = (
        session.value(_ANY_EXPIRED, (wanted.namespace, session.now)) is not None
        or session.value(_LEFT_BEHIND, (wanted.namespace, 1)) is not None
    )
    return None if wrong else Recovery()


def _recover(session: Session, wanted: RecoveryPass) -> Recovery:
    namespace, policy = wanted
    now = session.now
    dead = session.rows(_DECLARE_DEAD, (namespace, now))
    released, poisoned = [], []
    release, poison = [], []
    for run, run_id, crashed, crashes, progress, reached in session.rows(_LEFT_BEHIND, (namespace, policy.batch)):
        if crashed:
            # Crashes are counted in a row: a new finished operation since the last one starts the count afresh.
            crashes = 1 if reached > progress else crashes + 1
        if crashed and crashes >= policy.poison_after:
            poisoned.append(run_id)
            poison.append((run, now, crashes, max(progress, reached), policy.poison_error))
        else:
            released.append(run_id)
            release.append((run, now, crashes, max(progress, reached)))
    session.connection.executemany(_RELEASE, release)
    session.connection.executemany(_POISON, poison)
    session.due |= bool(released or poisoned)  # of the poisoned, parents may be due
    session.mail |= bool(poisoned)
    session.ended |= bool(poisoned)
    return Recovery(
        released=tuple(released),
        poisoned=tuple(poisoned),
        dead=tuple(key for (key,) in dead),
        more=len(released) + len(poisoned) >= policy.batch,
    )


RECOVER = each(_recover, peek=_peek)
