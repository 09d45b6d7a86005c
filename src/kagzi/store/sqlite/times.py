"""Times as SQLite keeps them: whole microseconds since 1970, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

EARLIEST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
LATEST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""The last moment that a `datetime` can name; a run delayed beyond it falls due then."""

_LONGEST_DELAY_S = (LATEST - EARLIEST) / 1_000_000


def micros(moment: datetime) -> int:
    """Whole microseconds since 1970; exact, unlike a way through `float`."""
    return (moment - _EPOCH) // _MICROSECOND


def micros_or_none(moment: datetime | None) -> int | None:
    """The same, where there may be no moment."""
    return None if moment is None else (moment - _EPOCH) // _MICROSECOND


def moment(micros: int) -> datetime:
    """The aware moment in UTC; the first or the last that there is for what a damaged row says beyond them (P23)."""
    try:
        return _EPOCH + timedelta(0, 0, micros)
    except OverflowError:
        return moment(EARLIEST if micros < 0 else LATEST)


def moment_or_none(micros: int | None) -> datetime | None:
    """The same, where there may be no moment."""
    return None if micros is None else moment(micros)


def later(now: int, delay_s: float) -> int:
    """The moment `delay_s` seconds after `now`, at most the last that there is."""
    if not delay_s:
        return now
    return min(now + round(min(delay_s, _LONGEST_DELAY_S) * 1_000_000), LATEST)


def span(duration: timedelta) -> int:
    """Whole microseconds of a duration."""
    return duration // _MICROSECOND
