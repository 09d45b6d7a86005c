"""Durations and moments as users give them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

Duration = float | timedelta
"""Seconds, or a timedelta."""

EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, tzinfo=UTC)
"""A database can hold later moments, but Python could not read them back."""


def as_duration(duration: Duration, *, what: str) -> timedelta:
    """Turn seconds or a timedelta into a timedelta of zero or more; `what` says whose it is.

    Raises TypeError where it is neither, ValueError where it is negative, NaN or beyond Python's range.
    """
    if isinstance(duration, timedelta):
        span = duration
    elif type(duration) in (int, float):
        try:
            if not math.isfinite(duration):
                raise ValueError(f"{what} is {duration}; give a finite number of seconds.")
            span = timedelta(seconds=duration)
        except OverflowError as error:
            raise ValueError(f"{what} goes beyond the year 9999; give fewer seconds.") from error
    else:
        raise TypeError(f"{what} must be seconds (a number) or a timedelta, not {type(duration).__name__}.")
    if span < timedelta(0):
        raise ValueError(f"{what} is {span.total_seconds():g} seconds; it can't be negative.")
    return span


_LONGEST = timedelta(days=365 * 1000)


def as_span(duration: Duration, *, what: str) -> timedelta:
    """The same for a duration that is counted from a moment which is not known here, and so has a bound of its own.

    Raises what `as_duration` does, and ValueError beyond 1,000 years.
    """
    span = as_duration(duration, what=what)
    if span > _LONGEST:
        raise ValueError(f"{what} is {span}; at most 1,000 years ({_LONGEST.days} days) can be kept.")
    return span


def as_moment(when: datetime, *, what: str) -> datetime:
    """Turn an aware datetime into UTC.

    Raises TypeError where it is no datetime, ValueError where it is naive or beyond the year 9999.
    """
    if not isinstance(when, datetime):
        raise TypeError(f"{what} must be a datetime, not {type(when).__name__}.")
    if when.tzinfo is None or when.utcoffset() is None:
        raise ValueError(f"{what} is {when}, which has no time zone; give an aware datetime, e.g. datetime.now(UTC).")
    try:
        moment = when.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{what} is {when}, which goes beyond the years 1 to 9999.") from error
    if moment > LATEST:
        raise ValueError(f"{what} is {when}, which goes beyond the year 9999.")
    # asyncpg takes the earliest moment of all for minus infinity; whatever is that long ago has passed anyway.
    return max(moment, EARLIEST)


def after(now: datetime, span: timedelta, *, what: str) -> datetime:
    """The moment `span` after `now`; raises ValueError beyond the year 9999."""
    try:
        moment = now + span
    except OverflowError as error:
        raise ValueError(f"{what} is {span}, which goes beyond the year 9999.") from error
    if moment > LATEST:
        raise ValueError(f"{what} is {span}, which goes beyond the year 9999.")
    return moment
