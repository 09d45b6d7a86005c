"""Every setting once: its name, default, meaning and environment variable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from datetime import timedelta
from typing import Any

from kagzi.errors import ConfigError


def _setting(
    default: Any, variable: str, meaning: str, *, secret: bool = False, zero: bool = False, most: int | None = None
) -> Any:
    """A setting; a `secret` is not shown, `zero` says that a duration or a number may be 0, `most` bounds a number."""
    metadata = {"variable": variable, "meaning": meaning, "zero": zero, "most": most}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set about an application. Each has an environment variable; arguments in code go before it.

    Durations are given in seconds in the environment.
    """

    database_url: str = _setting(
        "sqlite:///kagzi.db",
        "KAGZI_DATABASE_URL",
        "where runs are kept: postgresql://..., sqlite:///file or sqlite:// (memory)",
        secret=True,
    )
    schema: str = _setting("kagzi", "KAGZI_SCHEMA", "PostgreSQL schema of Kagzi's tables")
    namespace: str = _setting("default", "KAGZI_NAMESPACE", "which runs this application sees and starts")
    auto_migrate: bool = _setting(True, "KAGZI_AUTO_MIGRATE", "bring the schema up to date on connecting")
    payload_limit: int = _setting(4 * 1024 * 1024, "KAGZI_PAYLOAD_LIMIT", "largest encoded payload, in bytes")
    pool_size: int = _setting(8, "KAGZI_POOL_SIZE", "most PostgreSQL connections of one process")
    store_timeout: timedelta = _setting(
        timedelta(seconds=30), "KAGZI_STORE_TIMEOUT", "longest wait for one answer of the database"
    )
    journal_capacity: int = _setting(
        10_000, "KAGZI_JOURNAL_CAPACITY", "most writes waiting for a commit before writers have to wait"
    )
    park_after: timedelta = _setting(
        timedelta(seconds=1), "KAGZI_PARK_AFTER", "a run that waits longer than this leaves memory", zero=True
    )
    cancel_grace: timedelta = _setting(
        timedelta(seconds=60),
        "KAGZI_CANCEL_GRACE",
        "how long a cancelled run may clean up before it is ended",
        zero=True,
    )
    event_retention: timedelta = _setting(
        timedelta(days=7), "KAGZI_EVENT_RETENTION", "how long events are kept, to be looked back for and told apart"
    )
    max_concurrent_workflows: int = _setting(
        100, "KAGZI_MAX_CONCURRENT_WORKFLOWS", "runs that one worker executes at a time"
    )
    max_concurrent_steps: int = _setting(1000, "KAGZI_MAX_CONCURRENT_STEPS", "steps that one worker executes at a time")
    max_step_threads: int = _setting(
        32, "KAGZI_MAX_STEP_THREADS", "threads of one worker for steps that are plain functions"
    )
    max_step_processes: int = _setting(
        0,
        "KAGZI_MAX_STEP_PROCESSES",
        "processes of one worker for steps that ask for one; 0 for as many as processors",
        zero=True,
    )
    heartbeat_interval: timedelta = _setting(
        timedelta(seconds=10), "KAGZI_HEARTBEAT_INTERVAL", "how often a worker renews its lease"
    )
    lease: timedelta = _setting(
        timedelta(seconds=60), "KAGZI_LEASE", "a worker silent for this long is dead and its runs move"
    )
    poll_interval: timedelta = _setting(
        timedelta(seconds=0.5), "KAGZI_POLL_INTERVAL", "how often a worker looks for runs when nothing tells it to"
    )
    graceful_shutdown_timeout: timedelta = _setting(
        timedelta(seconds=300),
        "KAGZI_GRACEFUL_SHUTDOWN_TIMEOUT",
        "how long a stopping worker lets its steps finish",
        zero=True,
    )
    build_id: str = _setting("", "KAGZI_BUILD_ID", "what is deployed, such as a commit; shown for each worker")
    poison_after: int = _setting(
        5, "KAGZI_POISON_AFTER", "a run that kills its worker this often without progress is set aside"
    )
    loop_lag_warning: timedelta = _setting(
        timedelta(seconds=0.1),
        "KAGZI_LOOP_LAG_WARNING",
        "a worker's event loop blocked for longer is reported",
        zero=True,
    )
    body_warning: timedelta = _setting(
        timedelta(seconds=0.1), "KAGZI_BODY_WARNING", "a workflow body that computes for longer is reported", zero=True
    )
    health_port: int = _setting(
        0, "KAGZI_HEALTH_PORT", "port on which a worker answers /healthz and /readyz; 0: none", zero=True, most=65_535
    )
    health_host: str = _setting(
        "0.0.0.0",  # noqa: S104 - probes come from outside: Kubernetes asks at the pod's own address
        "KAGZI_HEALTH_HOST",
        "address that the health port listens on",
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, /, **overrides: Any) -> Settings:
        """Read every setting whose variable is set and not empty; `overrides` that are not None go before them.

        Raises ConfigError naming the variable and what it would take.
        """
        values: dict[str, Any] = {}
        for entry in fields(cls):
            override = overrides.pop(entry.name, None)
            text = environment.get(entry.metadata["variable"], "")
            if override is not None:
                values[entry.name] = override
            elif text:
                values[entry.name] = _parse(text, entry.default, entry.metadata["variable"])
        if overrides:
            raise ConfigError(f"there is no setting {sorted(overrides)[0]!r}; see kagzi.Settings for those there are.")
        return cls(**values)

    def __post_init__(self) -> None:
        """Refuse values that can't work. Raises ConfigError naming the setting and its variable."""
        for entry in fields(self):
            _check(entry, getattr(self, entry.name))
        if self.lease < 2 * self.heartbeat_interval:
            raise ConfigError(
                f"lease (KAGZI_LEASE) is {self.lease} and heartbeat_interval (KAGZI_HEARTBEAT_INTERVAL) "
                f"{self.heartbeat_interval}; a lease must last for at least two heartbeats, or a worker that is late "
                "once loses its runs."
            )


def _check(entry: Field[Any], value: object) -> None:
    setting, wanted = f"{entry.name} ({entry.metadata['variable']})", type(entry.default)
    if not isinstance(value, wanted) or isinstance(value, bool) is not (wanted is bool):
        found = repr(value) if entry.repr else f"of type {type(value).__name__}"
        raise ConfigError(f"{setting} is {found}, but must be {_A[wanted]}.")
    if isinstance(value, timedelta) and (value < timedelta(0) or not (value or entry.metadata["zero"])):
        least = "zero or more" if entry.metadata["zero"] else "above zero"
        raise ConfigError(f"{setting} is {value.total_seconds():g} seconds, but must be {least}.")
    fewest, most = 0 if entry.metadata["zero"] else 1, entry.metadata["most"]
    if type(value) is int and (value < fewest or (most is not None and value > most)):
        bounds = f"{fewest} or more" if most is None else f"from {fewest} to {most}"
        raise ConfigError(f"{setting} is {value}, but must be {bounds}.")


_A = {bool: "a bool", int: "an int", str: "a str", timedelta: "a timedelta"}


def _parse(text: str, default: object, variable: str) -> object:
    try:
        match default:
            case bool():
                return _parse_bool(text)
            case int():
                return int(text)
            case timedelta():
                return timedelta(seconds=float(text))
            case _:
                return text
    except (ValueError, OverflowError) as error:
        wanted = {"bool": "true or false", "int": "a whole number", "timedelta": "a number of seconds"}
        raise ConfigError(f"{variable} is {text!r}, but must be {wanted[type(default).__name__]}.") from error


def _parse_bool(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]
