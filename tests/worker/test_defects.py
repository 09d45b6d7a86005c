"""A defect of Kagzi's own that meets a run: it neither hangs nor takes others along, and goes on once it can (P14)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kagzi import Kagzi, RunStatus, StepFailed, WorkflowContext
from kagzi.engine import concluding
from kagzi.engine.execution import Execution
from kagzi.engine.recording import Recorder
from tests.app.applications import until, within

DEFECTS = pytest.mark.parametrize(
    ("owner", "verb"),
    [(Recorder, "failure"), (Execution, "_settle_down"), (Execution, "_start_steps")],
    ids=["while a failure is recorded", "at rest", "while steps are started"],
)


@DEFECTS
async def test_a_run_that_meets_a_defect_is_given_back_and_says_why(
    kagzi: Kagzi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, owner: type, verb: str
) -> None:
    monkeypatch.setattr(owner, verb, broken)

    @kagzi.workflow
    async def pay(ctx: WorkflowContext) -> None:
        await ctx.step("charge", refuse)

    async with kagzi:
        async with kagzi.create_worker() as worker:
            handle = await pay.start()
            await until(lambda: "A defect of Kagzi met a run" in caplog.text)
            await until(lambda: worker.slots.is_empty)
        run = await handle.describe()

    assert run.status is RunStatus.PENDING
    assert run.wake_at is not None
    assert "without the defect that it met: OverflowError: too large" in str(run.waiting_for)


@DEFECTS
async def test_a_run_that_met_a_defect_goes_on_without_it(
    kagzi: Kagzi, monkeypatch: pytest.MonkeyPatch, owner: type, verb: str
) -> None:
    monkeypatch.setattr(concluding, "SECOND_LOOK", timedelta(seconds=0.1))
    healthy = getattr(owner, verb)
    met: list[str] = []

    def broken_once(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not met:
            met.append(verb)
            broken()
        return healthy(self, *args, **kwargs)

    monkeypatch.setattr(owner, verb, broken_once)

    @kagzi.workflow
    async def pay(ctx: WorkflowContext) -> str:
        try:
            await ctx.step("charge", refuse)
        except StepFailed as failed:
            return failed.error.message
        return "paid"

    async with kagzi, kagzi.create_worker():
        handle = await pay.start()
        assert await within(handle.result()) == "no money"

    assert met == [verb]


def broken(*_: Any, **__: Any) -> Any:
    raise OverflowError("too large")


async def refuse() -> None:
    raise ValueError("no money")
