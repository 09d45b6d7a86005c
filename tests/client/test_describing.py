"""What people see of a run: its description, its history, and rows that can't be read."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from kagzi import (
    Kagzi,
    PayloadError,
    PayloadTooLarge,
    RunStatus,
    StepKind,
    StepStatus,
    WorkflowContext,
    WorkflowFailed,
)
from tests.app.applications import an_application, until, watch, within


def add(first: int, second: int) -> int:
    return first + second


def fail() -> None:
    raise ValueError("no")


async def work(ctx: WorkflowContext, number: int) -> int:
    total = await ctx.step("add", add, number, 1)
    await ctx.sleep("nap", 0.3)
    try:
        await ctx.step("fail", fail)
    except Exception:
        ctx.logger.info("went on")
    await asyncio.sleep(0.01)
    return total


async def test_a_description_follows_a_run_through_its_life(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("work", work)
    handle = await workflow.options(id="w").start(1)
    pending = await handle.describe()
    async with kagzi.create_worker(worker_id="w1"):
        await until(lambda: is_sleeping(kagzi, handle.run_id))
        sleeping = await handle.describe()
        await within(handle.result())
    completed = await handle.describe()

    assert (pending.status, pending.input, pending.output) == (RunStatus.PENDING, [1], None)
    assert (pending.started_at, pending.finished_at, pending.error) == (None, None, None)
    assert sleeping.wake_at is not None
    assert sleeping.started_at is not None
    assert sleeping.wake_at > sleeping.started_at
    assert sleeping.waiting_for == (f"timer 'nap' until {sleeping.wake_at.isoformat()}",)
    assert sleeping.worker_id is None
    assert (completed.status, completed.output, completed.waiting_for) == (RunStatus.COMPLETED, 2, ())
    assert (completed.attempts, completed.crashes, completed.wakeups) == (1, 0, 1)
    assert completed.wake_at is None
    assert completed.finished_at is not None
    assert completed.finished_at.tzinfo is UTC
    assert completed.started_at == sleeping.started_at
    assert completed.created_at == pending.created_at


async def is_sleeping(kagzi: Kagzi, run_id: str) -> bool:
    return await kagzi.handle(run_id).status() is RunStatus.SLEEPING


async def test_a_history_lists_operations_in_the_order_in_which_they_finished(kagzi: Kagzi) -> None:
    workflow = kagzi.register_workflow("work", work)

    async with kagzi.create_worker():
        handle = await workflow.start(1)
        await within(handle.result())
    history = await handle.history()

    assert [(step.name, step.kind, step.status, step.output) for step in history] == [
        ("add", StepKind.STEP, StepStatus.COMPLETED, 2),
        ("nap", StepKind.TIMER, StepStatus.COMPLETED, None),
        ("fail", StepKind.STEP, StepStatus.FAILED, None),
        ("timer", StepKind.TIMER, StepStatus.COMPLETED, None),
    ]
    finished = [step.finished_at for step in history if step.finished_at is not None]
    assert finished == sorted(finished)
    assert finished[1] - finished[0] >= timedelta(seconds=0.3)
    assert len({step.step_id for step in history}) == 4
    add_step, _, failed, _ = history
    assert (add_step.attempts, add_step.error, add_step.child_run_id, add_step.wake_at) == (1, None, None, None)
    assert add_step.started_at is not None
    assert add_step.finished_at is not None
    assert add_step.started_at <= add_step.finished_at
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("ValueError", "no")
    assert "in fail" in failed.error.traceback


async def test_a_run_that_did_nothing_yet_has_no_history(kagzi: Kagzi) -> None:
    handle = await kagzi.register_workflow("work", work).start(1)

    assert await handle.history() == []


# -- what can't be read ------------------------------------------------------------------------------------------


async def test_p23_damaged_rows_are_shown_and_stop_no_listing_and_no_worker(sqlite_url: str) -> None:
    kagzi = an_application(sqlite_url)
    workflow = kagzi.register_workflow("work", work)
    async with kagzi:
        async with kagzi.create_worker():
            done = await workflow.start(1)
            await within(done.result())
        waiting = await workflow.options(attributes={"a": 1}).start(2)
        damage(
            sqlite_url,
            f"UPDATE workflow_runs SET output = '{{broken', error = 'x' WHERE run_id = '{done.run_id}'",
            f"UPDATE step_runs SET output = 'broken}}' WHERE run_id = '{done.run_id}'",
            f"UPDATE workflow_runs SET input = 'not json', attributes = '[[[' WHERE run_id = '{waiting.run_id}'",
        )

        run, steps, listed = await done.describe(), await done.history(), await kagzi.find_runs()
        with pytest.raises(PayloadError, match="result of workflow 'work'"):
            await within(done.result())
        async with kagzi.create_worker():
            healthy = await within((await workflow.start(3)).result())
            with pytest.raises(WorkflowFailed, match="input of workflow 'work'"):
                await within(waiting.result())
        failed = await waiting.describe()

    assert run.output is None
    assert run.unreadable is not None
    assert "output" in run.unreadable
    assert run.error is not None
    assert run.error.type == "Unreadable"
    assert [step.output for step in steps] == [None] * 4
    assert {each.run_id for each in listed} == {done.run_id, waiting.run_id}
    assert healthy == 4
    assert (failed.status, failed.attributes) == (RunStatus.FAILED, {})
    assert failed.unreadable is not None
    assert "attributes" in failed.unreadable


def damage(url: str, *statements: str) -> None:
    """Write to the file behind everybody's back."""
    connection = apsw.Connection(str(Path(url.removeprefix("sqlite:///"))))
    connection.set_busy_timeout(10_000)
    for statement in statements:
        connection.execute(statement)
    connection.close()


# -- limits and codecs -------------------------------------------------------------------------------------------


async def test_p24_a_payload_over_the_limit_is_refused_at_the_call(any_database_url: str) -> None:
    kagzi = an_application(any_database_url, payload_limit=1000)

    def big(size: int) -> str:
        return "x" * size

    @kagzi.workflow
    async def in_step(ctx: WorkflowContext, size: int) -> int:
        return len(await ctx.step("big", big, size))

    @kagzi.workflow
    async def as_result(ctx: WorkflowContext, text: str) -> str:
        return text * 3

    async with kagzi, kagzi.create_worker():
        with pytest.raises(PayloadTooLarge, match="the limit is 1,000") as refusal:
            await as_result.start("x" * 1001)
        fits = await within((await in_step.start(990)).result())
        with pytest.raises(WorkflowFailed, match="step 'big'") as too_big_step:
            await within((await in_step.start(1001)).result())
        with pytest.raises(WorkflowFailed, match="the result of workflow 'as_result'") as too_big_result:
            await within((await as_result.start("x" * 500)).result())
        runs = await kagzi.find_runs()

    assert refusal.value.step == "the input of workflow 'as_result'"
    assert fits == 990
    assert [cause.type for cause in too_big_step.value.error.causes] == ["PayloadTooLarge"]
    assert too_big_result.value.error.type == "PayloadTooLarge"
    assert len(runs) == 3, "the refused start left a run behind"


async def test_p24_a_payload_just_within_the_default_limit_survives(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def echo(ctx: WorkflowContext, text: str) -> str:
        return text

    text = "ü" * (2 * 1024 * 1024 - 8)
    async with kagzi.create_worker():
        assert await within((await echo.start(text)).result()) == text
    with pytest.raises(PayloadTooLarge):
        await echo.start(text + "ü" * 8)


class Reversing:
    """A codec whose text shows nothing of what went in."""

    def encode(self, text: str) -> str:
        return base64.b64encode(text.encode()[::-1]).decode()

    def decode(self, text: str) -> str:
        return base64.b64decode(text, validate=True)[::-1].decode()


async def test_a_codec_goes_around_everything_that_is_stored(any_database_url: str) -> None:
    kagzi = an_application(any_database_url, codec=Reversing())
    store = watch(kagzi)

    def keep(secret: str) -> str:
        return f"{secret}!"

    @kagzi.workflow
    async def hide(ctx: WorkflowContext, secret: str) -> list[str]:
        kept = await ctx.step("keep", keep, secret)
        await ctx.sleep("nap", 0.3)
        return [kept]

    plain = an_application(any_database_url)
    async with kagzi, plain:
        async with kagzi.create_worker():
            handle = await hide.options(attributes={"who": "classified"}).start("classified")
            result = await within(handle.result())
        run, steps = await handle.describe(), await handle.history()
        stored = await store.real.get(store.arguments["start"][0][0].run_id)
        rows = await store.real.steps(store.arguments["start"][0][0].run_id)
        blind = await plain.handle(handle.run_id).describe()

    assert result == ["classified!"]
    assert (run.input, run.output, run.attributes) == (["classified"], ["classified!"], {"who": "classified"})
    assert steps[0].output == "classified!"
    assert stored is not None
    texts: list[Any] = [stored.input, stored.output, stored.attributes, rows[0].output]
    assert all(text and "classified" not in text for text in texts)
    assert blind.unreadable is not None
    assert (blind.input, blind.output) == (None, None)


async def test_a_codec_that_loses_something_is_found_out_at_the_call(any_database_url: str) -> None:
    class Losing:
        def encode(self, text: str) -> str:
            return text[:-1]

        def decode(self, text: str) -> str:
            return text

    kagzi = an_application(any_database_url, codec=Losing())
    workflow = kagzi.register_workflow("work", work)

    async with kagzi:
        with pytest.raises(PayloadError, match="does not give back what it encoded"):
            await workflow.start(1)
