"""What is stored about versions, as starts need it: at hand, and not asked of the database for each."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from kagzi.clock import monotonic
from kagzi.errors import StoreUnavailable
from kagzi.model.version import VersionPolicy
from kagzi.store.protocol import Store

_AGE_S = 1.0
_PAUSE_S = 0.1


class VersionPolicies:
    """The stored default and deprecated versions, each workflow's read at most about once a second.

    One caller reads anew; the others take what was read last meanwhile. In an outage that is what everybody takes, and
    where nothing was ever read, a start waits for the database as it does for its own commit, up to `timeout`.
    """

    def __init__(self, store: Store, *, timeout: timedelta) -> None:
        self._store = store
        self._timeout_s = timeout.total_seconds()
        self._closed = False
        self._read: dict[tuple[str, str], tuple[float, VersionPolicy]] = {}
        self._reading: dict[tuple[str, str], asyncio.Lock] = {}

    async def get(self, namespace: str, workflow: str) -> VersionPolicy:
        """The default and the deprecated versions of a workflow. Raises StoreUnavailable."""
        key = namespace, workflow
        deadline = monotonic() + self._timeout_s  # counted from here: those who wait for the reader are not to add up
        known = self._read.get(key)
        if known is not None and monotonic() - known[0] < _AGE_S:
            return known[1]
        lock = self._reading.setdefault(key, asyncio.Lock())
        if known is not None and lock.locked():
            return known[1]
        async with lock:
            return await self._read_anew(key, deadline=deadline)

    def forget(self, namespace: str, workflow: str) -> None:
        """Read anew next time: something was changed."""
        self._read.pop((namespace, workflow), None)

    def close(self) -> None:
        """Leave those who wait for an outage to end with StoreUnavailable."""
        self._closed = True

    async def _read_anew(self, key: tuple[str, str], *, deadline: float) -> VersionPolicy:
        while True:
            known = self._read.get(key)
            if known is not None and monotonic() - known[0] < _AGE_S:
                return known[1]  # by the caller before us
            if self._closed or (known is None and monotonic() > deadline):
                raise StoreUnavailable(
                    f"the versions of workflow {key[1]!r} could not be read: Kagzi was closed, or the database "
                    f"did not answer for {self._timeout_s:g} s. Nothing was started; start again once it is back."
                )
            try:
                policy = await self._store.version_policy(*key)
            except StoreUnavailable:
                if known is not None:
                    return known[1]
                if monotonic() + _PAUSE_S > deadline:
                    raise
                await asyncio.sleep(_PAUSE_S)
                continue
            self._read[key] = monotonic(), policy
            return policy
