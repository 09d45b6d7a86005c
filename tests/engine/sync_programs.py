"""The programs of `programs.py`, carried out by the body of a `def` workflow."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from kagzi import Ok, Pending, SyncParallelExecutor, SyncWorkflowContext
from kagzi.authoring.sync_context import as_coroutine_function
from tests.engine.programs import (
    STRATEGY,
    Background,
    Boom,
    Branch,
    Cancel,
    Exclusive,
    Facts,
    Gather,
    Get,
    Group,
    Join,
    Listen,
    Map,
    Ordered,
    Parallel,
    Part,
    Patched,
    Put,
    Race,
    Raise,
    Repeat,
    Ring,
    Seq,
    Shield,
    Sleep,
    Step,
    Stubborn,
    Timeout,
    Together,
    Try,
    Twice,
)


class SyncMachine:
    """Carries out a program without awaiting. What only asyncio has (queues, events, locks) is passed over."""

    def __init__(self, program: Part, numbers: itertools.count[int]) -> None:
        self.program = program
        self.trace: list[Any] = []
        self.body = as_coroutine_function(self._body)
        self._numbers = numbers
        self._ctx: SyncWorkflowContext
        self._background: list[Pending[Any]] = []

    def _body(self, ctx: SyncWorkflowContext) -> Any:
        self._ctx = ctx
        value = self.run(self.program)
        return [value, ctx.random(), str(ctx.now())]

    def run(self, part: Part) -> Any:
        return _CARRY_OUT[type(part)](self, part)

    def start(self, part: Part) -> Pending[Any]:
        """Begin a step as a step, and all else as a part of the body."""
        if isinstance(part, Step):
            self.note("asks", part.name)
            return self._ctx.submit(part.name, self._fail if part.fails else self._succeed)
        return self._ctx.spawn(self.run, part)

    def _succeed(self) -> int:
        return next(self._numbers)

    def _fail(self) -> int:
        raise Boom(f"no {next(self._numbers)}")

    def note(self, *what: Any) -> None:
        task = asyncio.current_task()
        self.trace.append((task.get_name() if task else "", str(self._ctx.now()), *what))

    # -- parts -------------------------------------------------------------------------------------------------

    def step(self, part: Step) -> Any:
        self.note("asks", part.name)
        value = self._ctx.step(part.name, self._fail if part.fails else self._succeed)
        self.note("got", value)
        return value

    def twice(self, part: Twice) -> Any:
        call = self._ctx.submit(part.name, self._succeed)
        first = call.result()
        assert call.done()
        assert call.result() is first
        self.note("got", first)
        return first

    def sleep(self, part: Sleep) -> None:
        self._ctx.sleep("rest", part.seconds)
        self.note("slept")

    def facts(self, part: Part) -> None:
        self.note(self._ctx.random(), str(self._ctx.uuid4()))

    def fail(self, part: Raise) -> None:
        self.note("raises")
        raise Boom("by itself")

    def seq(self, part: Seq) -> list[Any]:
        return [self.run(each) for each in part.parts]

    def repeat(self, part: Repeat) -> list[Any]:
        return [self.run(part.part) for _ in range(part.times)]

    def branch(self, part: Branch) -> Any:
        choice = self._ctx.step("choice", self._succeed)
        return self.run(part.odd if choice % 2 else part.even)

    def gather(self, part: Gather) -> list[str]:
        begun = [self.start(each) for each in part.parts]
        if not part.keep_going:
            return [repr(result) for result in self._ctx.gather(*begun)]
        results = [self.outcome(each) for each in begun]
        self.note("gathered", results)
        return results

    def outcome(self, begun: Pending[Any]) -> str:
        try:
            return repr(begun.result())
        except Exception as error:
            return repr(error)

    def group(self, part: Group) -> list[Any]:
        begun = [self.start(each) for each in part.parts]
        try:
            return self._ctx.gather(*begun)
        except BaseException:
            for each in begun:
                each.cancel()
            raise

    def race(self, part: Race) -> Any:
        begun = [self.start(each) for each in part.parts]
        first = next(self._ctx.as_completed(*begun))
        if part.cancel:
            for each in begun:
                each.cancel()
        self.note("raced", repr(first))
        return first

    def ordered(self, part: Ordered) -> list[Any]:
        results: list[Any] = []
        for value in self._ctx.as_completed(*map(self.start, part.parts)):
            self.note("came", value)
            results.append(value)
            if len(results) == part.take:
                break
        return results

    def timeout(self, part: Timeout) -> Any:
        begun = self.start(part.part)
        try:
            return begun.result(timeout=part.seconds)
        except TimeoutError:
            self.note("too late")
            if part.wait_for:
                begun.cancel()
            return "too late"

    def caught(self, part: Try) -> Any:
        try:
            return self.run(part.part)
        except* Exception as errors:
            self.note("caught", repr(errors))
        finally:
            self.note("lastly")
            self.run(part.lastly)

    def stubborn(self, part: Stubborn) -> Any:
        try:
            return self.run(part.part)
        except asyncio.CancelledError:
            self.note("not yet")
            return self.run(part.instead)

    def inner(self, part: Shield | Exclusive) -> Any:
        return self.run(part.part)

    def background(self, part: Background) -> None:
        self._background.append(self._ctx.spawn(self.run, part.part))

    def join(self, part: Join) -> Any:
        return self._background.pop(0).result() if self._background else None

    def patched(self, part: Patched) -> Any:
        answer = self._ctx.patched(part.change_id)
        self.note("patched", part.change_id, answer)
        return self.run(part.new if answer else part.old)

    def parallel(self, part: Parallel) -> list[str]:
        group = self._ctx.parallel("group", STRATEGY[part.collect], part.limit)
        try:
            if part.join:
                self._branches(group, part)
                group.join()
            else:
                with group:
                    self._branches(group, part)
        finally:
            self.note("the group is over")
        results = [repr(result.value if isinstance(result, Ok) else result.exception) for result in group.results]
        self.note("results", results)
        return results

    def _branches(self, group: SyncParallelExecutor, part: Parallel) -> None:
        for each in part.parts:
            match each:
                case Step():
                    group.submit(each.name, self._fail if each.fails else self._succeed)
                case Sleep(named=True):
                    group.sleep("rest", each.seconds)
                case _:
                    group.spawn(self.run, each)
        self.run(part.block)

    def together(self, part: Together) -> Any:
        begun = [self.start(each) for each in part.parts]
        result = self._ctx.race(*begun) if part.first else self._ctx.gather(*begun)
        self.note("together", repr(result))
        return repr(result)

    def map(self, part: Map) -> list[str]:
        def each(item: int) -> int:
            return self._fail() if item % part.fails == 0 else self._succeed()

        items, strategy = range(1, 1 + part.count), STRATEGY[part.collect]
        results = self._ctx.map("item", each, items, max_concurrency=part.limit, on_error=strategy)
        self.note("mapped", repr(results))
        return [repr(result) for result in results]

    def cancel(self, part: Cancel) -> None:
        if self._background:
            self._background.pop().cancel()


_CARRY_OUT: dict[type, Callable[[SyncMachine, Any], Any]] = {
    Step: SyncMachine.step,
    Twice: SyncMachine.twice,
    Sleep: SyncMachine.sleep,
    Facts: SyncMachine.facts,
    Raise: SyncMachine.fail,
    Seq: SyncMachine.seq,
    Repeat: SyncMachine.repeat,
    Branch: SyncMachine.branch,
    Gather: SyncMachine.gather,
    Group: SyncMachine.group,
    Race: SyncMachine.race,
    Ordered: SyncMachine.ordered,
    Timeout: SyncMachine.timeout,
    Try: SyncMachine.caught,
    Stubborn: SyncMachine.stubborn,
    Shield: SyncMachine.inner,
    Background: SyncMachine.background,
    Join: SyncMachine.join,
    Cancel: SyncMachine.cancel,
    Put: SyncMachine.facts,
    Get: SyncMachine.facts,
    Ring: SyncMachine.facts,
    Listen: SyncMachine.facts,
    Exclusive: SyncMachine.inner,
    Patched: SyncMachine.patched,
    Parallel: SyncMachine.parallel,
    Together: SyncMachine.together,
    Map: SyncMachine.map,
}
