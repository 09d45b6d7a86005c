"""What `kagzi worker` and `kagzi dev` can be asked for, and how it is passed on to processes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from kagzi.cli import logs

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOrder:
    """What was asked for; None leaves a choice to the application. The last five are for processes of our own."""

    target: str
    queues: tuple[str, ...] = ()
    concurrency: int | None = None
    steps: int | None = None
    processes: int = 1
    reload: bool = False
    worker_id: str | None = None
    heartbeat: float | None = None
    lease: float | None = None
    poll: float | None = None
    shutdown_timeout: float | None = None
    log_level: str = "info"
    log_format: str = logs.HUMAN
    health_port: int | None = None
    health_host: str | None = None
    migrate: bool = False
    supervised: bool = False
    number: int | None = None
    health_socket: str | None = None

    def command(self, *, database_url: str | None) -> list[str]:
        """The command line of a worker process to which this order is passed on."""
        command = [sys.executable, "-m", "kagzi.cli.main", "worker", "--supervised"]
        given = {
            "--concurrency": self.concurrency,
            "--steps": self.steps,
            "--worker-id": self.worker_id,
            "--heartbeat": self.heartbeat,
            "--lease": self.lease,
            "--poll": self.poll,
            "--shutdown-timeout": self.shutdown_timeout,
            "--log-level": self.log_level,
            "--log-format": self.log_format,
            "--number": self.number,
            "--health-socket": self.health_socket,
            "--database-url": database_url,
        }
        if self.number is None:  # of several, the supervisor answers for all
            given |= {"--health-port": self.health_port, "--health-host": self.health_host}
        for option, value in given.items():
            if value is not None:
                command += [option, str(value)]
        for queue in self.queues:
            command += ["--queue", queue]
        if self.migrate:
            command.append("--migrate")
        return [*command, "--", self.target]


_SECONDS = click.FloatRange(min=0)

_OPTIONS = (
    click.option(
        "--queue", "queues", multiple=True, metavar="NAME", help="A queue to take runs from; can be repeated."
    ),
    click.option("--concurrency", type=click.IntRange(min=1), metavar="N", help="Runs to execute at a time."),
    click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Steps to execute at a time."),
    click.option("--worker-id", metavar="NAME", help="The worker's name; with several processes a number is added."),
    click.option("--heartbeat", type=_SECONDS, metavar="SECONDS", help="How often the lease is renewed."),
    click.option("--lease", type=_SECONDS, metavar="SECONDS", help="Silent for so long, the worker is dead to others."),
    click.option("--poll", type=_SECONDS, metavar="SECONDS", help="How often to look for runs where nothing tells."),
    click.option(
        "--shutdown-timeout",
        type=_SECONDS,
        metavar="SECONDS",
        help="How long steps may take to finish once the worker is asked to stop.",
    ),
    click.option("--log-level", type=click.Choice(logs.LEVELS), default="info", show_default=True),
    click.option("--log-format", type=click.Choice([logs.HUMAN, logs.JSON]), default=logs.HUMAN, show_default=True),
    click.option(
        "--health-port",
        type=click.IntRange(0, 65_535),
        metavar="N",
        help="Answer /healthz and /readyz by HTTP on this port, for all processes; 0: don't.",
    ),
    click.option("--health-host", metavar="ADDRESS", help="Where the health port listens; otherwise on 0.0.0.0."),
)


def worker_options(command: F) -> F:
    """Give a command the options of a worker, by the names of WorkerOrder's fields."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
