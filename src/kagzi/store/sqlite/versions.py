"""Which version a start gets, and which it must not get any more."""

from __future__ import annotations

from typing import NamedTuple

from kagzi.model.version import VersionPolicy
from kagzi.store.sql.versions import policies
from kagzi.store.sqlite.session import Session, each
from kagzi.store.sqlite.times import moment_or_none

_POLICIES = """
SELECT v.workflow, v.default_version, NULL FROM workflow_versions AS v WHERE v.namespace = ?1
UNION ALL
SELECT d.workflow, d.version, d.deprecated_at FROM deprecated_versions AS d WHERE d.namespace = ?1
"""
_POLICY = _POLICIES.replace("namespace = ?1", "namespace = ?1 AND workflow = ?2")

_SET_DEFAULT = """
INSERT INTO workflow_versions (namespace, workflow, default_version)
SELECT ?1, ?2, ?3
WHERE NOT EXISTS (
    SELECT 1 FROM deprecated_versions AS d WHERE d.namespace = ?1 AND d.workflow = ?2 AND d.version = ?3
)
ON CONFLICT (namespace, workflow) DO UPDATE SET default_version = excluded.default_version
"""

# A version that is deprecated already keeps its time; it is updated to itself so that it is counted.
_DEPRECATE = """
INSERT INTO deprecated_versions (namespace, workflow, version, deprecated_at)
SELECT ?1, ?2, ?3, ?4
WHERE NOT EXISTS (
    SELECT 1 FROM workflow_versions AS v WHERE v.namespace = ?1 AND v.workflow = ?2 AND v.default_version = ?3
)
ON CONFLICT (namespace, workflow, version) DO UPDATE SET deprecated_at = deprecated_at
"""

_UNDEPRECATE = "DELETE FROM deprecated_versions WHERE namespace = ? AND workflow = ? AND version = ?"


class WorkflowName(NamedTuple):
    """A workflow in its namespace."""

    namespace: str
    workflow: str


class Version(NamedTuple):
    """A version of a workflow in its namespace."""

    namespace: str
    workflow: str
    version: int


def _set_default(session: Session, version: Version) -> bool:
    return session.write(_SET_DEFAULT, version) > 0


def _deprecate(session: Session, version: Version) -> bool:
    return session.write(_DEPRECATE, (*version, session.now)) > 0


def _undeprecate(session: Session, version: Version) -> None:
    session.write(_UNDEPRECATE, version)


def _policy(session: Session, name: WorkflowName) -> VersionPolicy:
    return _found(session, _POLICY, name).get(name.workflow) or VersionPolicy()


def _policies(session: Session, namespace: str) -> dict[str, VersionPolicy]:
    return _found(session, _POLICIES, (namespace,))


def _found(session: Session, sql: str, arguments: tuple[str, ...]) -> dict[str, VersionPolicy]:
    rows = session.rows(sql, arguments)
    return policies((workflow, version, moment_or_none(since)) for workflow, version, since in rows)


SET_DEFAULT = each(_set_default)
DEPRECATE = each(_deprecate)
UNDEPRECATE = each(_undeprecate)
POLICY = each(_policy)
POLICIES = each(_policies)
