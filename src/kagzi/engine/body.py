"""A run's body at its loop: what it asks for, what it waits for, and the time that it sees.

Answers the body's context (`RunPort`) and its loop's timers. Nothing in here touches the world: the execution looks
at what was asked once the body is at rest.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from datetime import datetime
from functools import cached_property
from threading import get_ident
from typing import Any, NoReturn, cast

from kagzi.authoring.calls import LazyCall, Receive, Sleep, StepCall, Waited, Write
from kagzi.authoring.children import ChildCall, ChildResult
from kagzi.authoring.context import WorkflowContext
from kagzi.authoring.definitions import ArgumentShape
from kagzi.authoring.options import NO_OPTIONS, StepOptions
from kagzi.authoring.scopes import Scope
from kagzi.authoring.steps import current_context
from kagzi.authoring.undoing import UndoableCall
from kagzi.engine.deliveries import Delivery
from kagzi.engine.handles import WorkflowTimer
from kagzi.engine.history import History
from kagzi.engine.loop import WorkflowLoop
from kagzi.engine.mailbox import Mailbox
from kagzi.engine.nobody import NOBODY
from kagzi.engine.patches import Patches
from kagzi.engine.runlog import RunLogger
from kagzi.engine.sending import INSISTING, post_signal
from kagzi.engine.tasks import WorkflowTask
from kagzi.engine.timers import Timer, Timers
from kagzi.engine.undoing import Undoing
from kagzi.errors import ContinueAsNew, KagziError, Parked
from kagzi.model.claim import Claim
from kagzi.model.run import MessageKind
from kagzi.model.step import StepKind
from kagzi.payloads import Payloads

Operation = StepCall[Any] | Sleep | WorkflowTimer | Receive[Any] | Write | ChildCall[Any] | ChildResult[Any]
"""What a body can wait for."""


_LONGEST_NAME = 255

_ID_LIMIT = 2400
"""Bytes of an identity: PostgreSQL's index entries hold 2,704, the run's id included."""


class Body:
    """The workflow function of one run, running on a loop of its own.

    `asked` are the operations it waits for, by step_id; `fresh` those steps of them that nobody has looked at yet, and
    `fresh_children` those children;
    `withdrawn` what it asked for once and then cancelled. `on_withdrawn` is called with the step_id of each of those,
    while the body runs. `receives` are the waits for messages that got none yet, by step_id, first come first. `order`
    is what the run is to end with since the body was cancelled, at `ordered_at`. `writes` is what it wants made known
    and nobody has looked at yet. `undoing` is what is to be undone should the run fail, None where no step has an undo.
    `events_changed` says that the store is to learn which events it waits for now.
    `is_simple`: it has asked for steps and timers only, and nothing has come from outside, so none of the rest needs to
    be looked at. `loop` is the run's deterministic event loop.
    """

    # What few bodies need, or need late, stands in the class until it is set: with more than thirty attributes of its
    # own, an instance would get a dict that is made, and looked up, far more slowly.
    undoing: Undoing | None = None
    events_changed = False
    order: str | None = None
    _task: WorkflowTask[Any] | None = None
    _chance: random.Random | None = None
    _logger: RunLogger | None = None

    def __init__(
        self,
        claim: Claim,
        history: History,
        *,
        replaying: bool,
        on_withdrawn: Callable[[str], None],
        payloads: Payloads,
        step_defaults: StepOptions = NO_OPTIONS,
        arguments: ArgumentShape | None = None,
    ) -> None:
        self.run_id = claim.run_id
        self.id = claim.id or claim.run_id
        self.workflow = claim.workflow
        self.version = claim.version
        self.attempt = claim.attempts
        self.replaying = replaying
        self.step_defaults = step_defaults
        self.payloads = payloads
        self._arguments = arguments
        self.asked: dict[str, Operation] = {}
        self.fresh: list[StepCall[Any]] = []
        self.fresh_children: list[ChildCall[Any] | ChildResult[Any]] = []
        self.withdrawn: set[str] = set()
        self.unawaited: dict[str, LazyCall[Any]] = {}
        self.timers = Timers()
        self.receives: dict[str, Receive[Any]] = {}
        self.writes: dict[str, Write] = {}
        self.is_simple = not (replaying or claim.mail or claim.earlier)
        self._claim = claim
        self._history = history
        self.ordered_at = claim.started_at
        self._on_withdrawn = on_withdrawn
        self._now = claim.started_at
        self._seed = claim.seed or claim.run_id
        self.loop = WorkflowLoop(self, seed=int(self._seed[-12:], 16))  # type: ignore[abstract] # see forbidden.py
        # As they are, for speed: a call of ours around them would be a twentieth of what a step costs.
        self.next_order = self.loop.next_order
        self.drain = self.loop.drain

    # -- what the execution does with it -----------------------------------------------------------------------

    @cached_property
    def mailbox(self) -> Mailbox:
        """What has come from outside."""
        return Mailbox(self._claim.mail, self._claim.inbox)

    @cached_property
    def patches(self) -> Patches:
        """What `ctx.patched` has answered."""
        return Patches(self._history)

    def begin(self, fn: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Make the body's task. Raises TypeError where the function doesn't take these arguments."""
        ctx = WorkflowContext(self)
        context = Context()
        context.run(current_context.set, ctx)
        self._task = self.loop.create_body(fn(ctx, *args, **kwargs), context=context)

    @property
    def outcome(self) -> asyncio.Future[Any] | None:
        """The body's task once it is done, None before."""
        task = self._task
        return task if task is not None and task.done() else None

    def deliver(self, delivery: Delivery, at: datetime) -> bool:
        """Let an operation be over, at the time that its record bears. The next drain shows it to the body.

        One that the body has cancelled is passed over, as it is in a replay: it doesn't even move the time, and the
        answer is False.
        """
        operation = self.asked.pop(delivery.step_id, None)
        if operation is None:
            if self.undoing is not None and delivery.failure is None:
                self.undoing.completed(delivery.step_id, delivery.value)
            return False
        if at > self._now:
            self._now = at
        if isinstance(operation, WorkflowTimer):
            self.loop.ready(operation)
        elif delivery.failure is not None:
            operation.set_exception(delivery.failure)
        else:
            operation.set_result(delivery.value)
        return True

    def cancel(self, error: str, at: datetime) -> None:
        """Raise CancelledError where the body is, at the time that the record bears. The next drain shows it.

        `error` is what the run then ends with, encoded.
        """
        if at > self._now:
            self._now = at
        if self.undoing is not None and self.undoing.is_under_way:  # it is over, and ends with something else
            return
        self.order = error
        self.ordered_at = at
        if self._task is not None:
            self.loop.call_soon(self._task.cancel)

    def end(self) -> bool:
        """Be over, whatever the body still waits for: only undos follow. False where it would not end."""
        if self.undoing is None:
            self.undoing = Undoing(self)
        self.undoing.is_under_way = True
        ended = self.leave()
        if self.outcome is None:
            over: asyncio.Future[Any] = asyncio.Future(loop=self.loop)
            over.cancel()
            self._task = cast(WorkflowTask[Any], over)  # as far as anybody asks of it from here on
        for waiting in (self.asked, self.receives, self.writes, self.unawaited):
            waiting.clear()
        for fresh in (self.fresh, self.fresh_children, self.patches.fresh):
            fresh.clear()
        self.timers.clear()
        self.order = None
        return ended

    def leave(self) -> bool:
        """Fail everything that the body waits for with `Parked`; False where it would not end."""
        if self.loop.leaving:
            return True
        return self.loop.leave([waited for waited in self.asked.values() if isinstance(waited, asyncio.Future)])

    def let_go(self) -> None:
        """Lead back to the execution, and from the loop to here, no more: everything in it has ended."""
        self._on_withdrawn = NOBODY.withdrawn
        self._task = None
        self.loop.let_go()
        self.asked.clear()
        self.unawaited.clear()

    # -- what it asks for (RunPort) ----------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The workflow's time."""
        return self._now

    @property
    def chance(self) -> random.Random:
        """Chance, seeded by the run."""
        self.check_running()
        if self._chance is None:
            self._chance = random.Random(self._seed)
        return self._chance

    @property
    def logger(self) -> RunLogger:
        """A logger that is silent during replay."""
        if self._logger is None:
            self._logger = RunLogger(self)
        return self._logger

    @property
    def scope(self) -> Scope:
        """Where the current task names its operations."""
        return self.loop.scope

    def identify(self, name: str, scope: Scope | None = None) -> str:
        """Give the next operation of this name its identity: in `scope`, else in that of the current task."""
        loop = self.loop
        if loop.thread != get_ident():
            self.check_running()
        if loop.leaving and loop.refuses():
            raise Parked
        step_id = (loop.scope if scope is None else scope).identify(name)
        if len(step_id) > _ID_LIMIT // 4 and len(step_id.encode()) > _ID_LIMIT:
            raise ValueError(
                f"{name!r} is called in a task or group that is nested too deep: each is named within the one around "
                "it, so the name grows. Make them side by side, or call functions instead."
            )
        return step_id

    def created(self, call: LazyCall[Any]) -> None:
        """Note a call that was made and is not awaited yet."""
        self.unawaited[call.step_id] = call

    def ask(self, call: StepCall[Any]) -> None:
        """Have the step executed, or its recorded result delivered."""
        loop = self.loop
        if loop.thread != get_ident():
            self.check_running()
        if loop.leaving and loop.refuses():
            raise Parked
        step_id = call.step_id
        self.unawaited.pop(step_id, None)
        self.asked[step_id] = call
        if call.options.total_timeout is not None:
            call.asked_at = self._now
        self.fresh.append(call)

    def undoable(self, call: UndoableCall[Any]) -> None:
        """Note a step that is to be undone where it is completed and the run fails."""
        if self.undoing is None:
            self.undoing = Undoing(self)
        self.undoing.add(call)

    def completed(self, call: UndoableCall[Any], value: Any) -> None:
        """Note that such a step is completed."""
        if self.undoing is not None:
            self.undoing.completed(call.step_id, value)

    def signalling(self, child_run_id: str, signal: str, text: str) -> StepCall[str | None]:
        """Make the call that sends an encoded signal to a child; it gives the child's status where it has ended."""
        name = f"signal {signal}"[:_LONGEST_NAME]
        call: StepCall[str | None] = StepCall(  # type: ignore[abstract] # only for type checkers: see calls.py
            self, self.identify(name), name, post_signal, (child_run_id, signal, text), {}, INSISTING
        )
        self.created(call)
        return call

    def ask_sleep(self, sleep: Sleep) -> None:
        """Have the sleep end at its time, or where the record says it ended."""
        if self.loop.refuses():
            raise Parked
        self.asked[sleep.step_id] = sleep
        self.timers.add(Timer(sleep.step_id, sleep.due, sleep))

    def ask_receive(self, receive: Receive[Any]) -> None:
        """Have the next message of that name delivered, or the one that the record says."""
        if self.loop.refuses():
            raise Parked
        self.is_simple = False
        self.asked[receive.step_id] = receive
        self.receives[receive.step_id] = receive
        if receive.kind is MessageKind.EVENT:
            self.events_changed = True

    def ask_child(self, call: ChildCall[Any]) -> None:
        """Have the child started, and its outcome delivered, or what is recorded of it."""
        self.check_running()
        if self.loop.refuses():
            raise Parked
        self.unawaited.pop(call.step_id, None)
        self.is_simple = False
        self.asked[call.step_id] = call
        self.fresh_children.append(call)

    def ask_outcome(self, result: ChildResult[Any]) -> None:
        """Have the outcome of a child that was started delivered."""
        if self.loop.refuses():
            raise Parked
        self.is_simple = False
        self.asked[result.step_id] = result
        self.fresh_children.append(result)

    def encode(self, carries: Any, value: Any, *, where: str) -> str:
        """Encode a value of the type `carries`. Raises PayloadError where it does not fit."""
        return self.payloads.shape(carries).encode(value, where=where)

    def check_type(self, carries: Any) -> None:
        """Raise ConfigError where no value of the type `carries` could be read back."""
        self.payloads.shape(carries)

    def ask_write(self, write: Write) -> None:
        """Have something made known, together with its record."""
        if self.loop.refuses():
            raise Parked
        self.is_simple = False
        self.asked[write.step_id] = write
        self.writes[write.step_id] = write

    def patched(self, change_id: str) -> bool:
        """Whether the run takes the changed path; a marker is to be recorded where it does so for the first time."""
        self.check_running()
        if self.loop.refuses():
            raise Parked
        self.is_simple = False
        return self.patches.answer(change_id, replaying=self.replaying, asked_before=self._has_asked)

    def continue_as_new(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, version: int | None) -> NoReturn:
        """End the body, and let another run take the place of this one. Raises ContinueAsNew where nothing is wrong."""
        self.check_running()
        if self.loop.refuses():
            raise Parked
        if asyncio.current_task(self.loop) is not self._task:
            raise KagziError(
                "ctx.continue_as_new was called in a task of the workflow, which can't end the run. Await the task, "
                "and call it in the body itself."
            )
        same = version is None or version == self.version
        shape = self._arguments if same and self._arguments is not None else self.payloads.untyped_call()
        text = shape.encode(args, kwargs, where=f"what workflow {self.workflow!r} continues with")
        raise ContinueAsNew(text, version=self.version if version is None else version)

    def _has_asked(self, step_id: str) -> bool:
        return step_id in self.asked or step_id in self.withdrawn

    def withdraw(self, operation: Operation | LazyCall[Any] | Waited[Any]) -> None:
        """Stop waiting for an operation that the body cancelled."""
        step_id = operation.step_id
        if step_id is None:  # a timer that was due when it was made
            return
        self.unawaited.pop(step_id, None)
        if self.asked.pop(step_id, None) is not None:
            self.withdrawn.add(step_id)
            self.timers.discard(step_id)
            receive = self.receives.pop(step_id, None)
            if receive is not None and receive.kind is MessageKind.EVENT:
                self.events_changed = True
            self.writes.pop(step_id, None)
            self._on_withdrawn(step_id)

    def create_task(self, work: Awaitable[Any], scope: Scope) -> WorkflowTask[Any]:
        """Make a task that names its operations in `scope`."""
        return self.loop.create_task_in(scope, work)

    def check_running(self) -> None:
        """Raise KagziError outside of the body."""
        if self.loop.thread != get_ident():
            raise KagziError(
                "the context was used outside of the workflow's body, such as in the function of a step. A replay does "
                "not execute the step again, so it would go another way. Use the context in the body only; inside a "
                "step, call functions as they are."
            )

    # -- what its loop asks for (engine.loop.Timers) -----------------------------------------------------------

    def time(self) -> float:
        """The workflow's time, in seconds since the epoch."""
        return self._now.timestamp()

    def call_at(self, handle: WorkflowTimer) -> None:
        """Make a timer of asyncio's own durable, under the name `timer`."""
        timer = Timer.of_handle(self.identify("timer"), handle)
        self.asked[timer.step_id] = handle
        self.timers.add(timer)


def kind_of(operation: Operation) -> StepKind:
    """What sort of record an operation leaves."""
    if isinstance(operation, StepCall):
        return StepKind.STEP
    if isinstance(operation, ChildCall | ChildResult):
        return StepKind.CHILD
    if isinstance(operation, Receive):
        return StepKind(operation.kind)
    return operation.kind if isinstance(operation, Write) else StepKind.TIMER
