"""Random workflows that wait for signals, led through random posts, crashes and late looks at the mailbox.

By hand, with as many programs as there is patience for: `python -m tests.engine.signal_programs --programs 20000`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from kagzi import Signal, WorkflowContext
from tests.engine.host import Outcome, World

NAMES = ("a", "b", "c")
_EVENTS = 3_000
_CALM = 300
"""After so many events nothing bad happens any more, and whatever is waited for is sent."""

Part = tuple[Any, ...]
Log = list[tuple[str, int]]


def make_part(chance: random.Random, depth: int = 0) -> Part:
    """A random part of a workflow."""
    kinds = ["wait", "wait", "limited", "race", "step", "sleep", "fail"]
    if depth < 3:
        kinds += ["all", "seq", "seq", "bounded"]
    kind = chance.choice(kinds)
    if kind in ("wait", "limited"):
        return kind, chance.choice(NAMES), chance.choice((0.001, 0.5, 30.0))
    if kind == "race":
        return kind, tuple(chance.choice(NAMES) for _ in range(chance.randint(2, 3)))
    if kind == "sleep":
        return kind, chance.choice((0.001, 0.5, 30.0))
    if kind in ("all", "seq"):
        return kind, tuple(make_part(chance, depth + 1) for _ in range(chance.randint(2, 4)))
    if kind == "bounded":
        return kind, chance.choice((0.001, 0.5, 30.0)), make_part(chance, depth + 1)
    return (kind,)


class Unlucky(Exception):
    """What a part of a workflow raises."""


class Carrier:
    """A workflow body that carries out a program and logs each signal that it receives."""

    def __init__(self, program: Part) -> None:
        self.log: Log = []
        self._is_over = False
        self._program = program

    async def body(self, ctx: WorkflowContext) -> Log:
        """The workflow."""
        self.log, self._is_over = [], False
        with contextlib.suppress(Unlucky):
            await self._carry_out(ctx, self._program)
        self._is_over = True  # what its tasks still receive in a replay, nobody sees
        return self.log

    async def _wait(self, ctx: WorkflowContext, name: str, timeout: float | None = None) -> None:
        value = await ctx.wait_for(Signal(name, int), timeout=timeout)
        if not self._is_over:
            self.log.append((name, value))

    async def _carry_out(self, ctx: WorkflowContext, part: Part) -> None:
        match part:
            case ("wait", name, _):
                await self._wait(ctx, name)
            case ("limited", name, timeout):
                with contextlib.suppress(TimeoutError):
                    await self._wait(ctx, name, timeout)
            case ("race", names):
                tasks = [asyncio.create_task(self._wait(ctx, name)) for name in names]
                _, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in late:
                    task.cancel()
            case ("step",):
                await ctx.step("work", _work)
            case ("sleep", seconds):
                await asyncio.sleep(seconds)
            case ("fail",):
                await ctx.step("work", _work)
                raise Unlucky
            case ("all", parts):
                await asyncio.gather(*(self._carry_out(ctx, each) for each in parts))
            case ("seq", parts):
                for each in parts:
                    await self._carry_out(ctx, each)
            case ("bounded", seconds, inner):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self._carry_out(ctx, inner)


def _work() -> int:
    return 1


class Trial:
    """One program, executed to its end through posts, crashes and late looks; then replayed from every record."""

    def __init__(self, seed: int) -> None:
        self._chance = chance = random.Random(seed)
        self._carrier = Carrier(make_part(chance))
        self.world = World(self._carrier.body, park_after=chance.choice((timedelta(0), timedelta(1), timedelta(365))))
        self._looks: list[Callable[[], None]] = []
        self._posted: Log = []
        self.crashes = 0

    def run(self) -> None:
        """Execute and replay; raises AssertionError where a signal was lost or received twice."""
        world = self.world
        world.claim()
        for event in range(_EVENTS):
            if world.execution is None:
                transition = world.memory.transition
                assert transition is not None, "the run was let go of without a word"
                if transition.status.is_terminal:
                    break
                assert transition.error is None, f"the run was set aside: {transition.error}"
                if not self._is_due() and transition.wake_at is None:
                    self._post()
                elif not self._is_due() and transition.wake_at is not None:
                    world.clock_.reach(transition.wake_at)
                world.claim()
                continue
            self._go_on(is_calm=event > _CALM)
        else:
            raise AssertionError("the program does not end")
        self._check(Outcome(transition))

    def _is_due(self) -> bool:
        transition = self.world.memory.transition
        return transition is not None and (transition.inbox or 0) < len(self.world.memory.messages)

    def _go_on(self, *, is_calm: bool) -> None:
        world, chance = self.world, self._chance
        can: list[Callable[[], None]] = []
        if world.changes.waiting:
            can.append(self._commit)
        if world.steps.running:
            can.append(lambda: world.steps.end(chance.choice(world.steps.running)))
        if world.clock_.alarms:
            can.append(world.clock_.ring)
        if self._looks:
            can.append(lambda: self._looks.pop(chance.randrange(len(self._looks)))())
        if not is_calm and chance.random() < 0.07:
            self._crash()
            return
        if not can or chance.random() < (0.05 if is_calm else 0.25):
            can = [self._post, self._look]
        chance.choice(can)()

    def _commit(self) -> None:
        tellings = self.world.changes.commit(self._chance.randint(1, len(self.world.changes.waiting)))
        self.world.clock_.store_now += timedelta(milliseconds=self._chance.randint(0, 3))
        heard = len(tellings) if self._chance.random() < 0.9 else self._chance.randint(0, len(tellings))
        execution = self.world.execution
        for tell in tellings[:heard]:
            tell()
        if heard < len(tellings) and self.world.execution is execution:
            self._crash()

    def _crash(self) -> None:
        self.crashes += 1
        self._looks.clear()
        self.world.crash()
        transition = self.world.memory.transition
        if transition is None or not transition.status.is_terminal:
            self.world.claim()

    def _post(self) -> None:
        transition = self.world.memory.transition
        if transition is None or not transition.status.is_terminal:
            name, value = self._chance.choice(NAMES), len(self._posted)
            self._posted.append((name, value))
            self.world.signal(name, value)
            if self._chance.random() < 0.5:
                self._look()

    def _look(self) -> None:
        self._looks.append(self.world.look_for_mail())

    # -- checking ----------------------------------------------------------------------------------------------

    def _check(self, outcome: Outcome) -> None:
        memory = self.world.memory
        received = [(name, value) for name, value in outcome.value or ()]
        left = [(message.name, msgspec.json.decode(message.payload or "")) for message in memory.mail]
        assert sorted([*received, *left]) == sorted(self._posted), f"received {received}, undelivered {left}"
        for name in NAMES:
            values = [value for each, value in received if each == name]
            assert values == sorted(values), f"signal {name} was received in the order {values}"
        for length in range(len(memory.records) + 1):
            self._replay(length, outcome, received)

    def _replay(self, length: int, outcome: Outcome, received: Log) -> None:
        memory = self.world.memory
        carrier = Carrier(self._carrier._program)
        replay = World(carrier.body, park_after=self.world.park_after).remember(memory.records[:length])
        replay.memory.messages = list(memory.messages)
        replay.memory.received = {position: seq for position, seq in memory.received.items() if seq <= length}
        replay.claim()
        log = list(carrier.log)
        assert log == received[: len(log)], f"after {length} records the body had {log}, and in the end {received}"
        if length == len(memory.records):
            transition = replay.changes.waiting[-1][0].transition
            assert transition is not None
            assert Outcome(transition) == outcome
        replay.crash()


def check(seeds: range) -> int:
    """Run programs; the number of crashes that they went through."""
    crashes = 0
    for seed in seeds:
        trial = Trial(seed)
        try:
            trial.run()
        except BaseException as error:
            error.add_note(f"program {seed}: {trial._carrier._program}")
            raise
        crashes += trial.crashes
    return crashes


def main() -> None:
    parser = argparse.ArgumentParser(description="Lead random workflows through random signals and crashes.")
    parser.add_argument("--programs", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first program")
    wanted = parser.parse_args()
    logging.disable()
    crashes = check(range(wanted.first, wanted.first + wanted.programs))
    print(f"held: {wanted.programs:,} programs with {crashes:,} crashes")


if __name__ == "__main__":
    main()
