"""`WorkflowContext`: what a workflow body may do that is more than compute."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from types import MethodType
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar, overload

from kagzi.authoring import together
from kagzi.authoring.calls import Receive, Sleep, StepCall, TransactionCall, Write
from kagzi.authoring.children import ChildCall, ChildHandle, Startable, order_of
from kagzi.authoring.durations import Duration, after, as_duration, as_moment, as_span
from kagzi.authoring.events import Event, EventReceive, as_event, as_key, shown
from kagzi.authoring.facts import RunFacts
from kagzi.authoring.groups import ParallelErrorStrategy, ParallelExecutor
from kagzi.authoring.names import check_name, check_step_name
from kagzi.authoring.options import (
    NO_CHILD_OPTIONS,
    NO_OPTIONS,
    ChildOptions,
    Semantics,
    StepOptions,
    child_options,
    combine,
    step_options,
)
from kagzi.authoring.port import RunPort
from kagzi.authoring.signals import Signal, Update, UpdateRequest, kind_of_message
from kagzi.authoring.undoing import Called, undoable_call
from kagzi.model.child import ParentClose
from kagzi.model.retry import RetryPolicy
from kagzi.model.step import StepKind
from kagzi.rules.retries import RetryIf

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
U = TypeVar("U")


_A_MOMENT_S = 0.001
"""A timeout of nothing still looks whether a message is there: asyncio would be over before anybody could."""


class WorkflowContext(RunFacts):
    """A workflow's door to the world; the first argument of every workflow function.

    All of asyncio that only waits works in a workflow as it is: `gather`, `TaskGroup`, `timeout`, `wait`, `sleep`,
    `Event`, `Queue`, `Lock`. Whatever touches the world belongs in a step.
    """

    __slots__ = ("_child_options", "_options", "_port")

    def __init__(
        self, port: RunPort, *, options: StepOptions = NO_OPTIONS, child_options: ChildOptions = NO_CHILD_OPTIONS
    ) -> None:
        self._port = port
        self._options = options
        self._child_options = child_options

    # -- operations --------------------------------------------------------------------------------------------

    @overload
    def step(
        self, name: str, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> StepCall[R]: ...

    @overload
    def step(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> StepCall[R]: ...

    def step(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> StepCall[Any]:
        """Call `fn(*args, **kwargs)` as a durable step: once its result is stored, it never runs again.

        An `async def` function runs on the worker's event loop, any other in a thread, or in a process where `@step`
        says so. The step's identity, (task, name, occurrence), is fixed by this call; the function starts when the call
        is awaited. Its result comes back through its annotated return type. The await raises `StepFailed` where the
        function raised, `PayloadError` (in `StepFailed`) where its result can't be stored exactly.

        Raises ValueError for a name that is empty, longer than 255 characters, or holds NUL or a lone surrogate.
        """
        check_step_name(name)
        if not callable(fn):
            raise TypeError(
                f"step {name!r} needs a function, not {type(fn).__name__}. "
                f"Give the function and its arguments: ctx.step({name!r}, function, argument)."
            )
        port, options, given = self._port, self._options, args
        behind = getattr(fn, "__kagzi_step__", None)  # of a function marked with @step
        if behind is not None:
            options = combine(options, behind)
            if type(fn) is MethodType:  # whose `__wrapped__` is the function without its object
                args = (fn.__self__, *args)
            fn = fn.__wrapped__  # type: ignore[attr-defined] # outside of a body they are the same
        if port.step_defaults is not NO_OPTIONS:
            options = combine(options, port.step_defaults)
        if options is not NO_OPTIONS and options.undo is not None:
            return undoable_call(port, Called(name, fn, args, kwargs, options, given))
        call: StepCall[Any] = StepCall(  # type: ignore[abstract] # only for type checkers: see calls.py
            port, port.identify(name), name, fn, args, kwargs, options
        )
        port.created(call)
        return call

    @overload
    def transaction(
        self, name: str, fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> StepCall[R]: ...

    @overload
    def transaction(
        self, name: str, fn: Callable[Concatenate[Any, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> StepCall[R]: ...

    def transaction(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> StepCall[Any]:
        """Call `fn(conn, *args, **kwargs)` in a transaction that also writes its checkpoint: what it does with `conn`
        happens exactly once.

        On PostgreSQL `fn` is `async def` and `conn` an asyncpg connection, READ COMMITTED. On SQLite `fn` is a plain
        function, and `conn` has `execute(sql, args)` and `executemany`; every other writer waits while it runs. Both
        commit when `fn` returns; where it raises, all is undone and the step has failed, to be executed again as its
        `retry` says. A transaction that the database undid by itself, such as one in a deadlock, fails like any other.

        Raises what `step` raises.
        """
        check_name(name, what="the name of a transaction")
        if not callable(fn):
            raise TypeError(
                f"transaction {name!r} needs a function, not {type(fn).__name__}. "
                f"Give the function and its arguments: ctx.transaction({name!r}, function, argument)."
            )
        port = self._port
        options = combine(self._options, port.step_defaults)
        if options.undo is not None:
            return undoable_call(port, Called(name, fn, args, kwargs, options, args), in_transaction=True)
        call: TransactionCall[Any] = TransactionCall(  # type: ignore[abstract] # only for type checkers: see calls.py
            port, port.identify(name), name, fn, args, kwargs, options
        )
        port.created(call)
        return call

    async def sleep(self, name: str, duration: Duration) -> None:
        """Sleep for `duration` (seconds or timedelta), through crashes and deploys, holding nothing while it is long.

        Never shorter than asked. Raises ValueError for a duration that is negative or goes beyond the year 9999.
        """
        span = as_duration(duration, what=f"the duration of sleep {name!r}")
        await self._sleep(name, after(self._port.now, span, what=f"the duration of sleep {name!r}"))

    async def sleep_until(self, name: str, when: datetime) -> None:
        """Sleep until the aware datetime `when`; a moment that has passed already is over at once, and recorded.

        Raises ValueError for a naive datetime.
        """
        await self._sleep(name, as_moment(when, what=f"the end of sleep {name!r}"))

    async def _sleep(self, name: str, due: datetime) -> None:
        check_name(name, what="the name of a sleep")
        sleep = Sleep(self._port, self._port.identify(name), due)
        self._port.ask_sleep(sleep)
        await sleep

    @overload
    async def wait_for(self, signal: Signal[T], timeout: Duration | None = None) -> T: ...

    @overload
    async def wait_for(self, signal: Update[T, U], timeout: Duration | None = None) -> UpdateRequest[T, U]: ...

    async def wait_for(self, signal: Signal[Any] | Update[Any, Any], timeout: Duration | None = None) -> Any:
        """Receive the next message of `signal`, through crashes and deploys, holding nothing while it takes long.

        A message that came before the wait is there at once; they are received in the order in which they were
        committed, each once. Waits side by side, races and `asyncio.timeout` are plain asyncio: a message whose wait
        was cancelled stays for the next. One that is there goes before a timeout, even of 0. An `Update` gives a
        request with its `value`, to be answered by `reply`.

        Raises TimeoutError where none came within `timeout` (seconds or timedelta), PayloadError where the message does
        not fit the signal's type, ConfigError where nothing could be of that type, TypeError for what is no signal.
        """
        what = f"{kind_of_message(signal).lower()} {signal.name!r}"
        return await self._bounded(lambda: self._receive(signal), what, timeout)

    def _receive(self, wanted: Signal[Any] | Update[Any, Any]) -> Receive[Any]:
        port, unpack = self._port, None
        port.check_type(wanted.type)
        if isinstance(wanted, Update):
            port.check_type(wanted.reply_type)
            update = wanted

            def unpack(value: Any, position: int) -> UpdateRequest[Any, Any]:
                return UpdateRequest(port, update, position, value)

        kind, step_id = kind_of_message(wanted), port.identify(wanted.name)
        receive: Receive[Any] = Receive(port, step_id, kind, wanted.name, wanted.type, unpack)
        port.ask_receive(receive)
        return receive

    @overload
    async def wait_for_event(
        self,
        event: Event[T],
        *,
        key: str | None = None,
        timeout: Duration | None = None,
        lookback: Duration | None = None,
    ) -> T: ...

    @overload
    async def wait_for_event(
        self, event: str, *, key: str | None = None, timeout: Duration | None = None, lookback: Duration | None = None
    ) -> Any: ...

    async def wait_for_event(
        self,
        event: Event[Any] | str,
        *,
        key: str | None = None,
        timeout: Duration | None = None,
        lookback: Duration | None = None,
    ) -> Any:
        """Wait for the next event of a name, and return what it carries; every run that waits for it gets it.

        With a `key`, for one that was emitted with this key; without, for any. With a `lookback` (seconds or
        timedelta), one counts as well that came so long before the wait began, unless this run has received it: waits
        in a loop that look back get each event once, the earliest first. One that is there goes before a timeout, even
        of 0. It holds nothing while it takes long.

        Raises TimeoutError where none came within `timeout` (seconds or timedelta), PayloadError where what came does
        not fit the event's type, ConfigError where nothing could be of that type.
        """
        wanted = as_event(event)
        of_key = as_key(key, wanted)
        back = timedelta(0) if lookback is None else as_span(lookback, what=f"the lookback of {wanted.name!r}")
        return await self._bounded(lambda: self._receive_event(wanted, of_key, back), shown(wanted, of_key), timeout)

    def _receive_event(self, event: Event[T], key: str, lookback: timedelta) -> EventReceive[T]:
        port = self._port
        port.check_type(event.type)
        receive: EventReceive[T] = EventReceive(port, port.identify(event.name), event, key=key, lookback=lookback)
        port.ask_receive(receive)
        return receive

    async def _bounded(self, ask: Callable[[], Awaitable[T]], shown: str, timeout: Duration | None) -> T:
        """Ask for a message and wait for it. Raises TimeoutError, naming what was `shown`."""
        what = f"the timeout of {shown}"
        limit = None if timeout is None else as_duration(timeout, what=what)
        if limit is None:
            return await ask()
        after(self._port.now, limit, what=what)
        bound = asyncio.timeout(max(limit.total_seconds(), _A_MOMENT_S))
        try:
            async with bound:
                return await ask()
        except TimeoutError:
            if not bound.expired():
                raise
            raise TimeoutError(f"no {shown} came within {limit}.") from None

    @overload
    def child(self, name: str, workflow: Startable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> ChildCall[R]: ...

    @overload
    def child(self, name: str, workflow: str, /, *args: Any, **kwargs: Any) -> ChildCall[Any]: ...

    def child(self, name: str, workflow: Any, /, *args: Any, **kwargs: Any) -> ChildCall[Any]:
        """Run a workflow, or the workflow of that name, as a child, and wait for its result, holding nothing meanwhile.

        It starts when the call is awaited, once whatever crashes. A wait that is given up (a timeout, a lost race, a
        failed group) gives the child up too, as its `parent_close` says. `ctx.options` has its `id`, `queue` (by
        default the parent's), `version`, `parent_close`, and `timeout` from its start to its end.

        The await raises ChildFailed where it failed or was cancelled, ConflictError where another run has its id, even
        one of the same workflow and input.
        Raises ValueError for a name that can't be kept, PayloadError for an argument that can't be stored exactly,
        TypeError for `undo`.
        """
        return self._call_child(name, workflow, args, kwargs, starts_only=False)

    @overload
    async def start_child(
        self, name: str, workflow: Startable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> ChildHandle[R]: ...

    @overload
    async def start_child(self, name: str, workflow: str, /, *args: Any, **kwargs: Any) -> ChildHandle[Any]: ...

    async def start_child(self, name: str, workflow: Any, /, *args: Any, **kwargs: Any) -> ChildHandle[Any]:
        """Start a child and go on beside it; returns once it is stored for good. Otherwise as `child`."""
        call = self._call_child(name, workflow, args, kwargs, starts_only=True)
        return ChildHandle(self._port, name, await call, call.order)

    def _call_child(
        self, name: str, workflow: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, starts_only: bool
    ) -> ChildCall[Any]:
        check_name(name, what="the name of a child")
        port, options = self._port, self._options
        if options.undo is not None:
            raise TypeError(
                f"child {name!r} can't have an undo, which is for steps and transactions. Where it fails, the steps of "
                "its own are undone; what undoes it once it is completed, call as a step."
            )
        order = order_of(port, workflow, args, kwargs, self._child_options, timeout=options.timeout)
        call: ChildCall[Any] = ChildCall(  # type: ignore[abstract] # only for type checkers: see calls.py
            port, port.identify(name), name, order, starts_only=starts_only
        )
        port.created(call)
        return call

    async def publish(self, key: str, value: Any, *, type: Any = Any) -> None:  # noqa: A002 - the public name
        """Show a value under a key, in the place of the one before; `handle.value(key)` reads it without a worker.

        Without a `type` it must be a JSON value. Returns once it is kept for good. Raises PayloadError for a value that
        can't be kept exactly, ValueError for a key that can't be.
        """
        check_name(key, what="the key of a published value")
        text = self._port.encode(type, value, where=f"the value published as {key!r}")
        write = Write(self._port, self._port.identify(key), StepKind.VALUE, text, key=key)
        self._port.ask_write(write)
        await write

    def options(
        self,
        *,
        retry: RetryPolicy | None = None,
        retry_if: RetryIf | None = None,
        timeout: Duration | None = None,
        total_timeout: Duration | None = None,
        key: str | None = None,
        undo: Callable[..., Any] | None = None,
        heartbeat_timeout: Duration | None = None,
        semantics: Semantics | None = None,
        reconcile: Callable[..., Any] | None = None,
        id: str | None = None,  # noqa: A002 - the public name
        queue: str | None = None,
        version: int | None = None,
        parent_close: ParentClose | None = None,
    ) -> WorkflowContext:
        """Return a context like this one whose steps and children have these options; those given here win.

        `retry`: how often and how far apart a failing step is executed again; without one it fails at once.
        `retry_if`: after which errors; by default after those that can pass by themselves. `timeout`: how long one
        execution of a step's function may take; it then fails with kind TIMEOUT. `total_timeout`: how long
        all its executions may take together with the waits between them, counted from the call, through crashes; the
        first has all of it in any case. `key`: what `step_info()` gives as idempotency key instead of the step's own.
        `undo`: called as `undo(result, *args, **kwargs)`, with the step's result and what the step was called with,
        where the step was completed and the run then fails or is cancelled; see docs/guides/undo.md.

        `heartbeat_timeout`: an execution that does not call `step_info().heartbeat()` for so long is ended, with kind
        TIMEOUT, and made again as `retry` says, by default up to five times. `semantics="at_most_once"`: an execution
        is marked durably before it begins; where it was interrupted the await raises StepInterrupted, or `reconcile` is
        called with the step's arguments, as a step's function is, and returns the step's result, or NOT_EXECUTED where
        it did not happen and can't any more: then the step is executed. A `reconcile` that raises is called again as
        `retry` says, and then the await raises StepInterrupted.

        Of children: `id`, `queue`, `version` and `timeout` are as in `Workflow.options`; `parent_close` is what becomes
        of a child that is open when this run ends: it is asked to end (CANCEL, the default), ended (TERMINATE), or goes
        on (ABANDON).

        Raises TypeError or ValueError naming the option that can't be.
        """
        given = step_options(
            retry=retry,
            retry_if=retry_if,
            timeout=timeout,
            total_timeout=total_timeout,
            key=key,
            undo=undo,
            heartbeat_timeout=heartbeat_timeout,
            semantics=semantics,
            reconcile=reconcile,
        )
        children = child_options(self._child_options, id=id, queue=queue, version=version, parent_close=parent_close)
        return WorkflowContext(self._port, options=combine(given, self._options), child_options=children)

    gather = together.gather
    race = together.race
    map = together.map_items
    as_completed = together.as_completed

    def parallel(
        self,
        group: str = "parallel",
        on_error: ParallelErrorStrategy = ParallelErrorStrategy.FAIL_FAST,
        max_concurrency: int | None = None,
    ) -> ParallelExecutor:
        """Open a group of branches that run at the same time, at most `max_concurrency` of them.

        FAIL_FAST: the first failure cancels the others and is raised at the end of the block. COLLECT_ALL: all run to
        their end, and `results` tells how. Branches are named within the group, so a group moves no identity outside.
        """
        return ParallelExecutor(self, group, on_error, max_concurrency)

    # -- starting afresh ---------------------------------------------------------------------------------------

    def continue_as_new(self, *args: Any, **kwargs: Any) -> NoReturn:
        """End this run here and have another take its place, with these arguments and without a history.

        For bodies that go on for ever. What follows is one commit: the new run has the same id, queue, priority, tags,
        attributes, parent and deadline, and the signals that this one has not received; `options(version=...)` gives it
        another version. Whoever waits for this run's result waits for the last of the chain. Children that are still
        open are dealt with as at any end of a run.

        It raises `ContinueAsNew`, which `except Exception` does not catch; `finally` blocks are gone through first. A
        run that is being cancelled ends all the same. Raises KagziError outside of the body itself, such as in a step
        or a task; TypeError or PayloadError for arguments that the workflow does not take.
        """
        self._port.continue_as_new(args, kwargs, version=self._child_options.version)

    # -- changing code under running runs ----------------------------------------------------------------------

    def patched(self, change_id: str) -> bool:
        """Whether this run takes the changed path: True where it comes here first with this code, and ever after.

        False in a run that had been further than this before the change was deployed: it must go on as it began. One
        id has one answer for the whole life of a run, wherever and however often it is asked for.

        if ctx.patched("charge-by-card"): await ctx.step("charge-card", ...)
        else: await ctx.step("charge", ...)

        Raises ValueError for an id that is empty, longer than 255 characters, or holds NUL or a lone surrogate.
        """
        return self._port.patched(check_name(change_id, what="the id of a change"))

    def deprecate_patch(self, change_id: str) -> None:
        """Stand where `patched` stood once no run needs the old path any more.

        Runs that come here are marked as `patched` marks them, so code that still has both paths beside this one sends
        them on the new one. Once none of that is deployed this line can go, too.

        Raises ValueError as `patched` does.
        """
        self.patched(change_id)
