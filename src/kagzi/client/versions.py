"""Versions of workflows: the default, deprecating, and who still needs which."""

from __future__ import annotations

import asyncio
from collections import Counter

from kagzi.authoring.names import check_name, check_version
from kagzi.client import workers as registered
from kagzi.client.link import Link
from kagzi.errors import ConfigError, VersionDeprecated
from kagzi.model.version import WorkflowVersion
from kagzi.rules.versions import default_version, every_version


async def set_default(link: Link, name: str, version: int) -> None:
    """Set the version that new runs get. Raises VersionNotFound or VersionDeprecated."""
    _check(name, version)
    if link.definitions.knows(name):
        link.definitions.get(name, version)
    if not await link.store.set_default_version(link.settings.namespace, name, version):
        policy = await link.store.version_policy(link.settings.namespace, name)
        raise VersionDeprecated(name, version, usable=tuple(_known(link, name) - policy.deprecated.keys()))
    link.version_policy_changed(link.settings.namespace, name)


async def get_default(link: Link, name: str) -> int | None:
    """The version that new runs get."""
    check_name(name, what="the name of a workflow")
    policy = await link.store.version_policy(link.settings.namespace, name)
    return default_version(policy, known=_known(link, name))


async def deprecate(link: Link, name: str, version: int) -> None:
    """Give a version no new runs. Raises ConfigError where it is the default."""
    _check(name, version)
    if not await link.store.deprecate_version(link.settings.namespace, name, version):
        raise ConfigError(
            f"version {version} of workflow {name!r} is the default that starts get, so it can't be deprecated. "
            "Set another default first: `kagzi versions default NAME VERSION`, or set_default_workflow_version."
        )
    link.version_policy_changed(link.settings.namespace, name)


async def undeprecate(link: Link, name: str, version: int) -> None:
    """Let a version get new runs again."""
    _check(name, version)
    await link.store.undeprecate_version(link.settings.namespace, name, version)
    link.version_policy_changed(link.settings.namespace, name)


async def find(link: Link) -> list[WorkflowVersion]:
    """Every version that is registered with a worker that is up, has open runs, is a default or deprecated."""
    namespace = link.settings.namespace
    policies, open_runs, workers = await asyncio.gather(
        link.store.version_policies(namespace), link.store.count_open(namespace), registered.find(link, ended=False)
    )
    served = Counter(pair for worker in workers if worker.takes_runs for pair in set(worker.workflows))
    return every_version(policies=policies, open_runs=open_runs, served=served)


def _known(link: Link, name: str) -> set[int]:
    return set(link.definitions.versions(name)) if link.definitions.knows(name) else set()


def _check(name: object, version: object) -> None:
    check_name(name, what="the name of a workflow")
    check_version(version, what=f"the version of workflow {name!r}")
