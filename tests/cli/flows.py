"""The application whose runs the tests execute through the command line."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kagzi import Kagzi, RetryPolicy, Signal, WorkflowContext, step_info

app = Kagzi()


@dataclass
class Item:
    name: str
    price: float


@app.workflow("greet")
async def greet(ctx: WorkflowContext, name: str) -> str:
    return await ctx.step("compose", compose, name)


@app.workflow("buy")
async def buy(ctx: WorkflowContext, item: Item, count: int = 1) -> float:
    return await ctx.step("price", lambda: item.price * count)


@app.workflow("echo")
async def echo(ctx: WorkflowContext, value: Any) -> Any:
    return value


@app.workflow("fail")
async def fail(ctx: WorkflowContext) -> None:
    raise ValueError("no \x1b[31mluck\ntoday")


@app.workflow("nap")
async def nap(ctx: WorkflowContext, seconds: float) -> str:
    await ctx.sleep("doze", seconds)
    return "rested"


@app.workflow("loop")
async def loop(ctx: WorkflowContext, rounds: int) -> str:
    if rounds:
        ctx.continue_as_new(rounds - 1)
    return "the end"


@app.workflow("relay")
async def relay(ctx: WorkflowContext, rounds: int) -> str:
    """A wait for a word in each run of a chain."""
    word = await ctx.wait_for(Signal("word", str))
    if rounds:
        ctx.continue_as_new(rounds - 1)
    return word


@app.workflow("listen")
async def listen(ctx: WorkflowContext) -> str:
    """A wait for a word."""
    return await ctx.wait_for(Signal("word", str))


@app.workflow("expect")
async def expect(ctx: WorkflowContext, key: str) -> Any:
    """A wait for an event."""
    return await ctx.wait_for_event("paid", key=key)


@app.workflow("slow")
async def slow(ctx: WorkflowContext, ledger: str, seconds: float) -> str:
    """One step that takes a while, then another."""
    await ctx.step("work", work, ledger, seconds)
    return await ctx.step("finish", compose, "friend")


@app.workflow("telling")
async def telling(ctx: WorkflowContext, seconds: float) -> None:
    """A step that tells how far it is, and takes a while."""
    await ctx.step("crawl", tell, seconds)


@app.workflow("held")
async def held(ctx: WorkflowContext, ledger: str) -> None:
    """One step that lasts until the ledger says "go"."""
    await ctx.step("work", wait_for_go, ledger)


@app.workflow("stubborn")
async def stubborn(ctx: WorkflowContext, ledger: str, seconds: float) -> str:
    """A step that nobody can stop: a plain function in a thread."""
    return await ctx.step("work", work_in_thread, ledger, seconds)


@app.workflow("deaf")
async def deaf(ctx: WorkflowContext, ledger: str, seconds: float) -> str:
    """A step that blocks the worker's event loop, so that it hears no signal."""
    return await ctx.step("work", block, ledger, seconds)


@app.workflow("stumble")
async def stumble(ctx: WorkflowContext, ledger: str, pause: float) -> str:
    """A step that fails once and is executed again after a pause."""
    return await ctx.options(retry=RetryPolicy.fixed(pause, 3)).step("fall", fall_once, ledger)


def fall_once(ledger: str) -> str:
    is_first = not Path(ledger).exists()
    write(ledger, "begun")
    if is_first:
        raise ConnectionError("not now")
    return "up again"


@app.workflow("unlucky", retry=RetryPolicy.fixed(600, max_attempts=2))
async def unlucky(ctx: WorkflowContext, policy: str) -> str:
    """A step that never gets an answer, to be tried again in ten minutes, or else the run is."""
    policies = {"step": RetryPolicy.fixed(600, max_attempts=3), "for ever": RetryPolicy.fixed(600, max_attempts=None)}
    return await ctx.options(retry=policies.get(policy)).step("call", answer_never)


def answer_never() -> str:
    raise ConnectionError("no \x1b[31manswer")


def compose(name: str) -> str:
    return f"Hello, {name}!"


async def work(ledger: str, seconds: float) -> None:
    write(ledger, "begun")
    await asyncio.sleep(seconds)
    write(ledger, "done")


async def tell(seconds: float) -> None:
    step_info().heartbeat({"page": 7, "site": "\x1b[31mred"})
    await asyncio.sleep(seconds)


def wait_for_go(ledger: str) -> None:
    write(ledger, "begun")
    while "go" not in Path(ledger).read_text().split():
        time.sleep(0.02)
    write(ledger, "done")


def work_in_thread(ledger: str, seconds: float) -> str:
    write(ledger, "begun")
    time.sleep(seconds)
    return "worked"


async def block(ledger: str, seconds: float) -> str:
    return work_in_thread(ledger, seconds)


def write(ledger: str, line: str) -> None:
    with Path(ledger).open("a") as file:
        file.write(f"{line}\n")
