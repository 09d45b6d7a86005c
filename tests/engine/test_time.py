"""The store's time inside a process: never ahead where a timer may fire, never behind where a wait begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kagzi.clock import monotonic
from kagzi.engine.time import StoreClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_what_is_asked_and_answered_slowly_leaves_the_store_between_two_times() -> None:
    """P18: it was asked three seconds ago, and the store's clock was read some time between then and now."""
    clock = StoreClock()

    clock.observe(NOON, asked_at_s=monotonic() - 3)

    assert timedelta(0) <= clock.now() - NOON < timedelta(seconds=1)
    assert timedelta(seconds=3) <= clock.latest() - NOON < timedelta(seconds=4)


def test_an_answer_that_does_not_say_when_it_was_asked_for_bounds_nothing() -> None:
    clock = StoreClock()
    clock.observe(NOON, asked_at_s=monotonic() - 3)

    clock.observe(NOON + timedelta(seconds=1))

    assert clock.latest() - clock.now() > timedelta(seconds=1)


def test_no_wait_begins_before_the_time_that_is_known() -> None:
    clock = StoreClock()
    clock.observe(NOON, asked_at_s=monotonic())

    clock.observe(NOON + timedelta(hours=1))

    assert clock.latest() - NOON >= timedelta(hours=1)


def test_without_an_answer_there_is_no_time() -> None:
    with pytest.raises(AssertionError, match=r"observe\(\) comes first"):
        StoreClock().latest()
