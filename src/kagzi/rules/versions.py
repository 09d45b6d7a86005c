"""Which version a run gets, and which it can't get any more."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kagzi.errors import VersionDeprecated, VersionNotFound, WorkflowNotRegistered
from kagzi.model.version import VersionPolicy, WorkflowVersion


def version_to_start(workflow: str, *, asked: int | None, policy: VersionPolicy, known: Collection[int]) -> int:
    """The version that was asked for, else the stored default, else the highest registered here that isn't deprecated.

    Raises WorkflowNotRegistered where there is none to choose from, VersionNotFound where it isn't among those known
    here, VersionDeprecated where it gets no new runs.
    """
    version = policy.default if asked is None else asked
    usable = sorted(set(known) - policy.deprecated.keys())
    if version is None:
        if usable:
            return usable[-1]
        if known:
            raise VersionDeprecated(workflow, max(known), usable=())
        raise WorkflowNotRegistered(workflow)
    if known and version not in known:
        raise VersionNotFound(workflow, version, known=tuple(known))
    if version in policy.deprecated:
        raise VersionDeprecated(workflow, version, usable=tuple(usable))
    return version


def default_version(policy: VersionPolicy, *, known: Collection[int]) -> int | None:
    """The version that a start without one gets; None where there is none."""
    return policy.default or max(set(known) - policy.deprecated.keys(), default=None)


def every_version(
    *,
    policies: Mapping[str, VersionPolicy],
    open_runs: Mapping[tuple[str, int], int],
    served: Mapping[tuple[str, int], int],
) -> list[WorkflowVersion]:
    """Every version that anybody knows of, by workflow and version; `served` counts the workers that are up."""
    named = {(workflow, policy.default) for workflow, policy in policies.items() if policy.default is not None}
    gone = {
        (workflow, version): since for workflow, each in policies.items() for version, since in each.deprecated.items()
    }
    return [
        WorkflowVersion(
            workflow=workflow,
            version=version,
            is_default=(workflow, version) in named,
            deprecated_at=gone.get((workflow, version)),
            open_runs=open_runs.get((workflow, version), 0),
            workers=served.get((workflow, version), 0),
        )
        for workflow, version in sorted(named | gone.keys() | open_runs.keys() | served.keys())
    ]
