"""Whether the code of today still fits the runs of yesterday."""

from __future__ import annotations

from kagzi.app.kagzi import Kagzi
from kagzi.errors import VersionNotFound


async def replay(kagzi: Kagzi, run_id: str) -> None:
    """Replay a run, open or ended, against the code that `kagzi` has registered; it must be connected.

    Reads from the database and does nothing else: no step is executed and nothing is recorded.

    Raises DivergenceError with the diff where the code doesn't fit, PayloadError where a stored value no longer fits
    its type, VersionNotFound where the run's version isn't registered, RunNotFound.
    """
    async for replayed in kagzi.replays([run_id]):
        if not replayed.is_known:
            raise VersionNotFound(replayed.workflow, replayed.version)
        if replayed.error is not None:
            raise replayed.error
