"""Options of starts: what each does, and that what can't be is refused at the call."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from kagzi import ConfigError, ConflictError, Kagzi, PayloadError, PayloadTooLarge, RunStatus, WorkflowContext


async def order(ctx: WorkflowContext, number: int = 1) -> int:
    return number


async def test_each_option_is_kept_with_the_run(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)
    at = datetime(2525, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    handle = await workflow.options(
        id="order-42",
        queue="mail",
        priority=-7,
        at=at,
        version=1,
        tags=["vip", "eu", "vip"],
        attributes={"customer": 42, "items": [1, {"a": None}], "ü": "🦔"},
        namespace="shop",
    ).start(5)
    run = await handle.describe()

    assert (run.id, run.queue, run.priority, run.version) == ("order-42", "mail", -7, 1)
    assert (run.workflow, run.namespace, run.status) == ("order", "shop", RunStatus.PENDING)
    assert run.wake_at == at
    assert run.wake_at.tzinfo is UTC
    assert run.tags == ("vip", "eu")
    assert run.attributes == {"customer": 42, "items": [1, {"a": None}], "ü": "🦔"}


async def test_without_options_a_run_has_defaults_and_is_known_by_its_run_id(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)

    run = await (await workflow.start()).describe()

    assert run.id == run.run_id
    assert (run.queue, run.priority, run.version, run.namespace) == ("default", 0, 1, "default")
    assert (run.tags, run.attributes, run.parent_run_id) == ((), {}, None)
    assert run.created_at.tzinfo is UTC
    assert abs(run.created_at - datetime.now(UTC)) < timedelta(minutes=5)


async def test_a_view_is_not_changed_by_what_is_put_on_it_and_the_latest_option_wins(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)
    base = workflow.options(queue="mail", priority=3)

    changed = await base.options(priority=5, tags=["a"]).start()
    plain = await base.start()

    runs = [await changed.describe(), await plain.describe()]
    assert [(run.queue, run.priority, run.tags) for run in runs] == [("mail", 5, ("a",)), ("mail", 3, ())]


async def test_an_option_is_taken_back_by_none(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)

    handle = await workflow.options(delay=3600, id="x").options(delay=None, id=None).start()
    run = await handle.describe()

    assert run.id == run.run_id
    assert run.wake_at is not None
    assert run.wake_at <= run.created_at


async def test_the_views_of_the_application_and_of_a_workflow_do_the_same(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)
    kagzi.register_workflow_version("order", 2, order)

    handles = [
        await kagzi.options(priority=1).start_workflow(workflow, 1),
        await kagzi.options(priority=1).start_workflow("order", 1),
        await workflow.options(priority=1).start(1),
        await kagzi.options(priority=1).start_workflow_version("order", 2, 1),
    ]

    runs = [await handle.describe() for handle in handles]
    assert {(run.workflow, run.priority, tuple(run.input)) for run in runs} == {("order", 1, (1,))}
    assert [run.version for run in runs] == [2, 2, 2, 2]


@pytest.mark.parametrize("delay", [90, 90.0, timedelta(seconds=90)])
async def test_a_delay_is_seconds_or_a_timedelta_from_the_stores_now(kagzi: Kagzi, delay: float | timedelta) -> None:
    workflow = kagzi.register_workflow("order", order)

    run = await (await workflow.options(delay=delay).start()).describe()

    assert run.wake_at is not None
    assert run.wake_at - run.created_at == timedelta(seconds=90)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"id": ""}, ValueError, "the id of a run is empty"),
        ({"id": 5}, TypeError, "the id of a run must be text"),
        ({"id": "x" * 513}, ValueError, "513 characters"),
        ({"id": "a\0b"}, ValueError, "NUL"),
        ({"id": "\ud800"}, ValueError, "surrogate"),
        ({"queue": ""}, ValueError, "name of a queue"),
        ({"queue": None}, TypeError, "name of a queue"),
        ({"queue": "x" * 256}, ValueError, "256 characters"),
        ({"priority": 101}, ValueError, "-100 to 100"),
        ({"priority": "high"}, TypeError, "whole number"),
        ({"priority": True}, TypeError, "whole number"),
        ({"delay": -1}, ValueError, "can't be negative"),
        ({"delay": float("nan")}, ValueError, "finite"),
        ({"delay": "1h"}, TypeError, "delay must be seconds"),
        ({"delay": timedelta.max}, ValueError, "at most 1,000 years"),
        ({"delay": 1e15}, ValueError, "year 9999"),
        ({"at": datetime(2030, 1, 1)}, ValueError, "time zone"),  # noqa: DTZ001 - naive on purpose
        ({"at": 5}, TypeError, "at must be a datetime"),
        ({"at": datetime.max.replace(tzinfo=UTC)}, ValueError, "9999"),
        ({"version": 0}, ValueError, "versions go from 1"),
        ({"version": "2"}, TypeError, "whole number"),
        ({"version": 2**31}, ValueError, "versions go from 1"),
        ({"tags": "vip"}, TypeError, "list of texts"),
        ({"tags": [""]}, ValueError, "a tag is empty"),
        ({"tags": [1]}, TypeError, "a tag must be text"),
        ({"tags": 5}, TypeError, "list of texts"),
        ({"attributes": [1]}, TypeError, "dict of JSON values"),
        ({"namespace": ""}, ValueError, "the namespace is empty"),
        ({"delay": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}, ConfigError, "not both"),
        ({"color": "red"}, TypeError, "no 'color'"),
        ({"timeout": -5}, ValueError, "timeout"),
        ({"start_timeout": "soon"}, TypeError, "start_timeout"),
    ],
)
async def test_an_option_that_cannot_be_is_refused_at_the_call(
    kagzi: Kagzi, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    workflow = kagzi.register_workflow("order", order)

    with pytest.raises(kind, match=message):
        await workflow.options(**options).start()
    with pytest.raises(kind, match=message):
        await kagzi.options(**options).start_workflow("order")
    assert await kagzi.find_runs() == []


@pytest.mark.parametrize(
    ("attributes", "kind", "message"),
    [
        ({"a": float("nan")}, PayloadError, r"\$\.a"),
        ({"a": [1, {"b": "\ud800"}]}, PayloadError, r"\$\.a\[1\]\.b"),
        ({"a": object()}, PayloadError, r"\$\.a"),
        ({1: "a"}, PayloadError, "attributes"),
        ({"a": "x" * 5_000_000}, PayloadTooLarge, "the attributes of workflow 'order'"),
    ],
)
async def test_attributes_that_cannot_be_stored_are_refused_naming_the_place(
    kagzi: Kagzi, attributes: dict[Any, Any], kind: type[Exception], message: str
) -> None:
    workflow = kagzi.register_workflow("order", order)

    with pytest.raises(kind, match=message):
        await workflow.options(attributes=attributes).start()
    assert await kagzi.find_runs() == []


async def test_p1_ids_are_unique_in_their_namespace_only(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("order", order)

    ours = await workflow.options(id="x").start(1)
    theirs = await workflow.options(id="x", namespace="theirs").start(2)
    with pytest.raises(ConflictError):
        await workflow.options(id="x", namespace="theirs").start(1)

    assert ours.run_id != theirs.run_id
    assert [run.run_id for run in await kagzi.find_runs(id="x")] == [ours.run_id]
