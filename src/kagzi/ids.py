"""The one place that makes identifiers: UUID version 7, increasing within a process."""

from __future__ import annotations

import os
import re
import threading
import time

_FORM = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_COUNTER_BITS = 12
_COUNTER_LIMIT = 1 << _COUNTER_BITS

_lock = threading.Lock()
_last_ms = 0
_counter = 0


def new_id() -> str:
    """Make a UUIDv7 (RFC 9562, 5.7) in its text form of 36 characters.

    Ids made by one process increase strictly, also within a millisecond: the 12 bits after the version count
    (RFC 9562, 6.2, method 1), and a full counter borrows the next millisecond. Safe from any thread.
    """
    global _last_ms, _counter
    now_ms = time.time_ns() // 1_000_000
    with _lock:
        if now_ms > _last_ms:
            _last_ms, _counter = now_ms, 0
        else:
            _counter += 1
            if _counter == _COUNTER_LIMIT:
                _last_ms, _counter = _last_ms + 1, 0
        stamp, count = _last_ms, _counter
    chance = int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    text = f"{(stamp << 16) | 0x7000 | count:016x}{chance:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id made here (any UUID in lower-case text form)."""
    return _FORM.fullmatch(text) is not None
