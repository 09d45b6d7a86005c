"""Children that their parents have left behind."""

from __future__ import annotations

from kagzi.model.child import Forsaken, LeftBehind
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.connections import Connections

# A parent is done with once none of its children is left to be told; nobody waits for one that another is looking at.
_FORSAKEN = """
WITH parent AS MATERIALIZED (
    SELECT p.run_id FROM {schema}.workflow_runs AS p
    WHERE p.namespace = $1 AND p.has_children AND p.finished_at IS NOT NULL
    ORDER BY p.run_id LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
),
left_behind AS MATERIALIZED (
    SELECT p.run_id AS parent, c.run_id, c.parent_close
    FROM parent AS p
    CROSS JOIN LATERAL (
        SELECT * FROM {schema}.workflow_runs AS c
        WHERE c.parent_run_id = p.run_id AND c.finished_at IS NULL
            AND (c.parent_close = 'TERMINATE' OR (c.parent_close = 'CANCEL' AND c.cancel_asked_at IS NULL))
        LIMIT $2
    ) AS c
    LIMIT $2
),
done AS (
    UPDATE {schema}.workflow_runs AS w SET has_children = false
    FROM parent AS p
    WHERE w.run_id = p.run_id AND (SELECT count(*) FROM left_behind) < $2
        AND NOT EXISTS (SELECT FROM left_behind AS l WHERE l.parent = p.run_id)
)
SELECT (SELECT count(*) FROM parent) >= $2, l.run_id::text, l.parent::text, l.parent_close = 'TERMINATE'
FROM (SELECT) AS one LEFT JOIN left_behind AS l ON true
"""


class Orphanage:
    """The verb `forsaken`."""

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._forsaken = names.fill(_FORSAKEN)

    async def forsaken(self, namespace: str, *, limit: int) -> LeftBehind:
        """One trip, an index look-up where nothing is left behind."""
        rows = await self._connections.fetch(self._forsaken, namespace, limit)
        children = tuple(
            Forsaken(run_id=row[1], parent_run_id=row[2], at_once=row[3]) for row in rows if row[1] is not None
        )
        return LeftBehind(children=children, more=bool(children) or rows[0][0])
