"""Stopping a process at a moment at which nobody else is stopped with it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import apsw

from tests.faults.database import SQLITE
from tests.faults.fleet import Fleet


async def pause_holding_no_lock(fleet: Fleet, pid: int) -> None:
    """Stop a process; on SQLite not in the middle of a commit, for the file's lock would stay locked with it."""
    fleet.pause(pid)
    while fleet.url.startswith(SQLITE) and _is_locked(fleet.url):
        fleet.go_on(pid)
        await asyncio.sleep(0.001)
        fleet.pause(pid)


def _is_locked(url: str) -> bool:
    connection = apsw.Connection(url.removeprefix(SQLITE))
    try:
        with suppress(apsw.BusyError):
            connection.execute("BEGIN IMMEDIATE; ROLLBACK")
            return False
        return True
    finally:
        connection.close()
