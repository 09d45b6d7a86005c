"""Values and names that somebody will pass some day: kept exactly, or refused where they are given."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from kagzi import (
    ConfigError,
    Kagzi,
    PayloadError,
    PayloadTooLarge,
    RunNotFound,
    Settings,
    WorkflowContext,
    WorkflowFailed,
)
from tests.faults.fleet import QUICK

KEPT_VALUES: dict[str, Any] = {
    "NUL": "a\0b\0",
    "2**70": 2**70,
    "-(2**2000)": -(2**2000),
    "deep Unicode": "\U0010ffff\u2028\u202e\ufeff e\u0301 \U0001f469\u200d\U0001f680",
    "quotes": """'";--\\'\\" $1 $$ %s {x} :name ?""",
    "newlines": "a\r\n\n\tb\x0b\x0c\x85",
    "controls": "".join(map(chr, range(0x20))) + "\x7f",
    "empty text": "",
    "empty list": [],
    "empty key": {"": {"": ""}},
    "NUL key": {"\0": 1, "__proto__": 2},
    "null": None,
    "small float": 5e-324,
    "big float": 1.7976931348623157e308,
    "negative zero": -0.0,
    "true is not one": [True, 1, 1.0, "1"],
    "escaped surrogate text": "\\ud800",
    "3 MB": "x" * 3_000_000,
    "deep": [[[[[[[[[[[[[[[[[[[[{"a": [[]]}]]]]]]]]]]]]]]]]]]]],
}
REFUSED_VALUES: dict[str, Any] = {
    "NaN": math.nan,
    "infinity": [1.0, -math.inf],
    "lone surrogate": "a\ud800",
    "lone surrogate key": {"\udfff": 1},
    "5 MB": "x" * 5_000_000,
    "object": object(),
    "number key": {1: "one"},
}
GOOD_NAMES = [
    "a",
    " ",
    "a/b",
    "a#1",
    "#",
    "/",
    "0/x#1",
    "'; DROP TABLE workflow_runs; --",
    'q"\n\t\\',
    "é\U0001f680",
    "x" * 255,
]
BAD_NAMES = ["", "a\0b", "\ud800", "x" * 10_000]


@pytest.fixture
async def kagzi(any_database_url: str) -> AsyncIterator[Kagzi]:
    application = Kagzi(settings=Settings.from_environment(QUICK, database_url=any_database_url))

    @application.workflow("echo")
    async def echo(ctx: WorkflowContext, value: Any) -> Any:
        return await ctx.step("echo", _same, value)

    @application.workflow("named")
    async def named(ctx: WorkflowContext, names: list[str]) -> list[str]:
        return [await ctx.step(name, _same_text, name) for name in (*names, *names)]

    async with application, application.create_worker():
        yield application


async def _same(value: Any) -> Any:
    return value


async def _same_text(value: str) -> str:
    return value


async def test_hostile_values_come_back_exactly_as_inputs_and_results_of_steps_and_runs(kagzi: Kagzi) -> None:
    """P11, P24."""
    handles = {name: await kagzi.start_workflow("echo", value) for name, value in KEPT_VALUES.items()}

    for name, handle in handles.items():
        assert _identical(await handle.result(timeout=20), KEPT_VALUES[name]), name
        run, (step,) = await handle.describe(), await handle.history()
        assert _identical(run.output, KEPT_VALUES[name]), name
        assert _identical(step.output, KEPT_VALUES[name]), name
        assert run.unreadable is None
    assert len(await kagzi.find_runs()) == len(KEPT_VALUES)


async def test_values_that_cannot_be_kept_are_refused_at_the_start_and_nothing_is_stored(kagzi: Kagzi) -> None:
    """P24."""
    for name, value in REFUSED_VALUES.items():
        starts: list[Callable[[Any], Awaitable[object]]] = [
            lambda value: kagzi.start_workflow("echo", value),
            lambda value: kagzi.start_many("echo", [1, [value]]),
            lambda value: kagzi.options(attributes={"a": value}).start_workflow("echo", 1),
        ]
        for start in starts:
            with pytest.raises((PayloadError, PayloadTooLarge)) as refusal:
                await start(value)
            assert "workflow 'echo'" in str(refusal.value), name
    assert await kagzi.find_runs() == []
    assert await (await kagzi.start_workflow("echo", 7)).result(timeout=20) == 7


async def test_a_step_whose_result_cannot_be_kept_fails_its_run_and_no_other(kagzi: Kagzi) -> None:
    """P23, P24: the error names the step."""

    def make(name: str) -> Any:
        return REFUSED_VALUES[name]

    @kagzi.workflow("maker")
    async def maker(ctx: WorkflowContext, name: str) -> Any:
        return await ctx.step("make it", make, name)

    @kagzi.workflow("returner")
    async def returner(ctx: WorkflowContext, name: str) -> Any:
        return make(name)

    for name in REFUSED_VALUES:
        for workflow, where in ((maker, "make it"), (returner, "returner")):
            handle = await workflow.start(name)
            with pytest.raises(WorkflowFailed, match=where):
                await handle.result(timeout=20)
            assert (await handle.describe()).unreadable is None
            await handle.history()
    assert len(await kagzi.find_runs(status="FAILED")) == 2 * len(REFUSED_VALUES)
    assert await (await kagzi.start_workflow("echo", 7)).result(timeout=20) == 7


async def test_errors_with_hostile_messages_are_kept_as_data(kagzi: Kagzi) -> None:
    """P25."""

    def fail(message: str) -> None:
        raise RuntimeError(message)

    @kagzi.workflow("failing")
    async def failing(ctx: WorkflowContext, number: int) -> None:
        await ctx.step("fail", fail, messages[number])

    messages = ["NUL \0", "quotes '\"", "x" * 5_000_000, "", "a\nb"]
    fail_surrogate = "lone \ud800"

    @kagzi.workflow("failing-oddly")
    async def failing_oddly(ctx: WorkflowContext) -> None:
        raise RuntimeError(fail_surrogate)

    for number, message in enumerate(messages):
        with pytest.raises(WorkflowFailed) as failure:
            await (await failing.start(number)).result(timeout=20)
        assert message[:5000] in failure.value.error.message
    with pytest.raises(WorkflowFailed, match="lone"):
        await (await failing_oddly.start()).result(timeout=20)
    assert len(await kagzi.find_runs(status="FAILED")) == len(messages) + 1


async def test_step_names_with_any_characters_keep_their_identity(kagzi: Kagzi) -> None:
    """P15: `/` and `#` in names don't lead to mix-ups."""
    handle = await kagzi.start_workflow("named", GOOD_NAMES)

    assert await handle.result(timeout=20) == GOOD_NAMES * 2
    steps = await handle.history()
    assert [step.name for step in steps] == GOOD_NAMES * 2
    assert len({step.step_id for step in steps}) == 2 * len(GOOD_NAMES)


async def test_step_names_that_cannot_be_kept_fail_the_run_at_the_call(kagzi: Kagzi) -> None:
    for number, name in enumerate(BAD_NAMES):

        @kagzi.workflow(f"bad-name-{number}")
        async def bad(ctx: WorkflowContext, bad_name: str = name) -> None:
            await ctx.step(bad_name, _same, 1)

        handle = await bad.start()
        with pytest.raises(WorkflowFailed) as failure:
            await handle.result(timeout=20)
        assert failure.value.error.type == "ValueError"
        assert await handle.history() == []


async def test_ids_queues_and_tags_are_kept_exactly_or_refused_at_the_call(kagzi: Kagzi) -> None:
    """P24."""
    for name in GOOD_NAMES:
        view = kagzi.options(id=name, queue=name, tags=[name], attributes={name: name})
        handle = await view.start_workflow("echo", name)
        (found,) = await kagzi.find_runs(id=name, queue=name, tags=[name], workflow="echo")
        assert (found.run_id, found.id, found.queue, found.tags) == (handle.run_id, name, name, (name,))
        assert (await handle.describe()).attributes == {name: name}
    for name in BAD_NAMES:
        for option in ("id", "queue", "namespace"):
            with pytest.raises(ValueError, match=option):
                kagzi.options(**{option: name})
        with pytest.raises(ValueError, match="tag"):
            kagzi.options(tags=[name])
        with pytest.raises(ValueError, match="name"):
            await kagzi.start_workflow(name, 1)
        with pytest.raises((ValueError, ConfigError)):
            kagzi.register_workflow(name, lambda ctx: None)
    assert len(await kagzi.find_runs()) == len(GOOD_NAMES)


async def test_delays_and_moments_that_no_calendar_knows_are_refused_at_the_call(kagzi: Kagzi) -> None:
    """P23, P24: stored, one of them would fail every claim of its workflow."""
    for delay in (timedelta.max, timedelta(days=365 * 9000), 1e300, math.inf, math.nan, -1):
        with pytest.raises(ValueError, match="delay"):
            kagzi.options(delay=delay)
    for at in (datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))):
        with pytest.raises(ValueError, match="at is"):
            kagzi.options(at=at)
    late = [
        await kagzi.options(delay=timedelta(days=365 * 1000)).start_workflow("echo", 1),
        await kagzi.options(at=datetime(9998, 12, 31, tzinfo=UTC)).start_workflow("echo", 1),
    ]
    early = await kagzi.options(at=datetime(1, 1, 2, tzinfo=UTC)).start_workflow("echo", 2)

    assert await early.result(timeout=20) == 2
    assert [await handle.status() for handle in late] == ["PENDING"] * 2
    assert len(await kagzi.find_runs()) == 3


async def test_hostile_searches_are_refused_or_find_nothing_and_disturb_nobody(kagzi: Kagzi) -> None:
    """P23."""
    handle = await kagzi.options(delay=3600).start_workflow("echo", 1)
    waiter = asyncio.create_task(handle.result())
    for name in BAD_NAMES:
        for option in ("id", "workflow", "queue"):
            with pytest.raises(ValueError, match=option):
                await kagzi.find_runs(**{option: name})  # type: ignore[arg-type]  # the names are right
        with pytest.raises(ValueError, match="tag"):
            await kagzi.find_runs(tags=[name])
        with pytest.raises(ValueError, match="cursor"):
            await kagzi.find_runs(cursor=name)
        stranger = kagzi.handle(name)
        for question in (stranger.status, stranger.describe, stranger.history, stranger.result):
            with pytest.raises(RunNotFound):
                await question()
    for name in ("no such run", "'; DROP TABLE workflow_runs; --"):
        assert await kagzi.find_runs(id=name, queue=name, workflow=name, tags=[name]) == []
        with pytest.raises(RunNotFound):
            await kagzi.handle(name).result()
    assert len(await kagzi.find_runs()) == 1
    assert not waiter.done(), "another's question broke the wait for a result"
    waiter.cancel()


def _identical(one: object, other: object) -> bool:
    """Equal in type too, and in the sign of zero."""
    return repr(one) == repr(other) if not isinstance(one, str) else one == other
