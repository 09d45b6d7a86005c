"""How long a service asks its callers to wait."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any

from kagzi.model.retry import LONGEST_DELAY
from kagzi.rules.classification.probes import guarded, is_a, read, text

_LONGEST_S = LONGEST_DELAY.total_seconds()
_MOST_HEADERS = 500
_LONGEST_VALUE = 100
_IN_MS = ("retry-after-ms", "x-ms-retry-after-ms", "grpc-retry-pushback-ms")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?", re.ASCII)


def bounded_s(delay: Any) -> float | None:
    """A delay of zero seconds to a hundred years, from seconds or a timedelta; None for what is no delay."""
    if is_a(delay, timedelta):
        seconds = timedelta.total_seconds(delay)
    elif type(delay) in (int, float):
        seconds = delay
    else:
        return None
    if seconds != seconds:  # NaN
        return None
    return float(min(max(seconds, 0), _LONGEST_S))


def delay_in_headers(headers: object, *, now: datetime) -> float | None:
    """The delay that `Retry-After` asks for, or one of its kin in milliseconds, in seconds; None without one.

    `headers` is any mapping, or a list of pairs; names are of any case.
    """
    found = values(headers, {"retry-after", *_IN_MS})
    for name in _IN_MS:
        if (value := found.get(name)) is not None and _NUMBER.fullmatch(value):
            return bounded_s(float(value) / 1000)
    value = found.get("retry-after")
    return None if value is None else _delay(value, now=now)


def values(headers: object, names: set[str]) -> dict[str, str]:
    """The values of those of these headers that there are, by name in lower case."""
    found: dict[str, str] = {}
    for pair in _pairs(headers):
        if _is_listing(pair) and len(pair) == 2 and (name := text(pair[0])) is not None:
            name = name.lower()
            value = text(pair[1])
            if name in names and value is not None and len(value) <= _LONGEST_VALUE:
                found.setdefault(name, value.strip())
    return found


def _pairs(headers: Any) -> list[Any]:
    def listed() -> list[Any]:
        return list(islice(headers if _is_listing(headers) else headers.items(), _MOST_HEADERS))

    return guarded(listed) or []


def _is_listing(thing: object) -> bool:
    return is_a(thing, list) or is_a(thing, tuple)


def _delay(value: str, *, now: datetime) -> float | None:
    """Seconds, or an HTTP date in any of its three forms (RFC 9110, sections 10.2.3 and 5.6.7)."""
    if _NUMBER.fullmatch(value):
        return bounded_s(float(value))
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:  # the form of asctime, which is UTC as well
            moment = moment.replace(tzinfo=UTC)
        return bounded_s(moment - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def own_delay(error: BaseException) -> float | None:
    """The delay that an exception bears as `retry_after` (seconds or timedelta), as many client libraries' do."""
    return bounded_s(read(error, "retry_after"))
