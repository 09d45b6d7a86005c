"""Executing programs that fail and are executed again, with crashes at any moment.

By hand, with as many programs as there is patience for: `python -m tests.engine.retrying_replays --programs 20000`.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

from kagzi.authoring.options import WorkflowOptions
from kagzi.engine.consequences import Retry
from kagzi.engine.execution import Execution
from kagzi.model.change import Transition
from kagzi.model.run import RunStatus
from kagzi.rules.failures import decode_error
from tests.engine.host import Outcome
from tests.engine.programs import Choices
from tests.engine.replays import Diverged
from tests.engine.retrying_programs import RetryingMachine, make_calm_program, make_retrying_program
from tests.engine.retrying_world import RetryingMemory, RetryingWorld
from tests.engine.stored_world import StoredWorld

_EVENTS = 30_000
_PARK_AFTER = (timedelta(0), timedelta(seconds=1), timedelta(days=1))
_LAG = (timedelta(0), timedelta(milliseconds=7))

Point = tuple[int, int]
"""How far a run has come: its attempt, and how many records that attempt has."""


class RetryingTrial:
    """One program, executed to its end through failures, crashes, parking and draining, then replayed from every state
    that was ever durable. Each replay must come to the point at which the run itself was then.

    Where `calm`, the program must end in the same way as without any crash.
    """

    def __init__(self, program: Any, options: WorkflowOptions, choices: Choices, *, calm: bool = False) -> None:
        self.crashes = self.replays = 0
        self._program = program
        self._options = options
        self._choices = choices
        self._calm = calm
        self._numbers = itertools.count()
        self._machine = self._new_machine()
        self._world = self._make_world(_PARK_AFTER[choices.below(3)])
        self._seen: dict[Point, tuple[list[Any], list[str]]] = {}
        self._endings: dict[Point, Any] = {}
        self._states: list[tuple[datetime, RetryingMemory]] = []
        self._garbage: list[Any] = []

    def run(self) -> Outcome:
        """Execute and replay. Raises Diverged where a replay was not the same, AssertionError for a broken rule."""
        self._claim()
        for _ in range(_EVENTS):
            if self._world.execution is None and self._is_over():
                break
            self._go_on()
        else:
            raise AssertionError("the program does not end")
        transition = self._world.memory.transition
        assert transition is not None
        outcome = Outcome(transition)
        self._replay_all()
        if self._calm:
            self._compare_with_calm(outcome)
        return outcome

    @property
    def failures(self) -> int:
        """How many executions of steps failed."""
        return len(self._world.memory.failures)

    @property
    def attempts(self) -> int:
        """How many attempts the run had."""
        return self._world.memory.attempts

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._program!r}, {self._options!r}, {self._choices!r}, calm={self._calm})"

    def account(self) -> str:
        """Everything that happened, as text."""
        records = [(record.step_id, record.output, record.finished_at) for record in self._world.memory.records]
        failures = [(failed.step_id, failed.attempt, failed.wake_at) for failed in self._world.memory.failures]
        return f"{self._program}\n{records}\n{failures}\n{sorted(self._seen.items())}\n{self._machine.trace}"

    @property
    def _may_look_early(self) -> bool:
        """Whether a sleeping run is taken before its time, as after a message."""
        return self._choices.below(4) == 3

    def _make_world(self, park_after: timedelta) -> RetryingWorld:
        world = RetryingWorld(self._machine.body, self._options, park_after=park_after)
        world.clock_.lag = _LAG[self._choices.below(2)]
        return world

    def _new_machine(self, numbers: itertools.count[int] | None = None) -> RetryingMachine:
        return RetryingMachine(self._program, numbers or self._numbers, calm=self._calm)

    # -- one thing at a time -----------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        world = self._world
        transition = world.memory.transition
        assert transition is not None, "the run was let go of without a word"
        if transition.status.is_terminal:
            return True
        world.steps.forget()
        if transition.reopened_seq is None and transition.error is not None:
            raise Diverged(f"the run was set aside: {decode_error(transition.error)}")
        if transition.wake_at is not None and (transition.status is RunStatus.PENDING or not self._may_look_early):
            world.clock_.reach(transition.wake_at)
        self._claim()
        return False

    def _go_on(self) -> None:
        world, choices = self._world, self._choices
        if world.execution is None:
            return
        can: list[Callable[[], None]] = []
        if world.changes.waiting:
            can.append(self._commit)
        if world.steps.running:
            can.append(self._end_step)
        if world.clock_.alarms:
            can.append(self._pass_time)
        assert can, "the run waits, and nothing can happen any more"
        doing = choices.below(10 * len(can))
        if doing == 10 * len(can) - 1:
            self._crash()
        elif doing == 10 * len(can) - 2 and choices.below(4) == 3:
            world.steps.is_draining = True
            world.execution.drain()
        elif doing == 10 * len(can) - 3:
            world.beat(world.steps.running[: choices.below(3)])
        else:
            can[doing % len(can)]()

    def _commit(self) -> None:
        world = self._world
        world.clock_.store_now += timedelta(milliseconds=self._choices.below(4))
        tellings = world.changes.commit(1 + self._choices.below(len(world.changes.waiting)))
        self._keep_state()
        heard = len(tellings) if self._choices.below(8) < 7 else self._choices.below(len(tellings) + 1)
        execution = world.execution
        for tell in tellings[:heard]:
            tell()
            if world.execution is execution and not self._is_closing(world):
                self._compare(self._delivered(), self._machine.trace, _asked(world))
        if heard < len(tellings) and world.execution is execution:
            self._crash()  # durable, and nobody has heard of it

    def _keep_state(self) -> None:
        memory = self._world.memory
        if memory.started_at is not None:  # else nobody knows yet when the next attempt begins
            self._states.append((self._world.clock_.store_now, memory.copied()))
        transition = memory.transition
        if transition is not None and (transition.status.is_terminal or transition.reopened_seq is not None):
            self._endings[self._last_point()] = _essence(transition)

    def _last_point(self) -> Point:
        memory = self._world.memory
        if memory.transition is not None and memory.transition.reopened_seq is not None:
            return memory.attempts - 1, memory.records_before
        return memory.attempts, len(memory.records)

    def _end_step(self) -> None:
        running = self._world.steps.running
        self._world.steps.end(running[self._choices.below(len(running))])

    def _pass_time(self) -> None:
        clock = self._world.clock_
        if self._choices.below(6) == 5:
            clock.ring_early()
        else:
            clock.ring()

    def _crash(self) -> None:
        self.crashes += 1
        self._world.crash()
        self._litter()
        # Without an execution to hear of it, it may have been let go of.
        if self._world.memory.transition is None:
            self._claim()

    def _claim(self) -> None:
        self._machine = self._new_machine()
        self._world.become(self._machine.body)
        memory = self._world.memory
        point = memory.attempts, len(memory.records)
        self._world.claim()
        if self._world.execution is not None and not self._is_closing(self._world):
            self._compare(point, self._machine.trace, _asked(self._world))

    def _litter(self) -> None:
        # Memory addresses, and with them the order of sets of ordinary objects, are others in the next execution.
        self._garbage.append([object() for _ in range(1 + self._choices.below(50))])

    # -- comparing ---------------------------------------------------------------------------------------------

    @staticmethod
    def _is_closing(world: RetryingWorld) -> bool:
        if world.memory.transition is not None:
            return True
        return any(change.transition is not None for change, _ in world.changes.waiting)

    def _delivered(self) -> Point:
        world = self._world
        assert world.execution is not None
        undelivered = sum(not isinstance(each, Retry) for each in world.execution._consequences)
        submitted = sum(len(change.records) for change, _ in world.changes.waiting)
        return world.memory.attempts, len(world.memory.records) - (undelivered - submitted)

    def _compare(self, point: Point, trace: list[Any], asked: list[str]) -> None:
        known = self._seen.get(point)
        if known is None:
            self._seen[point] = (list(trace), asked)
        elif known != (trace, asked):
            raise Diverged(f"at {point} the body came to\n  {trace}\n  {asked}\n  and before to\n  {known}")

    def _replay_all(self) -> None:
        for now, memory in self._states:
            self.replays += 1
            point = memory.attempts, len(memory.records)
            machine = self._new_machine(itertools.count(10**6))
            replay = RetryingWorld(
                machine.body, self._options, park_after=self._world.park_after, memory=memory.copied()
            )
            replay.clock_.store_now = now
            self._litter()
            replay.claim()
            if replay.execution is not None and not self._is_closing(replay):
                self._compare(point, machine.trace, _asked(replay))
            elif point in self._endings and len(replay.changes.waiting) == 1:
                transition = replay.changes.waiting[0][0].transition
                assert transition is not None
                if transition.status is not RunStatus.SLEEPING and _essence(transition) != self._endings[point]:
                    raise Diverged(f"at {point} the attempt ended as {self._endings[point]}, then as {transition}")
            replay.crash()

    def _compare_with_calm(self, outcome: Outcome) -> None:
        machine = self._new_machine(itertools.count())
        calm = RetryingWorld(machine.body, self._options, park_after=self._world.park_after).finish()
        if calm != outcome:
            raise Diverged(f"without crashes the run ends as {calm}, and with them as {outcome}")


class StoredTrial(RetryingTrial):
    """The same on a real store; some of its answers are lost."""

    def run(self) -> Outcome:
        """Execute and replay."""
        assert isinstance(self._world, StoredWorld)
        with closing(self._world.open(self._choices)):
            return super().run()

    @property
    def _may_look_early(self) -> bool:
        return False  # a store would not give it away

    def _make_world(self, park_after: timedelta) -> RetryingWorld:
        return StoredWorld(self._machine.body, self._options, park_after=park_after)


def _essence(transition: Transition) -> tuple[Any, ...]:
    outcome = Outcome(transition)
    return outcome.status, outcome.value, outcome.error


def _asked(world: RetryingWorld) -> list[str]:
    execution = world.execution
    assert isinstance(execution, Execution)
    return sorted(execution._body.asked)


# -- by hand ------------------------------------------------------------------------------------------------------


def a_trial(seed: int, *, calm: bool = False, stored: bool = False) -> RetryingTrial:
    """The program and the crashes of a number."""
    chance = random.Random(seed)
    make = make_calm_program if calm else make_retrying_program
    shape, luck = (Choices(chance.randbytes(chance.randint(4, 160))) for _ in range(2))
    program, options = make(shape, luck)
    trial = StoredTrial if stored else RetryingTrial
    return trial(program, options, Choices(chance.randbytes(chance.randint(0, 900))), calm=calm)


def main() -> None:
    parser = argparse.ArgumentParser(description="Execute random programs that fail through crashes, and replay them.")
    parser.add_argument("--programs", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first program")
    parser.add_argument("--calm", action="store_true", help="programs whose outcome no crash may change")
    parser.add_argument("--stored", action="store_true", help="on a real store, whose answers may be lost")
    wanted = parser.parse_args()
    logging.disable()  # programs fail and get stuck on purpose
    began, digest, counts = time.monotonic(), hashlib.sha256(), Counter[str]()
    for seed in range(wanted.first, wanted.first + wanted.programs):
        trial = a_trial(seed, calm=wanted.calm, stored=wanted.stored)
        try:
            outcome = trial.run()
        except BaseException:
            print(f"program {seed} does not hold: {trial}")
            raise
        digest.update(trial.account().encode())
        counts.update(crashes=trial.crashes, replays=trial.replays, failures=trial.failures, attempts=trial.attempts)
        counts[outcome.status.value] += 1
    print(f"digest {digest.hexdigest()}")
    print(f"held: {wanted.programs:,} programs in {time.monotonic() - began:.0f} s;", dict(counts))


if __name__ == "__main__":
    main()
