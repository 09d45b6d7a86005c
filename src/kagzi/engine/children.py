"""The children of one run in memory: started, awaited, received."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Protocol

from kagzi.authoring.children import ChildCall, ChildResult
from kagzi.engine.body import Body
from kagzi.engine.consequences import Begun, Consequence
from kagzi.engine.nobody import NOBODY
from kagzi.engine.recording import Recorder
from kagzi.errors import ConflictError, StoreUnavailable
from kagzi.ids import new_id
from kagzi.model.change import Change
from kagzi.model.child import Forsaken, ParentClose
from kagzi.model.claim import Claim
from kagzi.model.run import MessageKind, RunId
from kagzi.model.step import StepKind, StepRecord
from kagzi.rules.children import decode_outcome, error_of

_PAUSE_S = 0.5


class Starts(Protocol):
    """Who knows which version of a workflow gets new runs."""

    @property
    def namespace(self) -> str:
        """Where the run and its children are."""

    def give_up(self, child: Forsaken, then: Callable[[], None]) -> None:
        """Have a child ended, or asked to end, and `then` called, as a plain callback, once that is durable."""

    async def version_to_start(self, workflow: str, asked: int | None) -> int:
        """The version that a new run gets. Raises WorkflowNotRegistered, VersionNotFound or StoreUnavailable."""

    async def cancel_asked_at(self, run_id: RunId) -> datetime | None:
        """When a run, or the last of its chain, was asked to end; None where it was not. Raises StoreUnavailable."""


class Owner(Protocol):
    """The execution whose children they are."""

    @property
    def may_go_on(self) -> bool:
        """Whether it still begins things."""

    def submit(self, change: Change, consequence: Consequence) -> None:
        """Have a change committed."""

    def go_on(self) -> None:
        """Look what is to be done now."""


class Children:
    """`awaited` are the operations that wait for a child to end, by the child's run_id.

    `ctx.child` that is given up gives its child up: whoever executes the run comes to the same place of the record, so
    that it happens whatever crashes, and before the run leaves memory.
    """

    __slots__ = (
        *("_begun", "_body", "_claim", "_given_up", "_looking", "_owner", "_recorder", "_resolving", "_starts"),
        "awaited",
    )

    def __init__(self, owner: Owner, claim: Claim, body: Body, recorder: Recorder, starts: Starts) -> None:
        self._owner = owner
        self._claim = claim
        self._body = body
        self._recorder = recorder
        self._starts = starts
        self._begun = dict(claim.children)
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._looking: dict[str, ChildCall[Any]] = {}
        self._given_up = 0
        self.awaited: dict[RunId, ChildCall[Any] | ChildResult[Any]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether a child is about to be started, or to be told that it was given up."""
        return bool(self._resolving) or self._given_up > 0

    @property
    def were_begun(self) -> bool:
        """Whether children were started, as far as is known here."""
        return bool(self._begun) or any(record.child_run_id is not None for record in self._claim.history)

    def describe(self) -> Iterator[str]:
        """What the run waits for, for people to see."""
        return (f"child {each.name!r} ({run_id})" for run_id, each in self.awaited.items())

    def take_up(self, *, only_again: bool = False) -> None:
        """Start what the body has called, or await what was started before; or only hand out what earlier attempts of
        the run have recorded. A plain callback only."""
        body = self._body
        fresh, body.fresh_children = body.fresh_children, []
        for operation in fresh:
            if body.asked.get(operation.step_id) is not operation:
                if isinstance(operation, ChildCall) and operation.cancelled():
                    self._give_up(operation)
                continue
            earlier = self._recorded_earlier(operation) if self._recorder.has_earlier else None
            if earlier is not None:
                self._owner.submit(*self._recorder.child_again(operation, earlier))
            elif only_again:
                body.fresh_children.append(operation)
            elif isinstance(operation, ChildResult):
                self.awaited[RunId(operation.child_run_id)] = operation
            else:
                self._take_up(operation)

    def _recorded_earlier(self, operation: ChildCall[Any] | ChildResult[Any]) -> StepRecord | None:
        """What an earlier attempt of the run has recorded of a child, where that counts for this one."""
        if isinstance(operation, ChildResult):
            outcome = self._recorder.outcome_recorded_earlier(RunId(operation.child_run_id))
            return None if outcome is None or self._went_on(outcome) else outcome
        earlier = self._recorder.finished_earlier(operation.step_id, StepKind.CHILD)
        if earlier is None or self._went_on(earlier):
            return None
        # With an id of its own there can be no other run: it is the one that has failed.
        if operation.order.options.id is not None:
            return earlier
        run_id = earlier.child_run_id
        is_in_vain = self._recorder.child_failed(earlier) or (run_id is not None and self._ended_in_vain(run_id))
        return None if is_in_vain else earlier

    def _take_up(self, call: ChildCall[Any]) -> None:
        earlier = self._recorder.finished_earlier(call.step_id, StepKind.CHILD)
        if earlier is not None and earlier.child_run_id is not None and self._went_on(earlier):
            self._started(call, earlier.child_run_id)
            return
        run_id = self._begun.get(call.step_id)
        is_left_open = call.step_id in self._claim.left_open and call.order.options.id is None
        if run_id is None or (is_left_open and self._ended_in_vain(run_id)):
            self._resolving[call.step_id] = asyncio.get_running_loop().create_task(self._resolve(call))
        elif is_left_open and self._claim.children[call.step_id] == run_id:
            self._looking[call.step_id] = call
            self._resolving[call.step_id] = asyncio.get_running_loop().create_task(self._look_for(call, run_id))
        else:
            self._started(call, run_id)

    def _went_on(self, earlier: StepRecord) -> bool:
        """Whether a child that had failed was retried by hand since then, and has ended well."""
        run_id = earlier.child_run_id
        message = None if run_id is None else self._body.mailbox.peek(MessageKind.CHILD, run_id)
        return message is not None and error_of(decode_outcome(message.payload)) is None

    def _ended_in_vain(self, run_id: RunId) -> bool:
        """Whether a child failed, or was ended with its parent, before this attempt of the run began, and nobody has
        heard of it."""
        message = self._body.mailbox.peek(MessageKind.CHILD, run_id)
        return (
            message is not None
            and message.created_at <= self._claim.started_at
            and error_of(decode_outcome(message.payload)) is not None
        )

    async def _look_for(self, call: ChildCall[Any], run_id: RunId) -> None:
        """Await a child that an earlier attempt of the run has left open, unless it was asked to end by then."""
        while True:
            try:
                asked_at = await self._starts.cancel_asked_at(run_id)
            except StoreUnavailable:
                await asyncio.sleep(_PAUSE_S)
                continue
            break
        if asked_at is not None and asked_at <= self._claim.started_at:
            del self._looking[call.step_id]
            await self._resolve(call)
        else:
            asyncio.get_running_loop().call_soon(self._found, call, run_id)

    def _found(self, call: ChildCall[Any], run_id: RunId) -> None:
        if self._resolving.pop(call.step_id, None) is not None:
            del self._looking[call.step_id]
            self._started(call, run_id)
            self._owner.go_on()

    async def _resolve(self, call: ChildCall[Any]) -> None:
        order = call.order
        answer: int | Exception
        while True:
            try:
                answer = await self._starts.version_to_start(order.workflow, order.options.version)
            except StoreUnavailable:
                await asyncio.sleep(_PAUSE_S)  # the run is ours as long as the lease says so
                continue
            except Exception as error:
                answer = error
            break
        # A plain callback: a body must not be drained inside a task (engine/loop.py).
        asyncio.get_running_loop().call_soon(self._resolved, call, answer)

    def _resolved(self, call: ChildCall[Any], answer: int | Exception) -> None:
        if self._resolving.pop(call.step_id, None) is None:
            return
        if not self._owner.may_go_on:
            self._body.fresh_children.append(call)  # for when it goes on all the same
            self._owner.go_on()
            return
        if isinstance(answer, Exception):
            self._owner.submit(*self._recorder.child_refused(call, answer))
            return
        run_id = RunId(new_id())
        change = self._recorder.child_start(call, run_id, version=answer, namespace=self._starts.namespace)
        self._owner.submit(change, Begun(call, run_id))

    def begun(self, begun: Begun, *, taken: bool) -> None:
        """A child's start is durable, or another run has its id."""
        call = begun.call
        if taken:
            own_id = call.order.options.id or ""
            error = ConflictError(
                f"a run with the id {own_id!r} exists already, so child {call.name!r} was not started. "
                "Use another id; to await a run that is no child, start it and ask for its result in a step.",
                id=own_id,
                run_id="",
            )
            self._owner.submit(*self._recorder.child_refused(call, error))
            return
        self._begun[call.step_id] = begun.run_id
        if self._body.asked.get(call.step_id) is call:
            self._started(call, begun.run_id)
        elif call.cancelled():
            self._give_up(call)

    def _started(self, call: ChildCall[Any], run_id: RunId) -> None:
        if call.starts_only:
            self._owner.submit(*self._recorder.child_started(call, run_id))
        else:
            self.awaited[run_id] = call

    def receive(self) -> None:
        """Give the outcomes that have come to whoever waits for them."""
        mailbox, awaited = self._body.mailbox, self.awaited
        # Whichever are fewer: a thousand may be waited for while they end one by one, or have ended before their turn.
        come = list(awaited) if len(awaited) < len(mailbox) else mailbox.names(MessageKind.CHILD)
        for name in come:
            run_id = RunId(name)
            if run_id not in awaited or (message := mailbox.take(MessageKind.CHILD, name)) is None:
                continue
            self._owner.submit(*self._recorder.child_ended(awaited.pop(run_id), message))

    def withdrawn(self, step_id: str) -> None:
        """The body waits for an operation no more."""
        task = self._resolving.pop(step_id, None)
        if task is not None:
            task.cancel()
        if (call := self._looking.pop(step_id, None)) is not None:
            self._give_up(call)
        run_id = self._begun.get(step_id)
        operation = None if run_id is None else self.awaited.pop(run_id, None)
        if isinstance(operation, ChildCall):
            self._give_up(operation)

    def _give_up(self, call: ChildCall[Any]) -> None:
        """Do with a child that nobody awaits any more what its `parent_close` says."""
        run_id, policy = self._begun.get(call.step_id), call.order.options.parent_close
        if run_id is None or policy is ParentClose.ABANDON or self._body.mailbox.peek(MessageKind.CHILD, run_id):
            return
        child = Forsaken(run_id=run_id, parent_run_id=self._claim.run_id, at_once=policy is ParentClose.TERMINATE)
        self._given_up += 1
        self._starts.give_up(child, self._was_given_up)

    def _was_given_up(self) -> None:
        self._given_up -= 1
        self._owner.go_on()

    def leave(self) -> None:
        """Begin nothing more."""
        for task in self._resolving.values():
            task.cancel()
        self._resolving.clear()

    def let_go(self) -> None:
        """Lead back to the execution no more: it has left memory."""
        self._owner = NOBODY
