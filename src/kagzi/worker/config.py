"""How a worker is set up."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from kagzi.authoring.durations import Duration, as_duration
from kagzi.authoring.names import check_name
from kagzi.errors import ConfigError
from kagzi.ids import new_id
from kagzi.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """One worker's name, queues, slots and times."""

    worker_id: str
    queues: tuple[str, ...]
    max_concurrent_workflows: int
    max_concurrent_steps: int
    heartbeat_interval: timedelta
    lease: timedelta
    poll_interval: timedelta
    graceful_shutdown_timeout: timedelta
    namespace: str
    build_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What the caller asked for; None stands for the application's setting."""

    worker_id: str | None = None
    queues: Sequence[str] | None = None
    max_concurrent_workflows: int | None = None
    max_concurrent_steps: int | None = None
    heartbeat_interval: Duration | None = None
    lease: Duration | None = None
    poll_interval: Duration | None = None
    graceful_shutdown_timeout: Duration | None = None


def configure(options: WorkerOptions, settings: Settings) -> WorkerConfig:
    """Fill in what the caller left open. Raises ConfigError, TypeError or ValueError naming the option."""
    queues = ("default",) if options.queues is None else tuple(options.queues)
    if isinstance(options.queues, str) or not queues:
        raise ConfigError(f"queues is {options.queues!r}; give a list of queue names, e.g. queues=['default'].")
    for queue in queues:
        check_name(queue, what="the name of a queue")
    beat = _span(options.heartbeat_interval, settings.heartbeat_interval, what="heartbeat_interval")
    lease = _span(options.lease, settings.lease, what="lease")
    if lease < 2 * beat:
        raise ConfigError(
            f"lease is {lease} and heartbeat_interval {beat}; a lease must last for at least two heartbeats, or a "
            "worker that is late once loses its runs."
        )
    made_up = f"{socket.gethostname()}-{os.getpid()}-{new_id()[-6:]}"
    return WorkerConfig(
        worker_id=check_name(made_up if options.worker_id is None else options.worker_id, what="worker_id"),
        queues=tuple(dict.fromkeys(queues)),
        max_concurrent_workflows=_count(
            options.max_concurrent_workflows, settings.max_concurrent_workflows, what="max_concurrent_workflows"
        ),
        max_concurrent_steps=_count(
            options.max_concurrent_steps, settings.max_concurrent_steps, what="max_concurrent_steps"
        ),
        heartbeat_interval=beat,
        lease=lease,
        poll_interval=_span(options.poll_interval, settings.poll_interval, what="poll_interval"),
        graceful_shutdown_timeout=_span(
            options.graceful_shutdown_timeout,
            settings.graceful_shutdown_timeout,
            what="graceful_shutdown_timeout",
            zero=True,
        ),
        namespace=settings.namespace,
        build_id=settings.build_id or None,
    )


def _span(given: Duration | None, default: timedelta, *, what: str, zero: bool = False) -> timedelta:
    span = default if given is None else as_duration(given, what=what)
    if not span and not zero:
        raise ConfigError(f"{what} is zero; give a number of seconds above zero.")
    return span


def _count(given: int | None, default: int, *, what: str) -> int:
    count = default if given is None else given
    if type(count) is not int or count < 1:
        raise ConfigError(f"{what} is {count!r}; give a whole number from 1.")
    return count
