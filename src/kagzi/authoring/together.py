"""`ctx.gather`, `ctx.race`, `ctx.map` and `ctx.as_completed`: several awaitables at the same time.

Methods of `WorkflowContext` that stand here for their overloads.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from kagzi.authoring.branches import Branches, as_one
from kagzi.authoring.groups import ParallelErrorStrategy, ParallelExecutor
from kagzi.authoring.port import RunPort
from kagzi.authoring.results import Err, Ok

if TYPE_CHECKING:
    from kagzi.authoring.context import WorkflowContext

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
R = TypeVar("R")
T = TypeVar("T")

CollectAll = Literal[ParallelErrorStrategy.COLLECT_ALL]
FailFast = Literal[ParallelErrorStrategy.FAIL_FAST]


@overload
async def gather(self: WorkflowContext, a: Awaitable[A], /) -> tuple[A]: ...
@overload
async def gather(self: WorkflowContext, a: Awaitable[A], b: Awaitable[B], /) -> tuple[A, B]: ...
@overload
async def gather(self: WorkflowContext, a: Awaitable[A], b: Awaitable[B], c: Awaitable[C], /) -> tuple[A, B, C]: ...
@overload
async def gather(
    self: WorkflowContext, a: Awaitable[A], b: Awaitable[B], c: Awaitable[C], d: Awaitable[D], /
) -> tuple[A, B, C, D]: ...
@overload
async def gather(
    self: WorkflowContext, a: Awaitable[A], b: Awaitable[B], c: Awaitable[C], d: Awaitable[D], e: Awaitable[E], /
) -> tuple[A, B, C, D, E]: ...
@overload
async def gather(
    self: WorkflowContext,
    a: Awaitable[A],
    b: Awaitable[B],
    c: Awaitable[C],
    d: Awaitable[D],
    e: Awaitable[E],
    f: Awaitable[F],
    /,
) -> tuple[A, B, C, D, E, F]: ...
@overload
async def gather(self: WorkflowContext, *calls: Awaitable[R]) -> list[R]: ...
async def gather(self: WorkflowContext, *calls: Awaitable[Any]) -> Any:
    """Wait for all calls and give a list of their results in the order of the calls.

    The first failure cancels the others, unlike in `asyncio.gather`, and is raised once they have ended. Several at
    once are raised as an ExceptionGroup.
    """
    futures = _started(self._port, calls, verb="gather")
    branches = Branches(self._port, fail_fast=True)
    for future in futures:
        branches.add(future)
    await branches.all_ended()
    error = as_one(branches.failures.values(), of="gather")
    if error is not None:
        raise error
    return [future.result() for future in futures]


@overload
async def race(self: WorkflowContext, a: Awaitable[A], /) -> tuple[int, A]: ...
@overload
async def race(self: WorkflowContext, a: Awaitable[A], b: Awaitable[B], /) -> tuple[int, A | B]: ...
@overload
async def race(
    self: WorkflowContext, a: Awaitable[A], b: Awaitable[B], c: Awaitable[C], /
) -> tuple[int, A | B | C]: ...
@overload
async def race(
    self: WorkflowContext, a: Awaitable[A], b: Awaitable[B], c: Awaitable[C], d: Awaitable[D], /
) -> tuple[int, A | B | C | D]: ...
@overload
async def race(
    self: WorkflowContext, a: Awaitable[A], b: Awaitable[B], c: Awaitable[C], d: Awaitable[D], e: Awaitable[E], /
) -> tuple[int, A | B | C | D | E]: ...
@overload
async def race(
    self: WorkflowContext,
    a: Awaitable[A],
    b: Awaitable[B],
    c: Awaitable[C],
    d: Awaitable[D],
    e: Awaitable[E],
    f: Awaitable[F],
    /,
) -> tuple[int, A | B | C | D | E | F]: ...
@overload
async def race(self: WorkflowContext, *calls: Awaitable[R]) -> tuple[int, R]: ...
async def race(self: WorkflowContext, *calls: Awaitable[Any]) -> tuple[int, Any]:
    """Wait for the first call to finish; give its place among the calls, from 0, and its result.

    If it failed, its error is raised. The others are cancelled, and have ended when this returns. Of calls that have
    finished before, the one at the lowest place wins.
    """
    if not calls:
        raise ValueError("race needs at least one call: nobody could win.")
    futures = _started(self._port, calls, verb="race")
    branches = Branches(self._port, fail_fast=False)
    for future in futures:
        branches.add(future)
    await branches.one_ended()
    branches.cancel()
    await branches.all_ended()
    winner = branches.first
    assert winner is not None, "one has ended"
    for loser, error in branches.failures.items():
        if loser is not winner:
            self.logger.warning("A call that lost a race failed, and nobody else will hear of it.", exc_info=error)
    return futures.index(winner), winner.result()


async def as_completed(self: WorkflowContext, *calls: Awaitable[R]) -> AsyncIterator[R]:
    """Give results in the order in which they come, the same in every replay.

    async for price in ctx.as_completed(*[ctx.step("quote", quote, shop) for shop in shops]): ...
    """
    arrived: asyncio.Queue[asyncio.Future[R]] = asyncio.Queue()
    futures = dict.fromkeys(_started(self._port, calls, verb="as_completed"))
    for future in futures:
        future.add_done_callback(arrived.put_nowait)
    for _ in futures:
        yield (await arrived.get()).result()


@overload
async def map_items(
    self: WorkflowContext,
    name: str,
    fn: Callable[[T], Coroutine[Any, Any, R]],
    items: Iterable[T],
    *,
    max_concurrency: int | None = None,
    on_error: FailFast = ParallelErrorStrategy.FAIL_FAST,
) -> list[R]: ...
@overload
async def map_items(
    self: WorkflowContext,
    name: str,
    fn: Callable[[T], Coroutine[Any, Any, R]],
    items: Iterable[T],
    *,
    max_concurrency: int | None = None,
    on_error: CollectAll,
) -> list[Ok[R] | Err]: ...
@overload
async def map_items(
    self: WorkflowContext,
    name: str,
    fn: Callable[[T], R],
    items: Iterable[T],
    *,
    max_concurrency: int | None = None,
    on_error: FailFast = ParallelErrorStrategy.FAIL_FAST,
) -> list[R]: ...
@overload
async def map_items(
    self: WorkflowContext,
    name: str,
    fn: Callable[[T], R],
    items: Iterable[T],
    *,
    max_concurrency: int | None = None,
    on_error: CollectAll,
) -> list[Ok[R] | Err]: ...
@overload
async def map_items(
    self: WorkflowContext,
    name: str,
    fn: Callable[[T], Any],
    items: Iterable[T],
    *,
    max_concurrency: int | None = None,
    on_error: ParallelErrorStrategy,
) -> list[Any]: ...
async def map_items(
    self: WorkflowContext,
    name: str,
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    max_concurrency: int | None = None,
    on_error: ParallelErrorStrategy = ParallelErrorStrategy.FAIL_FAST,
) -> list[Any]:
    """Call `fn` as a step for each item, at most `max_concurrency` at a time; give results in the order of the items.

    A parallel group called `name` whose branches are steps of that name. FAIL_FAST: the first failure cancels the
    others and is raised. COLLECT_ALL: each result is an `Ok` or an `Err`, and nothing is raised.

    Raises TypeError for a set: its order is another in every replay.
    """
    if isinstance(items, set | frozenset):
        raise TypeError(
            f"the items of map {name!r} are a {type(items).__name__}, whose order is another in every replay. "
            "Give them in an order of your own, such as sorted(items)."
        )
    group = ParallelExecutor(self, name, on_error, max_concurrency)
    calls = [group.step(name, fn, item) for item in items]
    results = await group.join()
    if group.on_error is ParallelErrorStrategy.COLLECT_ALL:
        return results
    return [call.result() for call in calls]


def _started(port: RunPort, calls: tuple[Awaitable[Any], ...], *, verb: str) -> list[asyncio.Future[Any]]:
    """The calls as futures; coroutines become tasks of the current scope, each one once."""
    port.check_running()
    for place, call in enumerate(calls, 1):
        if not inspect.isawaitable(call):
            raise TypeError(
                f"argument {place} of {verb} is {call!r:.80}, which can't be awaited. Give calls such as "
                f"ctx.step(...), coroutines or tasks: ctx.{verb}(first, second), and a list as ctx.{verb}(*calls)."
            )
    futures = {call: asyncio.ensure_future(call) for call in dict.fromkeys(calls)}
    return [futures[call] for call in calls]
