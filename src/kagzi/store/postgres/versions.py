"""Which version a start gets, and which it must not get any more."""

# ruff: noqa: D102, S608 - the protocol says what the verbs do; SQL is put together from constants.

from __future__ import annotations

from kagzi.model.version import VersionPolicy
from kagzi.store.postgres.address import Names
from kagzi.store.postgres.connections import Connections
from kagzi.store.postgres.rows import readable
from kagzi.store.sql.versions import policies

_POLICIES = f"""
SELECT v.workflow, v.default_version, NULL::timestamptz FROM {{schema}}.workflow_versions AS v
WHERE v.namespace = $1
UNION ALL
SELECT d.workflow, d.version, {readable("d.deprecated_at")} FROM {{schema}}.deprecated_versions AS d
WHERE d.namespace = $1
"""
_POLICY = _POLICIES.replace("namespace = $1", "namespace = $1 AND workflow = $2")

_SET_DEFAULT = """
INSERT INTO {schema}.workflow_versions (namespace, workflow, default_version)
SELECT $1, $2, $3
WHERE NOT EXISTS (
    SELECT FROM {schema}.deprecated_versions AS d WHERE d.namespace = $1 AND d.workflow = $2 AND d.version = $3
)
ON CONFLICT (namespace, workflow) DO UPDATE SET default_version = excluded.default_version
RETURNING 1
"""

# A version that is deprecated already keeps its time; it is updated to itself so that it is answered.
_DEPRECATE = """
INSERT INTO {schema}.deprecated_versions AS d (namespace, workflow, version)
SELECT $1, $2, $3
WHERE NOT EXISTS (
    SELECT FROM {schema}.workflow_versions AS v WHERE v.namespace = $1 AND v.workflow = $2 AND v.default_version = $3
)
ON CONFLICT (namespace, workflow, version) DO UPDATE SET deprecated_at = d.deprecated_at
RETURNING 1
"""

_UNDEPRECATE = """
DELETE FROM {schema}.deprecated_versions AS d WHERE d.namespace = $1 AND d.workflow = $2 AND d.version = $3
"""


class Versions:
    """The verbs about versions."""

    def __init__(self, connections: Connections, names: Names) -> None:
        self._connections = connections
        self._policies = names.fill(_POLICIES)
        self._policy = names.fill(_POLICY)
        self._set_default = names.fill(_SET_DEFAULT)
        self._deprecate = names.fill(_DEPRECATE)
        self._undeprecate = names.fill(_UNDEPRECATE)

    async def set_default_version(self, namespace: str, workflow: str, version: int) -> bool:
        return bool(await self._connections.fetch(self._set_default, namespace, workflow, version))

    async def deprecate_version(self, namespace: str, workflow: str, version: int) -> bool:
        return bool(await self._connections.fetch(self._deprecate, namespace, workflow, version))

    async def undeprecate_version(self, namespace: str, workflow: str, version: int) -> None:
        await self._connections.fetch(self._undeprecate, namespace, workflow, version)

    async def version_policy(self, namespace: str, workflow: str) -> VersionPolicy:
        rows = await self._connections.fetch(self._policy, namespace, workflow)
        return policies((row[0], row[1], row[2]) for row in rows).get(workflow) or VersionPolicy()

    async def version_policies(self, namespace: str) -> dict[str, VersionPolicy]:
        rows = await self._connections.fetch(self._policies, namespace)
        return policies((row[0], row[1], row[2]) for row in rows)
