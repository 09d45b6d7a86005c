"""What blocks a worker's event loop is named while it does."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from kagzi import Kagzi, WorkflowContext
from tests.app.applications import an_application, until, within


@pytest.fixture
def kagzi(sqlite_url: str) -> Kagzi:
    return an_application(sqlite_url, loop_lag_warning=timedelta(seconds=0.1), body_warning=timedelta(seconds=0.1))


def warnings(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if text in record.getMessage()]


async def test_a_step_that_blocks_the_event_loop_is_named(kagzi: Kagzi, caplog: pytest.LogCaptureFixture) -> None:
    async def hog() -> None:
        time.sleep(0.5)  # noqa: ASYNC251 - this is the fault

    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> None:
        await ctx.step("greedy", hog)

    async with kagzi, kagzi.create_worker():
        handle = await work.start()
        await within(handle.result())
        (warning,) = warnings(caplog, "event loop is blocked")

    assert "step 'greedy'" in warning
    assert handle.run_id in warning
    assert "plain function" in warning


async def test_a_body_that_computes_for_long_is_named(kagzi: Kagzi, caplog: pytest.LogCaptureFixture) -> None:
    @kagzi.workflow
    async def brooding(ctx: WorkflowContext) -> None:
        time.sleep(0.5)  # noqa: ASYNC251 - this is the fault

    async with kagzi, kagzi.create_worker():
        handle = await brooding.start()
        await within(handle.result())
        (blocked,) = warnings(caplog, "event loop is blocked")
        computed = [record for record in caplog.records if "computed for long" in record.getMessage()]

    assert "the body of workflow 'brooding'" in blocked
    assert handle.run_id in blocked
    assert [record.__dict__["run_id"] for record in computed] == [handle.run_id]
    assert computed[0].__dict__["took_ms"] >= 400


async def test_something_else_that_blocks_is_named_by_its_place(kagzi: Kagzi, caplog: pytest.LogCaptureFixture) -> None:
    def meddle() -> None:
        time.sleep(0.5)

    async with kagzi, kagzi.create_worker() as worker:
        await until(lambda: worker.may_start_steps)
        meddle()
        await until(lambda: warnings(caplog, "event loop is blocked"))

    (warning,) = warnings(caplog, "event loop is blocked")
    assert "meddle" in warning
    assert __file__ in warning


async def test_a_step_that_only_waits_is_not_called_a_blocker(kagzi: Kagzi, caplog: pytest.LogCaptureFixture) -> None:
    def wait() -> None:
        time.sleep(0.3)

    @kagzi.workflow
    async def work(ctx: WorkflowContext) -> None:
        await ctx.step("patient", wait)

    async with kagzi, kagzi.create_worker():
        await within((await work.start()).result())

    assert not [warning for warning in warnings(caplog, "blocked") if "patient" in warning]
