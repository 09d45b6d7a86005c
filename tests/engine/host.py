"""A world for executions that holds still: steps end, writes commit and time passes only when a test says so.

The journal here is a list in memory, the runner a table of steps that have begun, the clock a number. An execution
can't tell them from the real ones; and because nothing happens by itself, every interleaving and every crash can be
had at will, and had again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec

from kagzi.authoring.definitions import Definition
from kagzi.engine.endings import Ending
from kagzi.engine.execution import Execution
from kagzi.engine.journal import ChangeListener, Journal
from kagzi.engine.runner import StepRunner
from kagzi.engine.running import RunningStep
from kagzi.engine.time import Alarm, EngineClock
from kagzi.model.change import Applied, Change, Transition
from kagzi.model.child import Forsaken
from kagzi.model.claim import Claim
from kagzi.model.error import StepError
from kagzi.model.event import Awaiting
from kagzi.model.message import CANCEL, Message
from kagzi.model.run import MessageKind, RunId, RunStatus
from kagzi.model.step import FailedAttempt, StepRecord, StepStatus, Tries
from kagzi.payloads import Payloads
from kagzi.rules.classification import Classifier
from kagzi.rules.failures import cancelled_error, decode_error, encode_error
from kagzi.store.protocol import Store

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
WARM = timedelta(days=365)
COLD = timedelta(0)
RUN_ID = RunId("01997e00-0000-7000-8000-00000000c0de")
PAYLOADS = Payloads()


class HostAlarm:
    """A callback that the clock was asked for."""

    def __init__(self, clock: HostClock, when: datetime, callback: Callable[[], None]) -> None:
        self.clock = clock
        self.when = when
        self.callback = callback

    def cancel(self) -> None:
        """Call nobody."""
        if self in self.clock.alarms:
            self.clock.alarms.remove(self)


class HostClock:
    """The store's time, and the engine's idea of it, which lags `lag` behind."""

    def __init__(self) -> None:
        self.store_now = BEGINNING
        self.lag = timedelta(0)
        self.alarms: list[HostAlarm] = []

    def observe(self, now: datetime, *, asked_at_s: float | None = None) -> None:
        """Known already."""

    def now(self) -> datetime:
        """What the engine takes for the time."""
        return self.store_now - self.lag

    def latest(self) -> datetime:
        """What the engine takes for a time that is not over."""
        return self.store_now

    def call_at(self, when: datetime, callback: Callable[[], None]) -> Alarm:
        """Keep the callback for `ring`."""
        alarm = HostAlarm(self, when, callback)
        self.alarms.append(alarm)
        return alarm

    def ring(self) -> None:
        """Let time pass until the earliest alarm, and ring it."""
        alarm = min(self.alarms, key=lambda each: each.when)
        self.reach(alarm.when)
        self._ring(alarm)

    def ring_early(self) -> None:
        """Ring the earliest alarm although its time has not come."""
        self._ring(min(self.alarms, key=lambda each: each.when))

    def reach(self, when: datetime) -> None:
        """Let time pass until the engine knows that it is `when`."""
        self.store_now = max(self.store_now, when + self.lag)

    def _ring(self, alarm: HostAlarm) -> None:
        self.alarms.remove(alarm)
        alarm.callback()


class HostRunner:
    """Steps that have begun and end when they are told to."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._begun: dict[str, RunningStep] = {}
        self.executed: list[str] = []

    @property
    def running(self) -> list[RunningStep]:
        """What has begun, is not over and is still waited for, in the order in which it began."""
        return [step for step in self._begun.values() if not step.stopped]

    def start(self, step: RunningStep) -> None:
        """Begin a step."""
        step_id = step.call.step_id
        assert step_id not in self._memory.finished, f"{step_id} is executed again although its result is stored"
        assert step_id not in self._begun, f"{step_id} is executed twice at a time"
        self._begun[step_id] = step
        self.executed.append(step_id)

    def end(self, step: RunningStep) -> None:
        """Call the step's function, which must be a plain one, and report what it did."""
        del self._begun[step.call.step_id]
        try:
            value = step.call.fn(*step.call.args, **step.call.kwargs)
        except Exception as error:
            step.owner.failed(step, error)
        else:
            step.owner.settled(step, value)

    def forget(self) -> None:
        """The process is gone, and with it what ran in it."""
        self._begun.clear()


class Memory:
    """What is durable: the records of one run, and how it was let go of."""

    def __init__(self) -> None:
        self.fence = 0
        self.records: list[StepRecord] = []
        self.finished: set[str] = set()
        self.tries: dict[str, Tries] = {}
        self.earlier: dict[str, StepRecord] = {}
        self.reopened_seq = 0
        self.attempts = 1
        self.started_at: datetime | None = BEGINNING
        self.failures: list[FailedAttempt] = []
        self.transition: Transition | None = None
        self.parked: str | None = None
        self.messages: list[Message] = []
        self.received: dict[int, int] = {}
        self.replies: dict[int, str] = {}
        self.values: dict[str, str] = {}

    def post(self, name: str, payload: str, now: datetime, *, kind: MessageKind = MessageKind.SIGNAL) -> None:
        """Put a message into the mailbox, as a store would."""
        assert self.transition is None or not self.transition.status.is_terminal, "the run has ended"
        position = len(self.messages) + 1
        message = Message(position=position, kind=kind, name=name, payload=payload, created_at=now)
        self.messages.append(message)

    @property
    def mail(self) -> list[Message]:
        """What no record has received."""
        return [message for message in self.messages if message.position not in self.received]

    def apply(self, change: Change, now: datetime) -> Applied:
        """Commit a change, as a store would."""
        if change.fence != self.fence or self.transition is not None:
            return Applied.LOST
        for record in change.records:
            assert record.step_id not in self.finished, f"{record.step_id} is stored twice"
            place = self.reopened_seq + len(self.records) + 1
            assert record.seq == place, f"{record.step_id} has a place in the order that is not free"
            assert change.replaces == (self.reopened_seq > 0), f"{record.step_id} can't replace an earlier record"
            self.finished.add(record.step_id)
            self.tries.pop(record.step_id, None)
            self.earlier.pop(record.step_id, None)
            self.records.append(msgspec.structs.replace(record, finished_at=now))
        for position in change.received:
            assert position not in self.received, f"message {position} is received twice"
            self.received[position] = change.records[0].seq
        for position in change.returned:
            self.received.pop(position, None)
        for answer in change.replies:
            self.replies.setdefault(answer.position, answer.reply)
        self.values |= {shown.key: shown.value for shown in change.published}
        for failed in change.failed:
            self.failures.append(failed)
            if failed.wake_at is not None:
                self.tries[failed.step_id] = Tries(
                    used=failed.attempt, earlier=failed.earlier_attempts, wake_at=failed.wake_at
                )
        self.transition = change.transition
        if change.transition is not None:
            self.parked = change.transition.parked or self.parked
            if change.transition.reopened_seq is not None:
                self._reopen(change.transition.reopened_seq)
        return Applied.APPLIED

    def _reopen(self, seq: int) -> None:
        """Begin another attempt of the run."""
        self.attempts += 1
        self.reopened_seq = seq
        self.tries = {step_id: Tries(used=tries.used, earlier=tries.used) for step_id, tries in self.tries.items()}
        for record in self.records:
            if record.status is StepStatus.FAILED:
                self.tries[record.step_id] = Tries(used=record.attempts, earlier=record.attempts)
                self.earlier.pop(record.step_id, None)
            else:
                self.earlier[record.step_id] = record
        self.records, self.finished = [], set()
        self.started_at = None


class HostJournal:
    """Changes on their way to memory."""

    def __init__(self, memory: Memory, clock: HostClock) -> None:
        self._memory = memory
        self._clock = clock
        self.waiting: list[tuple[Change, ChangeListener]] = []

    def submit(self, change: Change, listener: ChangeListener) -> None:
        """Have `change` committed by `commit`."""
        self.waiting.append((change, listener))

    def commit(self, count: int) -> list[Callable[[], None]]:
        """Make the first `count` changes durable at once; each function returned tells the listener of one."""
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        now = self._clock.store_now
        return [self._telling(listener, change, self._memory.apply(change, now), now) for change, listener in batch]

    @staticmethod
    def _telling(listener: ChangeListener, change: Change, outcome: Applied, at: datetime) -> Callable[[], None]:
        return lambda: listener.committed(change, outcome, at)


class World:
    """One run, what is durable of it, and the process that executes it at the moment."""

    def __init__(self, body: Callable[..., Coroutine[Any, Any, Any]], *, park_after: timedelta = WARM) -> None:
        self.memory = Memory()
        self.clock_ = HostClock()
        self.steps = HostRunner(self.memory)
        self.changes = HostJournal(self.memory, self.clock_)
        self.clock: EngineClock = self.clock_
        self.runner = cast(StepRunner, self.steps)
        self.journal = cast(Journal, self.changes)
        self.payloads = PAYLOADS
        self.classifiers: Sequence[Classifier] = ()
        self.park_after = park_after
        self.cancel_grace = timedelta(minutes=1)
        self.body_warning_s = 60.0
        self.store_timeout_s = 10.0
        self.may_start_steps = True
        self.lease_until_s = math.inf
        self.namespace = "default"
        self.endings: list[Ending] = []
        self.execution: Execution | None = None
        self.become(body)

    def become(self, body: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        """Deploy other code."""
        self.definition = a_definition(body)

    def remember(self, records: Sequence[StepRecord]) -> World:
        """Let the run have come this far before; returns the world itself."""
        self.memory.records = list(records)
        self.memory.finished = {record.step_id for record in records}
        self.clock_.store_now = max([BEGINNING, *(record.finished_at or BEGINNING for record in records)])
        return self

    def claim(self) -> Execution:
        """Take the run and execute it."""
        self.memory.fence += 1
        self.memory.started_at = self.memory.started_at or self.clock_.store_now
        self.memory.transition = None
        self.execution = Execution(self, a_claim(self.memory), self.definition)
        self.execution.begin()
        return self.execution

    def cancel(self, reason: str) -> None:
        """Order the run to end; a process that has it in memory hears of it."""
        error = encode_error(cancelled_error(reason))
        self.memory.post(CANCEL, error, self.clock_.store_now, kind=MessageKind.CANCEL)
        self.bring_mail()

    def crash(self) -> None:
        """Lose the process, without a word."""
        execution, self.execution = self.execution, None
        self.steps.forget()
        self.changes.waiting.clear()
        self.clock_.alarms.clear()
        if execution is not None:
            execution.drop()

    def told(self, running: RunningStep) -> None:
        """Nobody writes what steps tell."""

    def give_up(self, child: Forsaken, then: Callable[[], None]) -> None:
        """No run of this world has children."""
        raise AssertionError(f"{child} was given up")

    def await_events(self, awaiting: Awaiting, then: Callable[[], None]) -> None:
        """No run of this world waits for events."""
        raise AssertionError(f"{awaiting} was to be written down")

    async def cancel_asked_at(self, run_id: RunId) -> datetime | None:
        """No run of this world has children."""
        raise AssertionError(f"{run_id} was to be looked at")

    async def version_to_start(self, workflow: str, asked: int | None) -> int:
        """No run of this world has children."""
        raise AssertionError(f"{workflow} was to be started")

    def signal(self, name: str, value: Any) -> None:
        """Have somebody send the run a signal; a run in memory does not know of it before `bring_mail`."""
        self.memory.post(name, msgspec.json.encode(value).decode(), self.clock_.store_now)

    def look_for_mail(self) -> Callable[[], None]:
        """Read the mailbox now, as a worker does; the function returned brings the run what was read."""
        execution, mail, inbox = self.execution, list(self.memory.mail), len(self.memory.messages)

        def bring() -> None:
            if execution is not None and self.execution is execution:
                execution.mail(mail, inbox)

        return bring

    def bring_mail(self) -> None:
        """Bring a run in memory what has come."""
        self.look_for_mail()()

    @property
    def store(self) -> Store:
        """There is none: what needs one is tried with real databases."""
        raise NotImplementedError

    def ended(self, execution: Execution, ending: Ending, change: Change | None) -> None:
        """Note how an execution ended."""
        self.endings.append(ending)
        if self.execution is execution:
            self.execution = None

    def settle(self) -> None:
        """End steps first come, first served, commit one by one and let time pass, until the run is let go of."""
        for _ in range(10_000):
            if self.changes.waiting:
                for tell in self.changes.commit(1):
                    tell()
            elif self.steps.running:
                self.steps.end(self.steps.running[0])
            elif self.clock_.alarms:
                self.clock_.ring()
            else:
                return
        raise AssertionError("the run goes on and on")

    def finish(self) -> Outcome:
        """Execute the run, through all its sleeps, until it has ended."""
        for _ in range(1_000):
            self.claim()
            self.settle()
            transition = self.memory.transition
            assert transition is not None, "the run was neither ended nor parked, and nothing can happen any more"
            if transition.status.is_terminal:
                return Outcome(transition)
            again = transition.reopened_seq is not None
            assert again or transition.error is None, f"the run was set aside: {transition.error}"
            if transition.wake_at is not None:
                self.clock_.reach(transition.wake_at)
        raise AssertionError("the run sleeps again and again")


def survive(body: Callable[..., Coroutine[Any, Any, Any]], *, park_after: timedelta = WARM) -> Outcome:
    """Execute a workflow to its end, and again with a crash after each of its commits; all must end the same.

    Its steps must be plain functions that give the same result each time.
    """
    world = World(body, park_after=park_after)
    outcome = world.finish()
    for length in range(len(world.memory.records) + 1):
        resumed = World(body, park_after=park_after).remember(world.memory.records[:length])
        again = resumed.finish()
        assert again == outcome, f"after a crash at record {length} the run ended as {again}, not as {outcome}"
        recorded = [record.step_id for record in world.memory.records]
        assert [record.step_id for record in resumed.memory.records] == recorded
    return outcome


class Outcome:
    """How a run ended, without what differs between two executions of the same: times and line numbers."""

    def __init__(self, transition: Transition) -> None:
        self.status = transition.status
        self.value = None if transition.output is None else msgspec.json.decode(transition.output)
        self.error = None if transition.error is None else _essence(decode_error(transition.error))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self.status)

    def _key(self) -> tuple[RunStatus, Any, Any]:
        return self.status, self.value, self.error

    def __repr__(self) -> str:
        return f"<{self.status} {self.value!r} {self.error!r}>"


def _essence(error: StepError) -> tuple[Any, ...]:
    return error.kind, error.type, error.message, tuple(_essence(cause) for cause in error.causes)


def a_definition(body: Callable[..., Coroutine[Any, Any, Any]]) -> Definition:
    return Definition(
        name="program",
        version=1,
        fn=body,
        arguments=PAYLOADS.signature(body, skip_first=True),
        result=PAYLOADS.result_shape(body),
    )


def a_claim(memory: Memory) -> Claim:
    return Claim(
        run_id=RUN_ID,
        id=None,
        workflow="program",
        version=1,
        queue="default",
        priority=0,
        input='{"args":[],"kwargs":{}}',
        fence=memory.fence,
        inbox=len(memory.messages),
        mail=tuple(memory.mail),
        attempts=memory.attempts,
        started_at=memory.started_at or BEGINNING,
        history=tuple(memory.records),
        tries=dict(memory.tries),
        parked=memory.parked,
        earlier=dict(memory.earlier),
        reopened_seq=memory.reopened_seq,
    )
