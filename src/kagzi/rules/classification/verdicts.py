"""What is found out about an exception."""

from __future__ import annotations

from dataclasses import dataclass

from kagzi.model.error import RETRYABLE, ErrorKind


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of what kind an exception is, whether another attempt can help, and how many seconds it asks to wait before."""

    kind: ErrorKind
    retryable: bool
    delay_s: float | None = None


def verdict(kind: ErrorKind, delay_s: float | None = None) -> Verdict:
    """A kind, as retryable as it is by itself. Who may not try again at all is not told to wait."""
    retryable = kind in RETRYABLE
    return Verdict(kind, retryable, delay_s if retryable else None)


UNKNOWN = verdict(ErrorKind.UNKNOWN)
