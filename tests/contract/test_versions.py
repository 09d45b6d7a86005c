"""Which version a start gets, and which it must not get: the verbs about versions."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from kagzi.model.version import VersionPolicy
from kagzi.store.protocol import Store
from tests.contract.builders import NAMESPACE


async def test_nothing_is_known_of_versions_until_it_is_said(store: Store) -> None:
    assert await store.version_policy(NAMESPACE, "order") == VersionPolicy()
    assert await store.version_policies(NAMESPACE) == {}


async def test_a_default_version_is_kept_and_changed(store: Store) -> None:
    assert await store.set_default_version(NAMESPACE, "order", 3)
    first = await store.version_policy(NAMESPACE, "order")
    assert await store.set_default_version(NAMESPACE, "order", 2)

    assert (first.default, (await store.version_policy(NAMESPACE, "order")).default) == (3, 2)
    assert await store.version_policy("other", "order") == VersionPolicy()
    assert await store.version_policy(NAMESPACE, "ship") == VersionPolicy()


async def test_deprecated_versions_are_kept_with_their_time_and_taken_back(store: Store) -> None:
    before = (await store.probe()).now
    assert await store.deprecate_version(NAMESPACE, "order", 1)
    since = (await store.version_policy(NAMESPACE, "order")).deprecated
    assert await store.deprecate_version(NAMESPACE, "order", 1)
    assert await store.deprecate_version(NAMESPACE, "order", 2)
    await store.undeprecate_version(NAMESPACE, "order", 2)
    await store.undeprecate_version(NAMESPACE, "order", 7)

    assert (await store.version_policy(NAMESPACE, "order")).deprecated == since
    assert before - timedelta(milliseconds=1) <= since[1] <= (await store.probe()).now


async def test_the_default_can_not_be_deprecated_and_the_deprecated_no_default(store: Store) -> None:
    await store.set_default_version(NAMESPACE, "order", 2)
    await store.deprecate_version(NAMESPACE, "order", 1)

    assert not await store.deprecate_version(NAMESPACE, "order", 2)
    assert not await store.set_default_version(NAMESPACE, "order", 1)
    policy = await store.version_policy(NAMESPACE, "order")
    assert (policy.default, set(policy.deprecated)) == (2, {1})

    # Of another workflow, or in another namespace, the same numbers are nobody's business.
    assert await store.deprecate_version(NAMESPACE, "ship", 2)
    assert await store.set_default_version("other", "order", 1)


async def test_every_workflow_s_versions_are_listed(store: Store) -> None:
    await store.set_default_version(NAMESPACE, "order", 2)
    await store.deprecate_version(NAMESPACE, "order", 1)
    await store.deprecate_version(NAMESPACE, "ship", 1)
    await store.set_default_version("other", "mail", 1)

    found = await store.version_policies(NAMESPACE)

    assert {name: (policy.default, set(policy.deprecated)) for name, policy in found.items()} == {
        "order": (2, {1}),
        "ship": (None, {1}),
    }


async def test_many_at_once_deprecate_one_version_once(store: Store) -> None:
    answers = await asyncio.gather(*(store.deprecate_version(NAMESPACE, "order", 1) for _ in range(8)))

    assert answers == [True] * 8
    assert set((await store.version_policy(NAMESPACE, "order")).deprecated) == {1}
