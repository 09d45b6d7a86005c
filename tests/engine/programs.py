"""Workflow programs as data: what they are made of, and a workflow body that carries them out.

A program is a tree of the dataclasses below; its `repr` is Python that makes it again. All that happens to the body
is written into a trace, which two executions of one record must share.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

from kagzi import Ok, ParallelErrorStrategy, ParallelExecutor, WorkflowContext
from kagzi.authoring.calls import StepCall


@dataclass(frozen=True)
class Step:
    """A durable step; its result is never the same twice."""

    name: str
    fails: bool = False


@dataclass(frozen=True)
class Twice:
    """A step call that is awaited twice."""

    name: str


@dataclass(frozen=True)
class Sleep:
    """A durable sleep: `ctx.sleep`, or asyncio's own."""

    seconds: float
    named: bool


@dataclass(frozen=True)
class Facts:
    """The workflow's time, chance and ids."""


@dataclass(frozen=True)
class Raise:
    """An exception of the body's own."""


@dataclass(frozen=True)
class Seq:
    """One after the other."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Repeat:
    """The same over and over."""

    times: int
    part: Part


@dataclass(frozen=True)
class Branch:
    """A step decides what comes next."""

    even: Part
    odd: Part


@dataclass(frozen=True)
class Gather:
    """`asyncio.gather`."""

    parts: tuple[Part, ...]
    keep_going: bool


@dataclass(frozen=True)
class Group:
    """`asyncio.TaskGroup`."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Race:
    """`asyncio.wait`; those that are late are cancelled, in the order in which the set gives them, or left alone."""

    parts: tuple[Part, ...]
    until: str
    cancel: bool


@dataclass(frozen=True)
class Ordered:
    """`ctx.as_completed`, left early after `take` results; or asyncio's own, over tasks."""

    parts: tuple[Part, ...]
    own: bool
    take: int


@dataclass(frozen=True)
class Timeout:
    """`asyncio.timeout`, or `asyncio.wait_for`."""

    seconds: float
    part: Part
    wait_for: bool


@dataclass(frozen=True)
class Try:
    """Failures are caught; `finally` does something either way."""

    part: Part
    lastly: Part


@dataclass(frozen=True)
class Stubborn:
    """A cancellation is caught once and something else is done instead."""

    part: Part
    instead: Part


@dataclass(frozen=True)
class Shield:
    """`asyncio.shield`."""

    part: Part


@dataclass(frozen=True)
class Background:
    """A task that nobody awaits, unless `Join` does."""

    part: Part


@dataclass(frozen=True)
class Join:
    """Await the oldest background task."""


@dataclass(frozen=True)
class Cancel:
    """Cancel the latest background task."""


@dataclass(frozen=True)
class Put:
    """Put something into the queue that all tasks share."""


@dataclass(frozen=True)
class Get:
    """Take something out of the queue, for a while."""


@dataclass(frozen=True)
class Ring:
    """Set the event that all tasks share."""


@dataclass(frozen=True)
class Listen:
    """Wait for the event, for ever: the run may be stuck."""


@dataclass(frozen=True)
class Exclusive:
    """Under the lock, or the semaphore of two, that all tasks share."""

    part: Part
    places: int


@dataclass(frozen=True)
class Patched:
    """Code that was changed: `ctx.patched` says whether the run takes the new path."""

    change_id: str
    new: Part
    old: Part


@dataclass(frozen=True)
class Parallel:
    """`ctx.parallel`: branches by call and by coroutine, a part in the block itself; or an executor and `join`."""

    parts: tuple[Part, ...]
    block: Part
    collect: bool
    limit: int | None
    join: bool


@dataclass(frozen=True)
class Together:
    """`ctx.gather`, `ctx.race`."""

    parts: tuple[Part, ...]
    first: bool


@dataclass(frozen=True)
class Map:
    """`ctx.map`, where every `fails`th item fails."""

    count: int
    fails: int
    collect: bool
    limit: int | None


Part = (
    Step | Twice | Sleep | Facts | Raise | Seq | Repeat | Branch | Gather | Group | Race | Ordered | Timeout | Try
    | Stubborn | Shield | Background | Join | Cancel | Put | Get | Ring | Listen | Exclusive | Patched
    | Parallel | Together | Map
)  # fmt: skip


class Boom(Exception):
    """What programs raise."""


class Machine:
    """Carries out a program in a workflow body. `trace` tells what the body asked for and what it was given."""

    def __init__(self, program: Part, numbers: itertools.count[int]) -> None:
        self.program = program
        self.trace: list[Any] = []
        self._numbers = numbers
        self._ctx: WorkflowContext
        self._background: list[asyncio.Task[Any]] = []

    async def body(self, ctx: WorkflowContext) -> Any:
        """The workflow function."""
        self._ctx = ctx
        self._queue: asyncio.Queue[str] = asyncio.Queue(2)
        self._event = asyncio.Event()
        self._locks = {1: asyncio.Lock(), 2: asyncio.Semaphore(2)}
        value = await self.run(self.program)
        return [value, ctx.random(), str(ctx.now())]

    async def run(self, part: Part) -> Any:
        return await _CARRY_OUT[type(part)](self, part)

    def start(self, part: Part) -> Coroutine[Any, Any, Any]:
        """What is given to `gather` and the like: a step's call or a shield as it is, or a coroutine."""
        if isinstance(part, Step):
            return self.call(part.name, fails=part.fails)
        if isinstance(part, Shield):
            # A future, which the loop takes for a task's awaitable as it takes a step's call.
            return cast(Coroutine[Any, Any, Any], asyncio.shield(self.future(part.part)))
        return self.run(part)

    def future(self, part: Part) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self.start(part))

    def call(self, name: str, *, fails: bool) -> StepCall[Any]:
        call: StepCall[Any] = self._ctx.step(name, self._fail if fails else self._succeed)
        self.note("asked", call.step_id)
        return call

    def _succeed(self) -> int:
        return next(self._numbers)

    def _fail(self) -> int:
        raise Boom(f"no {next(self._numbers)}")

    def note(self, *what: Any) -> None:
        task = asyncio.current_task()
        self.trace.append((task.get_name() if task else "", str(self._ctx.now()), *what))

    # -- parts -------------------------------------------------------------------------------------------------

    async def step(self, part: Step) -> Any:
        value = await self.call(part.name, fails=part.fails)
        self.note("got", value)
        return value

    async def twice(self, part: Twice) -> Any:
        call = self.call(part.name, fails=False)
        first = await call
        assert await call is first
        self.note("got", first)
        return first

    async def sleep(self, part: Sleep) -> None:
        if part.named:
            await self._ctx.sleep("rest", part.seconds)
        else:
            await asyncio.sleep(part.seconds)
        self.note("slept")

    async def facts(self, part: Facts) -> None:
        loop = asyncio.get_running_loop()
        self.note(self._ctx.random(), str(self._ctx.uuid4()), loop.time())

    async def fail(self, part: Raise) -> None:
        self.note("raises")
        raise Boom("by itself")

    async def seq(self, part: Seq) -> list[Any]:
        return [await self.run(each) for each in part.parts]

    async def repeat(self, part: Repeat) -> list[Any]:
        return [await self.run(part.part) for _ in range(part.times)]

    async def branch(self, part: Branch) -> Any:
        choice = await self.call("choice", fails=False)
        return await self.run(part.odd if choice % 2 else part.even)

    async def gather(self, part: Gather) -> list[str]:
        results = await asyncio.gather(*map(self.future, part.parts), return_exceptions=part.keep_going)
        self.note("gathered", repr(results))
        return [repr(result) for result in results]

    async def group(self, part: Group) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[Any]] = [group.create_task(self.start(each)) for each in part.parts]
        return [task.result() for task in tasks]

    async def race(self, part: Race) -> list[str]:
        done, late = await asyncio.wait([self.future(each) for each in part.parts], return_when=part.until)
        if part.cancel:
            for future in late:
                future.cancel()
        results = [_result(future) for future in done]
        self.note("raced", results)
        return results

    async def ordered(self, part: Ordered) -> list[Any]:
        results: list[Any] = []
        futures = [self.future(each) for each in part.parts]
        if part.own:
            async for value in self._ctx.as_completed(*futures):
                self.note("came", value)
                results.append(value)
                if len(results) == part.take:
                    break
        else:
            for future in asyncio.as_completed(futures):
                value = await future
                self.note("came", value)
                results.append(value)
                if len(results) == part.take:
                    break
        return results

    async def timeout(self, part: Timeout) -> Any:
        try:
            if part.wait_for:
                return await asyncio.wait_for(self.start(part.part), part.seconds)
            async with asyncio.timeout(part.seconds):
                return await self.run(part.part)
        except TimeoutError:
            self.note("too late")
            return "too late"

    async def caught(self, part: Try) -> Any:
        try:
            return await self.run(part.part)
        except* Exception as errors:
            self.note("caught", repr(errors))
        finally:
            self.note("lastly")
            await self.run(part.lastly)

    async def stubborn(self, part: Stubborn) -> Any:
        try:
            return await self.run(part.part)
        except asyncio.CancelledError:
            self.note("not yet")
            return await self.run(part.instead)

    async def shield(self, part: Shield) -> Any:
        return await self.start(part)

    async def background(self, part: Background) -> None:
        self._background.append(asyncio.create_task(self.run(part.part)))

    async def join(self, part: Join) -> Any:
        if self._background:
            return await self._background.pop(0)
        return None

    async def cancel(self, part: Cancel) -> None:
        if self._background:
            self._background.pop().cancel()

    async def put(self, part: Put) -> None:
        await self._queue.put(asyncio.current_task().get_name())  # type: ignore[union-attr] # a body is in a task

    async def get(self, part: Get) -> Any:
        try:
            async with asyncio.timeout(50):
                value = await self._queue.get()
        except TimeoutError:
            value = "nothing"
        self.note("took", value)
        return value

    async def ring(self, part: Ring) -> None:
        self._event.set()

    async def listen(self, part: Listen) -> None:
        await self._event.wait()
        self.note("heard")

    async def exclusive(self, part: Exclusive) -> Any:
        async with self._locks[part.places]:
            self.note("in")
            return await self.run(part.part)

    async def parallel(self, part: Parallel) -> list[str]:
        group = self._ctx.parallel("group", STRATEGY[part.collect], part.limit)
        try:
            if part.join:
                await self._branches(group, part)
                await group.join()
            else:
                async with group:
                    await self._branches(group, part)
        finally:
            self.note("the group is over", asyncio.current_task().cancelling())  # type: ignore[union-attr]
        results = [repr(result.value if isinstance(result, Ok) else result.exception) for result in group.results]
        self.note("results", results)
        return results

    async def _branches(self, group: ParallelExecutor, part: Parallel) -> None:
        for each in part.parts:
            match each:
                case Step():
                    call = group.step(each.name, self._fail if each.fails else self._succeed)
                    self.note("asked", call.step_id)
                case Sleep(named=True):
                    group.sleep("rest", each.seconds)
                case _:
                    group.start(self.start(each))
        await self.run(part.block)

    async def together(self, part: Together) -> list[str]:
        # Coroutines last: where a step's call raises Parked, one that was made before would never be awaited.
        begun = [self.start(each) if isinstance(each, Step | Shield) else None for each in part.parts]
        calls = [call or self.run(each) for call, each in zip(begun, part.parts, strict=True)]
        results = await (self._ctx.race(*calls) if part.first else self._ctx.gather(*calls))
        self.note("together", repr(results))
        return [repr(result) for result in results]

    async def map(self, part: Map) -> list[str]:
        def each(item: int) -> int:
            return self._fail() if item % part.fails == 0 else self._succeed()

        items = range(1, 1 + part.count)
        results = await self._ctx.map("item", each, items, max_concurrency=part.limit, on_error=STRATEGY[part.collect])
        self.note("mapped", repr(results))
        return [repr(result) for result in results]

    async def patched(self, part: Patched) -> Any:
        answer = self._ctx.patched(part.change_id)
        self.note("patched", part.change_id, answer)
        return await self.run(part.new if answer else part.old)


_CARRY_OUT: dict[type, Callable[[Machine, Any], Awaitable[Any]]] = {
    Step: Machine.step,
    Twice: Machine.twice,
    Sleep: Machine.sleep,
    Facts: Machine.facts,
    Raise: Machine.fail,
    Seq: Machine.seq,
    Repeat: Machine.repeat,
    Branch: Machine.branch,
    Gather: Machine.gather,
    Group: Machine.group,
    Race: Machine.race,
    Ordered: Machine.ordered,
    Timeout: Machine.timeout,
    Try: Machine.caught,
    Stubborn: Machine.stubborn,
    Shield: Machine.shield,
    Background: Machine.background,
    Join: Machine.join,
    Cancel: Machine.cancel,
    Put: Machine.put,
    Get: Machine.get,
    Ring: Machine.ring,
    Listen: Machine.listen,
    Exclusive: Machine.exclusive,
    Patched: Machine.patched,
    Parallel: Machine.parallel,
    Together: Machine.together,
    Map: Machine.map,
}

STRATEGY = {False: ParallelErrorStrategy.FAIL_FAST, True: ParallelErrorStrategy.COLLECT_ALL}


def _result(future: asyncio.Future[Any]) -> str:
    if future.cancelled():
        return "cancelled"
    return repr(future.exception() or future.result())


# -- making them up ----------------------------------------------------------------------------------------------


class Choices:
    """Choices made beforehand. Once they are used up the first option is always taken, which ends every program."""

    def __init__(self, numbers: bytes) -> None:
        self._given = numbers
        self._numbers = iter(numbers)

    def below(self, limit: int) -> int:
        """A number from 0 up to `limit`, without it."""
        return next(self._numbers, 0) % limit

    def flag(self) -> bool:
        """Yes or no."""
        return self.below(2) == 1

    def __repr__(self) -> str:
        return f"Choices({self._given!r})"


_DEPTH = 5
_SECONDS = (0.0, 0.5, 2.0, 30.0, 5000.0)
_LIMITS = (None, 1, 2, 3)
_UNTIL = (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED)


def make_program(choices: Choices) -> Part:
    """Make up a program: a sequence of parts."""
    return Seq(tuple(_part(choices, 0) for _ in range(1 + choices.below(4))))


def _part(choices: Choices, depth: int) -> Part:
    if depth >= _DEPTH or choices.below(4) == 0:
        return _LEAVES[choices.below(len(_LEAVES))](choices)
    return _NODES[choices.below(len(_NODES))](choices, depth + 1)


def _parts(choices: Choices, depth: int) -> tuple[Part, ...]:
    return tuple(_part(choices, depth) for _ in range(1 + choices.below(4)))


def before_changes(part: Any) -> Any:
    """The program as it was before it was changed anywhere: each `Patched` is its old path."""
    if isinstance(part, Patched):
        # Not the old path alone: a step that stands in a group by itself is called, not carried out by a task.
        return Seq((before_changes(part.old),))
    if isinstance(part, tuple):
        return tuple(before_changes(each) for each in part)
    if not is_dataclass(part):
        return part
    return type(part)(**{each.name: before_changes(getattr(part, each.name)) for each in fields(part)})  # type: ignore[misc] # a Part


_LEAVES: tuple[Callable[[Choices], Part], ...] = (
    lambda choices: Step("abc"[choices.below(3)]),
    lambda choices: Step("abc"[choices.below(3)]),
    lambda choices: Step("f", fails=True),
    lambda choices: Twice("abc"[choices.below(3)]),
    lambda choices: Sleep(_SECONDS[choices.below(5)], named=choices.flag()),
    lambda choices: Facts(),
    lambda choices: Raise(),
    lambda choices: Join(),
    lambda choices: Cancel(),
    lambda choices: Put(),
    lambda choices: Get(),
    lambda choices: Ring(),
    lambda choices: Listen(),
    lambda choices: Map(
        choices.below(6), 2 + choices.below(9), collect=choices.flag(), limit=_LIMITS[choices.below(4)]
    ),
)

_NODES: tuple[Callable[[Choices, int], Part], ...] = (
    lambda choices, depth: Seq(_parts(choices, depth)),
    lambda choices, depth: Repeat(2 + choices.below(2), _part(choices, depth)),
    lambda choices, depth: Branch(_part(choices, depth), _part(choices, depth)),
    lambda choices, depth: Gather(_parts(choices, depth), keep_going=choices.flag()),
    lambda choices, depth: Gather(_parts(choices, depth), keep_going=choices.flag()),
    lambda choices, depth: Group(_parts(choices, depth)),
    lambda choices, depth: Group(_parts(choices, depth)),
    lambda choices, depth: Race(_parts(choices, depth), until=_UNTIL[choices.below(3)], cancel=choices.flag()),
    lambda choices, depth: Race(_parts(choices, depth), until=_UNTIL[0], cancel=True),
    lambda choices, depth: Ordered(_parts(choices, depth), own=choices.flag(), take=1 + choices.below(4)),
    lambda choices, depth: Timeout(_SECONDS[1 + choices.below(4)], _part(choices, depth), wait_for=choices.flag()),
    lambda choices, depth: Try(_part(choices, depth), _part(choices, depth)),
    lambda choices, depth: Stubborn(_part(choices, depth), _part(choices, depth)),
    lambda choices, depth: Shield(_part(choices, depth)),
    lambda choices, depth: Background(_part(choices, depth)),
    lambda choices, depth: Exclusive(_part(choices, depth), places=1 + choices.below(2)),
    lambda choices, depth: Patched("xyz"[choices.below(3)], _part(choices, depth), _part(choices, depth)),
    lambda choices, depth: _parallel(choices, depth),
    lambda choices, depth: _parallel(choices, depth),
    lambda choices, depth: _parallel(choices, depth),
    lambda choices, depth: Together(_parts(choices, depth), first=choices.flag()),
    lambda choices, depth: Together(_parts(choices, depth), first=choices.flag()),
)


def _parallel(choices: Choices, depth: int) -> Parallel:
    return Parallel(
        _parts(choices, depth),
        _part(choices, depth),
        collect=choices.flag(),
        limit=_LIMITS[choices.below(4)],
        join=choices.below(4) == 3,
    )
