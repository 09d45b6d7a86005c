"""Spans of time as users give them to nouns: seconds or a timedelta."""

from __future__ import annotations

from datetime import timedelta

LONGEST_SPAN = timedelta(days=36500)


def as_span(span: float | timedelta, *, what: str) -> timedelta:
    """Turn seconds or a timedelta into a timedelta; `what` says whose it is.

    Raises TypeError where it is neither, ValueError where it is negative, NaN or above a hundred years.
    """
    if isinstance(span, timedelta):
        seconds = span.total_seconds()
    elif type(span) in (int, float):
        seconds = span
    else:
        raise TypeError(f"{what} must be seconds (a number) or a timedelta, not {type(span).__name__}.")
    if not 0 <= seconds <= LONGEST_SPAN.total_seconds():  # NaN is refused as well
        raise ValueError(f"{what} is {span}; give from zero seconds to a hundred years.")
    return timedelta(seconds=seconds)
