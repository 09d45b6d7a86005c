"""Of what kind a failure is, as it is stored and as people see it."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
import psycopg
import pydantic
import pytest

from kagzi import (
    ErrorKind,
    Kagzi,
    NonRetryable,
    RetryAfter,
    RetryPolicy,
    RetryPredicate,
    StepFailed,
    WorkflowContext,
    WorkflowFailed,
)
from kagzi.testing import Environment
from tests.app.applications import within
from tests.rules.libraries import (
    StatusCode,
    a_chain,
    aiohttp_status,
    botocore_error,
    grpc_error,
    httpx_status,
    requests_status,
    sqlalchemy_error,
)


class Order(pydantic.BaseModel):
    amount: int


def refuse_an_order() -> None:
    Order.model_validate({"amount": "many"})


def raising(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


FAILURES: dict[str, tuple[Callable[[], None], ErrorKind]] = {
    "httpx": (raising(httpx_status(429, {"Retry-After": "30"})), ErrorKind.RATE_LIMITED),
    "requests": (raising(requests_status(503)), ErrorKind.SERVICE_UNAVAILABLE),
    "aiohttp": (raising(aiohttp_status(404)), ErrorKind.NOT_FOUND),
    "botocore": (raising(botocore_error("ThrottlingException", 400)), ErrorKind.RATE_LIMITED),
    "grpc": (raising(grpc_error(StatusCode.DEADLINE_EXCEEDED)), ErrorKind.TIMEOUT),
    "redis": (raising(a_chain("redis.exceptions.ConnectionError")("no")), ErrorKind.DATABASE_CONNECTION_FAILED),
    "asyncpg": (raising(asyncpg.exceptions.DeadlockDetectedError("no")), ErrorKind.SERVICE_UNAVAILABLE),
    "psycopg": (raising(psycopg.errors.InsufficientPrivilege("no")), ErrorKind.PERMISSION_DENIED),
    "sqlalchemy": (
        raising(sqlalchemy_error("IntegrityError", psycopg.errors.UniqueViolation("no"))),
        ErrorKind.VALIDATION_FAILED,
    ),
    "pydantic": (refuse_an_order, ErrorKind.VALIDATION_FAILED),
    "connection": (raising(ConnectionResetError("no")), ErrorKind.NETWORK_ERROR),
    "value": (raising(ValueError("no")), ErrorKind.UNKNOWN),
    "for good": (raising(NonRetryable("no", context={"card": "1"})), ErrorKind.BUSINESS_LOGIC_ERROR),
    "group": (raising(ExceptionGroup("two", [TimeoutError(), TimeoutError()])), ErrorKind.TIMEOUT),
}


async def test_a_failed_step_shows_its_kind_in_history_and_to_the_body(kagzi: Kagzi) -> None:
    @kagzi.workflow
    async def failing(ctx: WorkflowContext) -> dict[str, str]:
        caught = {}
        for name, (fail, _) in FAILURES.items():
            try:
                await ctx.step(name, fail)
            except StepFailed as failure:
                caught[name] = failure.error.kind.value
        return caught

    async with kagzi.create_worker():
        handle = await failing.start()
        caught = await within(handle.result())
        stored = {step.name: step.error for step in await handle.history()}

    kinds = {name: kind for name, (_, kind) in FAILURES.items()}
    assert caught == kinds
    assert {name: error and error.kind for name, error in stored.items()} == kinds
    contexts = {name: error.context for name, error in stored.items() if error is not None and error.context}
    assert contexts == {
        "httpx": {"retry_after_s": 30.0},
        "for good": {"card": "1"},
    }
    once = {"aiohttp", "psycopg", "sqlalchemy", "pydantic", "for good"}
    assert {name for name, error in stored.items() if error is not None and not error.retryable} == once


@pytest.mark.parametrize("name", ["httpx", "for good", "group"])
async def test_a_failed_run_has_the_kind_of_what_failed_it(kagzi: Kagzi, name: str) -> None:
    fail, kind = FAILURES[name]

    @kagzi.workflow
    async def in_step(ctx: WorkflowContext) -> None:
        await ctx.step(name, fail)

    @kagzi.workflow
    async def in_body(ctx: WorkflowContext) -> None:
        fail()

    async with kagzi.create_worker():
        for workflow in (in_step, in_body):
            handle = await workflow.start()
            with pytest.raises(WorkflowFailed) as failure:
                await within(handle.result())
            run = await handle.describe()

            assert failure.value.error.kind is kind
            assert failure.value.error.retryable is (name != "for good")
            assert run.error == failure.value.error


# -- and what follows from it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [httpx_status(429, {"Retry-After": "3600"}), RetryAfter(3600)], ids=["header", "hand"]
)
async def test_a_service_is_called_again_when_it_says_and_not_before(error: Exception) -> None:
    kagzi = Kagzi("sqlite://")
    calls: list[int] = []

    async def call() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise error
        return "done"

    @kagzi.workflow
    async def calling(ctx: WorkflowContext) -> str:
        return await ctx.options(retry=RetryPolicy.fixed(1, max_attempts=2)).step("call", call)

    async with Environment(kagzi) as env:
        handle = await calling.start()
        await env.advance(3599)
        too_early = len(calls)
        await env.advance(1)

        assert (too_early, len(calls)) == (1, 2)
        assert await handle.result(timeout=10) == "done"


@pytest.mark.parametrize("retry_if", [None, RetryPredicate.ON_ANY_ERROR], ids=["by kind", "any"])
async def test_what_can_not_succeed_is_executed_once(retry_if: RetryPredicate | None) -> None:
    kagzi = Kagzi("sqlite://")
    calls: list[int] = []

    async def call() -> None:
        calls.append(1)
        raise NonRetryable("no", kind=ErrorKind.NETWORK_ERROR)

    @kagzi.workflow
    async def calling(ctx: WorkflowContext) -> None:
        await ctx.options(retry=RetryPolicy.fixed(1, max_attempts=5), retry_if=retry_if).step("call", call)

    async with Environment(kagzi) as env:
        handle = await calling.start()
        await env.advance(3600)

        with pytest.raises(WorkflowFailed, match="no"):
            await handle.result(timeout=10)
    assert len(calls) == 1
