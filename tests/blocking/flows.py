"""Blocking applications and what they execute, for tests in this process and for programs of their own."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

from kagzi import Settings, WorkflowContext, blocking

PATIENCE_S = 30.0


def an_application(url: str, **settings: Any) -> blocking.Kagzi:
    """An application that is not connected, with the workflows below."""
    defaults: dict[str, Any] = {"graceful_shutdown_timeout": timedelta(seconds=5)}
    kagzi = blocking.Kagzi(settings=Settings(database_url=url, **(defaults | settings)))
    kagzi.register_workflow("greet", greet)
    kagzi.register_workflow("wait", wait)
    kagzi.register_workflow("fail", fail)
    return kagzi


async def greet(ctx: WorkflowContext, name: str) -> str:
    return await ctx.step("compose", compose, name)


def compose(name: str) -> str:
    return f"Hello, {name}!"


async def wait(ctx: WorkflowContext, seconds: float) -> str:
    await ctx.sleep("long", seconds)
    return "waited"


async def fail(ctx: WorkflowContext) -> None:
    raise ValueError("no luck today")


def in_threads(count: int, work: Any) -> None:
    """Call `work(number)` in so many threads at once, and pass on the first error."""
    errors: list[BaseException] = []

    def one(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
