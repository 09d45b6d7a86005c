"""Applications of the test's own process, quick to see that something is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kagzi import Kagzi, Settings
from tests.faults.fleet import QUICK
from tests.faults.ledger import Ledger
from tests.faults.workflows import Chain, register_chain


@asynccontextmanager
async def application(url: str, ledger: Ledger, **variables: str) -> AsyncIterator[tuple[Kagzi, Chain]]:
    """An application, connected, that knows `chain`."""
    quick = {**QUICK, "KAGZI_HEARTBEAT_INTERVAL": "0.2", "KAGZI_PARK_AFTER": "0.05", **variables}
    kagzi = Kagzi(settings=Settings.from_environment(quick, database_url=url))
    chain = register_chain(kagzi, ledger)
    async with kagzi:
        yield kagzi, chain
