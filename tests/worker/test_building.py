"""Making workers: options, the builder, and refusals that say what to do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kagzi import ConfigError, Kagzi, Settings, StoreUnavailable
from kagzi.worker.config import WorkerConfig
from tests.app.applications import an_application, watch, within


@pytest.fixture
def kagzi() -> Kagzi:
    return Kagzi(settings=Settings(database_url="sqlite://", namespace="ours", max_concurrent_steps=77))


def test_what_is_not_given_is_taken_from_the_settings(kagzi: Kagzi) -> None:
    worker = kagzi.create_worker()

    assert worker.config == WorkerConfig(
        worker_id=worker.worker_id,
        queues=("default",),
        max_concurrent_workflows=100,
        max_concurrent_steps=77,
        heartbeat_interval=timedelta(seconds=10),
        lease=timedelta(seconds=60),
        poll_interval=timedelta(seconds=0.5),
        graceful_shutdown_timeout=timedelta(seconds=300),
        namespace="ours",
    )


def test_names_made_up_for_workers_differ(kagzi: Kagzi) -> None:
    names = {kagzi.create_worker().worker_id for _ in range(50)}

    assert len(names) == 50
    assert all(names)


def test_the_builder_makes_what_the_options_make(kagzi: Kagzi) -> None:
    built = (
        kagzi.create_worker_builder()
        .worker_id("w1")
        .queues(["mail", "default"])
        .max_concurrent_workflows(10)
        .max_concurrent_steps(20)
        .heartbeat_interval_secs(30)
        .lease_secs(90)
        .poll_interval_ms(500)
        .graceful_shutdown_timeout_secs(300)
        .build()
    )

    created = kagzi.create_worker(
        worker_id="w1",
        queues=["mail", "default"],
        max_concurrent_workflows=10,
        max_concurrent_steps=20,
        heartbeat_interval=30,
        lease=timedelta(seconds=90),
        poll_interval=timedelta(milliseconds=500),
        graceful_shutdown_timeout=300.0,
    )
    assert built.config == created.config


def test_the_builders_example_in_the_documentation_builds(kagzi: Kagzi) -> None:
    builder = kagzi.create_worker_builder().worker_id("w1").max_concurrent_workflows(10)
    worker = builder.heartbeat_interval_secs(30).poll_interval_ms(500).graceful_shutdown_timeout_secs(300).build()

    assert worker.config.heartbeat_interval == timedelta(seconds=30)


def test_a_builder_is_not_changed_by_what_is_built_on_it(kagzi: Kagzi) -> None:
    base = kagzi.create_worker_builder().max_concurrent_workflows(5)

    first, second = base.worker_id("first"), base.worker_id("second").max_concurrent_workflows(6)

    configs = [builder.build().config for builder in (first, second)]
    assert [(config.worker_id, config.max_concurrent_workflows) for config in configs] == [("first", 5), ("second", 6)]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"queues": []}, ConfigError, "queues"),
        ({"queues": "mail"}, ConfigError, r"queues=\['default'\]"),
        ({"queues": [""]}, ValueError, "name of a queue"),
        ({"queues": [7]}, TypeError, "name of a queue"),
        ({"queues": ["a\0b"]}, ValueError, "name of a queue"),
        ({"worker_id": ""}, ValueError, "worker_id"),
        ({"worker_id": "x" * 256}, ValueError, "worker_id"),
        ({"worker_id": 5}, TypeError, "worker_id"),
        ({"max_concurrent_workflows": 0}, ConfigError, "max_concurrent_workflows is 0"),
        ({"max_concurrent_workflows": True}, ConfigError, "max_concurrent_workflows"),
        ({"max_concurrent_workflows": 2.5}, ConfigError, "whole number"),
        ({"max_concurrent_steps": -1}, ConfigError, "max_concurrent_steps is -1"),
        ({"heartbeat_interval": 0}, ConfigError, "heartbeat_interval is zero"),
        ({"heartbeat_interval": -1}, ValueError, "heartbeat_interval"),
        ({"heartbeat_interval": "10"}, TypeError, "heartbeat_interval must be seconds"),
        ({"lease": float("nan")}, ValueError, "lease"),
        ({"lease": 1, "heartbeat_interval": 0.6}, ConfigError, "two heartbeats"),
        ({"lease": 19}, ConfigError, "two heartbeats"),
        ({"poll_interval": 0}, ConfigError, "poll_interval is zero"),
        ({"graceful_shutdown_timeout": float("inf")}, ValueError, "graceful_shutdown_timeout"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(
    kagzi: Kagzi, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        kagzi.create_worker(**options)


def test_the_builder_refuses_what_the_options_refuse(kagzi: Kagzi) -> None:
    with pytest.raises(ConfigError, match="max_concurrent_workflows is 0"):
        kagzi.create_worker_builder().max_concurrent_workflows(0).build()


async def test_a_worker_that_cannot_reach_the_database_says_so_and_can_be_started_again(any_database_url: str) -> None:
    kagzi = an_application(any_database_url)
    store = watch(kagzi)
    worker = kagzi.create_worker()

    async with kagzi:
        with store.unreachable("register"):
            with pytest.raises(StoreUnavailable):
                await within(worker.start())
            with pytest.raises(StoreUnavailable):
                async with worker:
                    pytest.fail("the block was entered without a worker")
        async with worker:
            registered = await store.workers("default")

    assert [each.worker_id for each in registered] == [worker.worker_id]
