"""Executing programs with crashes at any moment, and checking that every replay is the same.

By hand, with as many programs as there is patience for: `python -m tests.engine.replays --programs 20000`. It prints
how many programs, crashes and replays held, and a digest of all that happened in them.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import logging
import random
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import msgspec

from kagzi.engine.body import Body
from kagzi.model.change import ParkedAt
from kagzi.model.run import RunStatus
from kagzi.model.step import StepRecord
from tests.engine.host import Outcome, World
from tests.engine.programs import Choices, Machine, Part, before_changes, make_program
from tests.engine.sync_programs import SyncMachine

_EVENTS = 4_000
_PARK_AFTER = (timedelta(0), timedelta(seconds=1), timedelta(days=1))
_LAG = (timedelta(0), timedelta(milliseconds=7))


class Diverged(AssertionError):
    """A replay differed."""


class Trial:
    """One program, executed to its end through crashes and parking, then replayed from every point of its record.

    After each delivered record it is noted how far the trace went and what the body waited for; whoever replays the
    same record must come to the same point.

    Where `changed`, the run begins with the program as it was before its `Patched` parts were, and goes on with the
    changed one from some claim on; a replay of the changed program never diverges.

    Where `cancelled`, the run is cancelled at some moment, whatever it is doing, unless it ends before.
    """

    def __init__(
        self,
        program: Part,
        choices: Choices,
        machine: type[Machine] | type[SyncMachine] = Machine,
        *,
        changed: bool = False,
        cancelled: bool = False,
    ) -> None:
        self._to_cancel = cancelled
        self._deployed: Part | None = program if changed else None
        self._records_before = 0
        self._parked: list[str] = []
        program = before_changes(program) if changed else program
        self.crashes = 0
        self.replays = 0
        self._program = program
        self._carrying_out = machine
        self._choices = choices
        self._numbers = itertools.count()
        self._machine = machine(program, self._numbers)
        self._world = World(self._machine.body, park_after=_PARK_AFTER[choices.below(3)])
        self._world.clock_.lag = _LAG[choices.below(2)]
        self._seen: dict[int, tuple[list[Any], list[str]]] = {}
        self._garbage: list[Any] = []

    def run(self) -> Outcome:
        """Execute and replay; raises Diverged where a replay was not the same."""
        self._claim()
        for _ in range(_EVENTS):
            if self._world.execution is None and self._is_over():
                break
            self._go_on()
        else:
            raise AssertionError("the program does not end")
        assert self._world.memory.transition is not None
        outcome = Outcome(self._world.memory.transition)
        if self._deployed is None:
            self._replay_all(outcome)
        return outcome

    @property
    def records(self) -> int:
        """How many operations became durable."""
        return len(self._world.memory.records)

    def __repr__(self) -> str:
        return f"Trial({self._program!r}, {self._choices!r}, {self._carrying_out.__name__})"

    def account(self) -> str:
        """Everything that happened, as text: what is stored and what every execution saw."""
        records = [(record.step_id, record.output, record.finished_at) for record in self._world.memory.records]
        return f"{self._program}\n{records}\n{sorted(self._seen.items())}\n{self._machine.trace}"

    def _is_over(self) -> bool:
        transition = self._world.memory.transition
        assert transition is not None, "the run was let go of without a word"
        if transition.status.is_terminal:
            return True
        if transition.error is not None:
            raise Diverged(f"the run was set aside: {transition.error}")
        assert transition.wake_at is not None
        if self._choices.below(4) < 3:  # else it is looked at too early, as after a message
            self._world.clock_.reach(transition.wake_at)
        if self._to_cancel and self._choices.below(4) == 3:
            self._cancel()
        self._claim()
        return False

    # -- one thing at a time -----------------------------------------------------------------------------------

    def _go_on(self) -> None:
        if self._world.execution is None:
            return
        world, choices = self._world, self._choices
        can = []
        if world.changes.waiting:
            can.append(self._commit)
        if world.steps.running:
            can.append(self._end_step)
        if world.clock_.alarms:
            can.append(self._pass_time)
        assert can, "the run waits, and nothing can happen any more"
        if self._to_cancel and choices.below(8) == 7:
            self._cancel()
            return
        doing = choices.below(8 * len(can))
        if doing == 8 * len(can) - 1:
            self._crash()
        else:
            can[doing % len(can)]()

    def _commit(self) -> None:
        world = self._world
        world.clock_.store_now += timedelta(milliseconds=self._choices.below(4))
        tellings = world.changes.commit(1 + self._choices.below(len(world.changes.waiting)))
        heard = len(tellings) if self._choices.below(8) < 7 else self._choices.below(len(tellings) + 1)
        execution = world.execution
        for tell in tellings[:heard]:
            tell()
            if world.execution is execution and not self._closing():
                self._note()
        if heard < len(tellings) and world.execution is execution:
            self._crash()  # durable, and nobody has heard of it

    def _end_step(self) -> None:
        running = self._world.steps.running
        self._world.steps.end(running[self._choices.below(len(running))])

    def _pass_time(self) -> None:
        clock = self._world.clock_
        if self._choices.below(6) == 5:
            clock.ring_early()
        else:
            clock.ring()

    def _cancel(self) -> None:
        self._to_cancel = False
        self._world.cancel("enough")

    def _crash(self) -> None:
        self.crashes += 1
        self._world.crash()
        self._litter()
        self._claim()

    def _claim(self) -> None:
        if self._deployed is not None and self._choices.below(3) == 2:
            self._program, self._deployed = self._deployed, None
            self._records_before = len(self._world.memory.records)
            self._seen.clear()
        if self._world.memory.parked is not None:
            self._parked.append(self._world.memory.parked)
        self._machine = self._carrying_out(self._program, self._numbers)
        self._world.become(self._machine.body)
        known = len(self._world.memory.records)
        self._world.claim()
        if self._world.execution is not None and not self._closing():
            self._compare(known, self._machine.trace, _asked(self._world))

    def _litter(self) -> None:
        # Memory addresses, and with them the order of sets of ordinary objects, are others in the next execution.
        self._garbage.append([object() for _ in range(1 + self._choices.below(50))])

    # -- comparing ---------------------------------------------------------------------------------------------

    def _closing(self) -> bool:
        return any(change.transition is not None for change, _ in self._world.changes.waiting)

    def _note(self) -> None:
        body = _body(self._world)
        delivered = self._delivered()
        self._compare(delivered, self._machine.trace, sorted(body.asked))

    def _delivered(self) -> int:
        world = self._world
        undelivered = len(world.execution._consequences) if world.execution else 0
        submitted = sum(len(change.records) for change, _ in world.changes.waiting)
        return len(world.memory.records) - (undelivered - submitted)

    def _compare(self, place: int, trace: list[Any], asked: list[str]) -> None:
        known = self._seen.get(place)
        if known is None:
            self._seen[place] = (list(trace), asked)
            return
        if known[0] != trace:
            raise Diverged(f"after {place} records the body came to\n  {_first_difference(known[0], trace)}")
        if known[1] != asked:
            raise Diverged(f"after {place} records the body waited for {known[1]}, then for {asked}")

    def _replay_all(self, outcome: Outcome) -> None:
        records = self._world.memory.records
        for length in range(self._records_before, len(records) + 1):
            self.replays += 1
            machine, replay = self._replay(records[:length])
            if replay.execution is not None and not any(change.transition for change, _ in replay.changes.waiting):
                self._compare(length, machine.trace, _asked(replay))
            elif length == len(records):
                self._compare_ending(replay, outcome)
            replay.crash()

    def _replay(self, records: list[StepRecord]) -> tuple[Machine | SyncMachine, World]:
        machine = self._carrying_out(self._program, itertools.count(10**6))
        replay = World(machine.body, park_after=self._world.park_after).remember(records)
        parks = [each for each in self._parked if msgspec.json.decode(each, type=ParkedAt).seq <= len(records)]
        replay.memory.parked = parks[-1] if parks else None
        replay.memory.fence = len(parks)
        self._litter()
        replay.claim()
        return machine, replay

    @staticmethod
    def _compare_ending(replay: World, outcome: Outcome) -> None:
        transition = replay.changes.waiting[-1][0].transition
        assert transition is not None
        if outcome.status is RunStatus.CANCELLED and transition.status is RunStatus.SLEEPING:
            assert transition.wake_at is not None  # the end of its grace, which leaves no record
            replay.settle()
            replay.clock_.reach(transition.wake_at)
            replay.claim()
            transition = replay.changes.waiting[-1][0].transition
            assert transition is not None
        if Outcome(transition) != outcome:
            raise Diverged(f"the run ended as {outcome}, and its replay as {Outcome(transition)}")


def _body(world: World) -> Body:
    assert world.execution is not None
    return world.execution._body


def _asked(world: World) -> list[str]:
    return sorted(_body(world).asked)


def _first_difference(first: list[Any], second: list[Any]) -> str:
    for place, (one, other) in enumerate(itertools.zip_longest(first, second)):
        if one != other:
            return f"{one}\n  and in another execution of the same record to\n  {other}\n  at place {place}"
    return "the same"


# -- by hand ------------------------------------------------------------------------------------------------------


def a_trial(
    seed: int,
    machine: type[Machine] | type[SyncMachine] = Machine,
    *,
    changed: bool = False,
    cancelled: bool = False,
) -> Trial:
    """The program and the crashes of a number."""
    chance = random.Random(seed)
    program = make_program(Choices(chance.randbytes(chance.randint(2, 160))))
    return Trial(
        program, Choices(chance.randbytes(chance.randint(0, 600))), machine, changed=changed, cancelled=cancelled
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Execute random programs through random crashes and replay them.")
    parser.add_argument("--programs", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first program")
    parser.add_argument("--sync", action="store_true", help="in the bodies of `def` workflows")
    parser.add_argument("--changed", action="store_true", help="deploy the program's changes while it runs")
    parser.add_argument("--cancelled", action="store_true", help="cancel the run at some moment")
    wanted = parser.parse_args()
    logging.disable()  # programs fail and get stuck on purpose
    began, digest, counts = time.monotonic(), hashlib.sha256(), Counter[str]()
    for seed in range(wanted.first, wanted.first + wanted.programs):
        machine = SyncMachine if wanted.sync else Machine
        trial = a_trial(seed, machine, changed=wanted.changed, cancelled=wanted.cancelled)
        try:
            outcome = trial.run()
        except BaseException:
            print(f"program {seed} does not hold: {trial}")
            raise
        digest.update(trial.account().encode())
        counts.update(crashes=trial.crashes, replays=trial.replays, records=trial.records)
        counts[outcome.status.value] += 1
    print(f"digest {digest.hexdigest()}")
    print(f"held: {wanted.programs:,} programs in {time.monotonic() - began:.0f} s;", dict(counts))


if __name__ == "__main__":
    main()
