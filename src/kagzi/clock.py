"""The one place that reads a clock.

`utc_now` is the store time of a SQLite store (its database has no clock of its own) and nothing else that is
durable; PostgreSQL reads its own. `monotonic` measures spans inside one process.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial

monotonic = time.monotonic
"""Seconds since some fixed point, as `float`; never steps back and goes on while the process is stopped."""

since_boot = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
"""Like `monotonic`, and goes on while the machine is suspended, where the system has such a clock (Linux)."""

cpu_seconds = time.process_time
"""CPU seconds used by this process, as `float`."""


def utc_now() -> datetime:
    """The machine's wall clock, aware and in UTC."""
    return datetime.now(UTC)
