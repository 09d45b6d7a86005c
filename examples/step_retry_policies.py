"""A retry policy for each kind of step: growing waits, equal waits, none, by predicate, by builder, by hand.

    python examples/step_retry_policies.py

Runs are kept in kagzi.db beside you, or where KAGZI_DATABASE_URL says.
"""

import asyncio
from collections import Counter

from kagzi import (
    ErrorKind,
    Kagzi,
    NonRetryable,
    RetryPolicy,
    RetryPredicate,
    StepBuilder,
    StepFailed,
    WorkflowContext,
    step,
)

kagzi = Kagzi()
calls: Counter[str] = Counter()


def fail_first(name: str, times: int, error: Exception) -> str:
    """Fail so many times, and then answer."""
    calls[name] += 1
    if calls[name] <= times:
        raise error
    return f"{name} answered"


@step(retry=RetryPolicy.exponential(0.02, maximum=1, multiplier=2, max_attempts=5))
async def busy_service() -> str:
    return fail_first("busy-service", 3, ConnectionError("too many calls"))


async def slow_service() -> str:
    return fail_first("slow-service", 2, TimeoutError("no answer in time"))


async def slow_service_again() -> str:
    return fail_first("slow-again", 1, TimeoutError("no answer in time"))


async def picky_service() -> str:
    return fail_first("picky-service", 1, LookupError("no such customer"))


async def payment() -> str:
    raise NonRetryable("the card is expired", kind=ErrorKind.BUSINESS_LOGIC_ERROR)


@kagzi.workflow("retry-policies", step_retry=RetryPolicy.fixed(0.02, max_attempts=3))
async def policies(ctx: WorkflowContext) -> list[str]:
    results = [
        await busy_service(),  # the policy of @step
        await ctx.step("slow-service", slow_service),  # the policy of the workflow
        await StepBuilder("built")
        .retry_policy(RetryPolicy.fixed(0.01, max_attempts=2))
        .retry_predicate(RetryPredicate.on_error_kind(ErrorKind.UNKNOWN))
        .timeout(5)
        .execute(ctx, picky_service),
    ]
    once = ctx.options(retry=RetryPolicy.none())
    for name, call in (("once", slow_service_again), ("payment", payment)):
        try:
            results.append(await once.step(name, call))
        except StepFailed as failed:
            results.append(f"{name} failed: {failed.error.message}")
    return results


async def main() -> None:
    async with kagzi, kagzi.create_worker():
        handle = await policies.start()
        for result in await handle.result(timeout=30):
            print(result)
        for each in await handle.history():
            print(f"{each.name}: {each.status}, attempt {each.attempts}")


if __name__ == "__main__":
    asyncio.run(main())
