"""Running the functions of steps on the worker's own event loop, threads and processes, a bounded number at a time."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from contextvars import copy_context
from datetime import datetime
from functools import partial
from threading import Lock
from types import FunctionType
from typing import Any, ClassVar, NamedTuple, Protocol

from kagzi.authoring.calls import StepCall
from kagzi.authoring.options import NO_OPTIONS
from kagzi.authoring.steps import StepInfo, current_step
from kagzi.engine import threads
from kagzi.engine.processes import pool
from kagzi.engine.processes.pool import StepProcesses
from kagzi.engine.pulses import Pulse, Watch
from kagzi.engine.threads import StepThreads
from kagzi.model.message import NewMessage, Posted
from kagzi.model.step import OpenStep


class StepOwner(Protocol):
    """The execution that a step belongs to. `settled` and `failed` are called inside the step's task."""

    @property
    def run_id(self) -> str:
        """The run's id."""

    @property
    def may_start_steps(self) -> bool:
        """Whether the worker still holds its lease (P9)."""

    @property
    def lease_until_s(self) -> float:
        """When the worker's lease is over, unless it is renewed, by the clock `since_boot`."""

    def now(self) -> datetime:
        """The store's time. Safe from any thread."""

    def told(self, running: RunningStep) -> None:
        """The function told how far it is. Called in whatever thread it runs in."""

    def shown(self, running: RunningStep) -> OpenStep:
        """The step, to be made visible."""

    @property
    def namespace(self) -> str:
        """Where the run is."""

    async def post(self, message: NewMessage) -> Posted:
        """Post a message to another run. Raises StoreUnavailable."""

    def undone_at(self, step_id: str) -> int:
        """Where in the record an earlier attempt of the run has undone the step; 0 for nowhere."""

    def settled(self, running: RunningStep, value: Any) -> None:
        """The function returned `value`."""

    def failed(self, running: RunningStep, error: BaseException) -> None:
        """The function raised, or took too long."""

    def abandoned(self, running: RunningStep) -> None:
        """The step could not be started, as the lease is gone."""

    def unstarted(self, running: RunningStep) -> None:
        """The step was waiting for its turn when the worker began to drain; it won't get one here."""

    async def room(self) -> None:
        """Wait while the journal is full."""

    async def transact(
        self, running: RunningStep, call: Callable[[RunningStep, Any], Coroutine[Any, Any, Any]]
    ) -> None:
        """Execute a step in a transaction with its checkpoint; `call` awaits its function with a connection."""


class Limit(NamedTuple):
    """How long a step may take, and by which of its timeouts: "attempt" or "total"."""

    seconds: float
    which: str

    def passed(self, what: str) -> StepTimeout:
        """The error of a step that took longer."""
        if self.which == "total":
            return StepTimeout(f"the {what} was not done within its total_timeout.", which="total")
        return StepTimeout(f"the {what} took longer than its timeout of {self.seconds:g} s.")


class RunningStep:
    """One execution of a step's function: of `fn`, which is the call's own unless a test puts another in its place.

    `in_transaction`: the function gets a connection, and what it does there commits with its record. `is_committing`:
    that is under way, so it is too late to cancel it.
    """

    # What few steps need stands in the class until it is set.
    counts_from: datetime | None = None
    """Since when its `total_timeout` counts; None for since this execution, as it is the first."""
    stopped = False
    overdue = False
    waits = False
    """Whether it is to be executed in a thread or a process and there is none for it yet."""
    in_transaction = False
    is_committing = False
    pulse: Pulse | None = None
    """Made where it is needed: by the first sign of life, or where an execution before has left details."""
    reconciles: ClassVar[bool] = False
    """Whether it is to find out what became of an execution, and is none of the step's own function."""

    def __init__(self, owner: StepOwner, call: StepCall[Any], attempt: int, started_at: datetime) -> None:
        self.owner = owner
        self.call = call
        self.fn = call.fn
        self.attempt = attempt
        self.started_at = started_at
        self.task: asyncio.Task[None] | None = None
        if call.in_transaction:
            self.in_transaction = True

    def stop(self) -> None:
        """Nobody waits for the result any more: cancel a coroutine, tell a thread, kill a process."""
        self.stopped = True
        if self.task is not None and not self.is_committing:
            self.task.cancel()

    def limit(self) -> Limit | None:
        """How long it may go on from now."""
        options = self.call.options
        limit = None if options.timeout is None else Limit(options.timeout.total_seconds(), "attempt")
        if options.total_timeout is None:
            return limit
        over = (self.counts_from or self.started_at) + options.total_timeout
        left_s = max((over - self.owner.now()).total_seconds(), 0.0)
        return Limit(left_s, "total") if limit is None or left_s < limit.seconds else limit

    def describe(self) -> StepInfo:
        """What the step's function can know about itself."""
        run_id, step_id = self.owner.run_id, self.call.step_id
        key, undone_at = self.call.options.key or f"{run_id}:{step_id}", self.owner.undone_at(step_id)
        return StepInfo(
            run_id=run_id,
            step_id=step_id,
            name=self.call.name,
            attempt=self.attempt,
            idempotency_key=f"{key}:{undone_at}" if undone_at else key,
            heartbeat_details=None if self.pulse is None else self.pulse.earlier_details,
            _cancelled=lambda: self.stopped or self.overdue,
            _beat=self.beat,
        )

    def beat(self, details: str | None) -> None:
        """Note that the function gave a sign of life, maybe with details. Safe from any thread."""
        if self.stopped or self.overdue:  # a thread that goes on unheard
            return
        self.have_pulse().beat(details, now=self.owner.now())
        if details is not None:
            self.owner.told(self)

    def have_pulse(self) -> Pulse:
        """The pulse, made if there is none. Safe from any thread."""
        with _making:
            if self.pulse is None:
                self.pulse = Pulse()
            return self.pulse


_making = Lock()


class MarkedStep(RunningStep):
    """An execution that is to be made at most once: before its function is called, `mark` must have returned."""

    __slots__ = ("_mark",)

    def __init__(
        self,
        owner: StepOwner,
        call: StepCall[Any],
        *,
        attempt: int,
        started_at: datetime,
        mark: Callable[[RunningStep], Coroutine[Any, Any, None]],
    ) -> None:
        super().__init__(owner, call, attempt=attempt, started_at=started_at)
        self._mark = mark

    async def mark(self) -> None:
        """Return once the function may be called."""
        await self._mark(self)


class Reconciliation(RunningStep):
    """A call of a step's `reconcile`, with the step's arguments, to find out what became of an execution."""

    __slots__ = ()

    def __init__(self, owner: StepOwner, call: StepCall[Any], *, attempt: int, started_at: datetime) -> None:
        super().__init__(owner, call, attempt=attempt, started_at=started_at)
        assert call.options.reconcile is not None
        self.fn = call.options.reconcile

    reconciles: ClassVar[bool] = True


class StepRunner:
    """Executes steps for all runs of a worker: at most `limit` at a time, plain functions on at most `threads`, those
    that ask for it in at most `processes`."""

    def __init__(self, *, limit: int, threads: int, processes: int) -> None:
        self._free = limit
        self._queue: deque[RunningStep] = deque()
        self._threads = StepThreads(threads)
        self._processes = StepProcesses(processes)
        # Steps are begun wherever another ended or a commit returned; what that had set must not reach them.
        self._context = copy_context()
        self.running: dict[RunningStep, None] = {}
        self.holding = False

    @property
    def waiting(self) -> int:
        """How many steps wait for their turn, not counting those that wait for a thread or a process."""
        return len(self._queue)

    def start(self, step: RunningStep) -> None:
        """Execute a step now, or as soon as one of those running has ended."""
        if self._free > 0 and not self.holding:
            self._launch(step)
        else:
            self._queue.append(step)

    def hold(self) -> list[RunningStep]:
        """Start nothing more; returns the steps that were waiting for their turn."""
        self.holding = True
        waiting = [step for step in self._queue if not step.stopped]
        self._queue.clear()
        for step in self.running:
            if step.waits and not step.stopped:
                step.stop()
                waiting.append(step)
        return waiting

    def withdraw(self, steps: Iterable[RunningStep]) -> list[RunningStep]:
        """Start no more of these steps; returns those that were waiting for their turn."""
        queued = set(self._queue)
        waiting = [step for step in steps if (step in queued or step.waits) and not step.stopped]
        for step in waiting:
            step.stop()
        return waiting

    async def close(self) -> None:
        """Let go of the threads, whose functions go on unheard until they return, and end the processes."""
        self._threads.close()
        await self._processes.close()

    def _launch(self, step: RunningStep) -> None:
        self._free -= 1
        self.running[step] = None
        step.task = asyncio.get_running_loop().create_task(self._execute(step), context=self._context.copy())

    def _ended(self, step: RunningStep) -> None:
        self._free += 1
        del self.running[step]
        # The task's coroutine and context lead back to the step: a circle of seven objects a step for the garbage
        # collector, which took a quarter of a worker's time.
        step.task = None
        while self._queue and self._free > 0 and not self.holding:
            following = self._queue.popleft()
            if not following.stopped:
                following.started_at = following.owner.now()  # waiting for its turn was not its time
                self._launch(following)

    async def _execute(self, step: RunningStep) -> None:
        owner, call = step.owner, step.call
        if not owner.may_start_steps:
            self._ended(step)
            # A plain callback: it ends the body, whose loop must not be drained inside a task (engine/loop.py).
            asyncio.get_running_loop().call_soon(owner.abandoned, step)
            return
        current_step.set(step)
        fn, options = step.fn, call.options
        try:
            if step.in_transaction:
                await owner.transact(step, self._call_with)
                value = None
            elif options is not NO_OPTIONS and (
                options.timeout is not None
                or options.total_timeout is not None
                or options.heartbeat_timeout is not None
                or options.semantics is not None
            ):
                if isinstance(step, MarkedStep) and _is_async(fn):
                    await step.mark()
                value = await self._call_within(step, step.limit())
            elif type(fn) is FunctionType and fn.__code__.co_flags & inspect.CO_COROUTINE:
                value = await fn(*call.args, **call.kwargs)
            else:
                value = await self._call(step)
            await owner.room()
        except _LeaseIsGone:
            self._ended(step)
            asyncio.get_running_loop().call_soon(owner.abandoned, step)
            return
        except asyncio.CancelledError as error:
            self._ended(step)
            if not step.stopped:  # raised by the function itself
                owner.failed(step, error)
            return
        except KeyboardInterrupt:
            self._ended(step)
            raise
        except BaseException as error:  # SystemExit too: a step that exits must not take every other run along
            self._ended(step)
            error.__traceback__ = _own_traceback(error)
            owner.failed(step, error)
            return
        self._ended(step)
        if not step.stopped and not step.in_transaction:
            owner.settled(step, value)

    async def _call_with(self, step: RunningStep, connection: Any) -> Any:
        """Await the function of a transaction, within its timeout."""
        call = step.call
        if not _is_async(step.fn):
            raise TypeError(
                f"the function of transaction {call.name!r} is a plain `def`, but the connection that it gets is "
                "asyncpg's, which is awaited. Make it `async def`."
            )
        step.started_at = step.owner.now()  # waiting for a connection was not its time
        limit = step.limit()
        if limit is None:
            return await step.fn(connection, *call.args, **call.kwargs)
        return await self._call_within(step, limit, connection)

    async def _call_within(self, step: RunningStep, bound: Limit | None, *first: Any) -> Any:
        """Await the function's result within its timeouts; `first` are arguments before its own."""
        loop = asyncio.get_running_loop()
        silence = None if step.reconciles or first else step.call.options.heartbeat_timeout
        watch = None if silence is None else Watch(step.have_pulse(), silence)
        limit = asyncio.timeout(None)

        def begun() -> None:
            with suppress(RuntimeError):  # it has ended already
                if bound is not None:
                    limit.reschedule(loop.time() + (step.limit() or bound).seconds)
                if watch is not None:
                    watch.begin()

        async def call() -> Any:
            if _is_async(step.fn):  # a plain function may have to wait for a thread, which is not its own time
                begun()
            return await (self._call(step, begun=begun) if not first else _called(step, *first))

        try:
            async with limit:
                if watch is None:
                    return await call()
                async with watch.limit:
                    return await call()
        except TimeoutError as error:
            if watch is not None and watch.limit.expired():
                step.overdue = True
                raise silent(step) from error
            if bound is None or not limit.expired():
                raise
            step.overdue = True
            raise bound.passed("step") from error
        finally:
            if watch is not None:
                watch.end()

    async def _call(self, step: RunningStep, *, begun: Callable[[], object] | None = None) -> Any:
        call = step.call
        if _is_async(step.fn):
            return await step.fn(*call.args, **call.kwargs)
        if call.options.executor == "process" and not step.reconciles:
            return await self._call_in_process(step, begun)
        value = await self._call_in_thread(step, begun)
        if inspect.isawaitable(value):  # a plain function, such as a lambda, that made a coroutine
            return await value
        return value

    async def _call_in_thread(self, step: RunningStep, begun: Callable[[], object] | None) -> Any:
        call = step.call
        function = partial(step.fn, *call.args, **call.kwargs)
        if isinstance(step, MarkedStep):
            function = partial(_call_if_held, step.owner, function)
        label = {"run_id": step.owner.run_id, "step": call.name}
        step.waits = True
        return await self._threads.call(function, label=label, on_turn=partial(self._have_turn, step), on_begun=begun)

    async def _call_in_process(self, step: RunningStep, begun: Callable[[], object] | None) -> Any:
        call = step.call
        step.waits = True
        return await self._processes.call(
            step.fn,
            call.args,
            call.kwargs,
            info=step.describe(),
            on_turn=partial(self._have_turn, step),
            on_begun=begun,
            on_told=step.beat,
            until_s=partial(_held_until_s, step.owner) if isinstance(step, MarkedStep) else None,
        )

    @staticmethod
    async def _have_turn(step: RunningStep) -> None:
        """A place in a thread or process is there, maybe after a long wait, in which the lease may have gone (P9)."""
        if not step.owner.may_start_steps:
            raise _LeaseIsGone
        step.waits = False
        step.started_at = step.owner.now()
        if isinstance(step, MarkedStep):
            await step.mark()


async def _called(step: RunningStep, *first: Any) -> Any:
    return await step.fn(*first, *step.call.args, **step.call.kwargs)


def _is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` makes a coroutine; also for objects whose class has an `async def __call__`."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(type(fn), "__call__", None))  # noqa: B004


def runs_in_thread(step: RunningStep) -> bool:
    """Whether the step's function is called in a thread, which can't be ended."""
    return not _is_async(step.fn) and (step.reconciles or step.call.options.executor != "process")


class _LeaseIsGone(BaseException):
    """The worker may start no more steps."""


def _call_if_held(owner: StepOwner, function: Callable[[], Any]) -> Any:
    """In a thread, which may have been long in coming."""
    if not owner.may_start_steps:
        raise _LeaseIsGone
    return function()


def _held_until_s(owner: StepOwner) -> float:
    if not owner.may_start_steps:
        raise _LeaseIsGone
    return owner.lease_until_s


_OWN_FILES = (__file__, threads.__file__, pool.__file__)


class StepTimeout(TimeoutError):
    """A step took longer than its timeout; `which` is "attempt", "total" for all its executions together, or
    "heartbeat" where it was silent for too long."""

    def __init__(self, message: str, *, which: str = "attempt") -> None:
        super().__init__(message)
        self.which = which


def silent(step: RunningStep) -> StepTimeout:
    """The error of a step that gave no sign of life for too long."""
    span = step.call.options.heartbeat_timeout
    assert span is not None
    return StepTimeout(
        f"the step gave no sign of life for its heartbeat_timeout of {span.total_seconds():g} s.", which="heartbeat"
    )


def _own_traceback(error: BaseException) -> Any:
    """The traceback without the engine's own frames at its outer end."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in _OWN_FILES and trace.tb_next is not None:
        trace = trace.tb_next
    return trace
