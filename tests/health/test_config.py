"""`HealthCheckConfig`: durations in two forms, and what can't be is refused at once."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields, replace
from datetime import timedelta
from typing import Any

import pytest

from kagzi import HealthCheckConfig


def test_durations_are_seconds_or_timedeltas() -> None:
    by_seconds = HealthCheckConfig(heartbeat_timeout=90, heartbeat_warning=1.5, timeout=2)
    by_spans = HealthCheckConfig(
        heartbeat_timeout=timedelta(seconds=90),
        heartbeat_warning=timedelta(seconds=1.5),
        timeout=timedelta(seconds=2),
    )

    assert by_seconds == by_spans
    assert by_seconds.heartbeat_timeout == timedelta(seconds=90)
    assert hash(by_seconds) == hash(by_spans)


def test_what_is_not_given_is_as_it_is_promised() -> None:
    config = HealthCheckConfig()

    assert (config.heartbeat_timeout, config.heartbeat_warning) == (timedelta(seconds=120), timedelta(seconds=60))
    assert config.min_workers == 0
    assert config.memory_warning_mib is None


def test_it_can_be_copied_with_changes_pickled_and_not_changed() -> None:
    config = HealthCheckConfig(min_workers=3)

    assert replace(config, timeout=timedelta(seconds=1)) == HealthCheckConfig(min_workers=3, timeout=1)
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(FrozenInstanceError):
        config.min_workers = 4  # type: ignore[misc]  # that it can't be is what is tested


DURATIONS = [each.name for each in fields(HealthCheckConfig) if each.name not in ("min_workers", "memory_warning_mib")]


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (10**400, ValueError),
        (timedelta(microseconds=-1), ValueError),
        ("60", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_what_is_no_duration_is_refused_by_name(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        HealthCheckConfig(**{name: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heartbeat_warning": 121}, "heartbeat_warning is 0:02:01, above heartbeat_timeout, which is 0:02:00"),
        ({"heartbeat_timeout": 59}, "heartbeat_warning is 0:01:00, above heartbeat_timeout"),
        ({"waiting_warning": 601}, "waiting_warning"),
        ({"timeout": 0}, "timeout is zero"),
        ({"min_workers": -1}, "min_workers is -1"),
        ({"min_workers": 1.5}, "min_workers is 1.5"),
        ({"min_workers": True}, "min_workers is True"),
        ({"memory_warning_mib": 0}, "memory_warning_mib is 0"),
        ({"memory_warning_mib": float("nan")}, "memory_warning_mib is nan"),
        ({"memory_warning_mib": "1 GiB"}, "memory_warning_mib is '1 GiB'"),
    ],
)
def test_bounds_that_can_not_be_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HealthCheckConfig(**given)


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="heartbeat"):
        HealthCheckConfig(heartbeat=5)  # type: ignore[call-arg]  # that it can't be is what is tested
