"""What `kagzi worker` is asked for reaches the worker, in this process or in one under a supervisor."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta

from kagzi import Kagzi
from kagzi.cli.worker import _make_worker, worker
from kagzi.cli.worker_order import WorkerOrder

FULL = WorkerOrder(
    target="-shop:app",
    queues=("mail", "-fax"),
    concurrency=3,
    steps=4,
    worker_id="-w 1",
    heartbeat=1.5,
    lease=7.25,
    poll=0.125,
    shutdown_timeout=2.0,
    log_level="debug",
    log_format="json",
    migrate=True,
    supervised=True,
    number=2,
    health_socket="/tmp/1.sock",
)


def passed_on(order: WorkerOrder) -> WorkerOrder:
    """What a process reads from the command line that it is given."""
    context = worker.make_context("worker", order.command(database_url="sqlite://")[4:])
    return WorkerOrder(**context.params)


def test_every_option_is_passed_on_to_processes() -> None:
    left_out = {"processes", "reload", "health_port", "health_host"}
    unset = {field.name for field in fields(WorkerOrder) if getattr(FULL, field.name) == field.default} - left_out

    assert passed_on(FULL) == FULL
    assert unset == set(), "give FULL another value than the default"


def test_what_was_not_asked_for_is_left_to_the_application() -> None:
    order = WorkerOrder(target="shop:app", supervised=True)

    assert passed_on(order) == order


def test_one_process_answers_for_itself_and_one_of_several_does_not() -> None:
    order = WorkerOrder(target="shop:app", health_port=8080, health_host="::1", supervised=True)

    assert passed_on(order) == order
    assert passed_on(WorkerOrder(target="shop:app", health_port=8080, number=1)).health_port is None


def test_every_option_reaches_the_worker() -> None:
    config = _make_worker(Kagzi("sqlite://"), FULL).config

    assert (config.worker_id, config.queues) == ("-w 1", ("mail", "-fax"))
    assert (config.max_concurrent_workflows, config.max_concurrent_steps) == (3, 4)
    assert (config.heartbeat_interval, config.lease) == (timedelta(seconds=1.5), timedelta(seconds=7.25))
    assert (config.poll_interval, config.graceful_shutdown_timeout) == (timedelta(seconds=0.125), timedelta(seconds=2))
