"""The children of one run in memory: started, awaited, received."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Protocol

from kagzi.authoring.children import ChildCall, ChildResult
from kagzi.engine.body import Body
from kagzi.engine.recording import Begun, Consequence, Recorder
from kagzi.errors import ConflictError, StoreUnavailable
from kagzi.ids import new_id
from kagzi.model.change import Change
from kagzi.model.claim import Claim
from kagzi.model.run import MessageKind, RunId
from kagzi.model.step import StepKind
from kagzi.rules.children import decode_outcome, error_of

_PAUSE_S = 0.5


class Starts(Protocol):
    """Who knows which version of a workflow gets new runs."""

    @property
    def namespace(self) -> str:
        """Where the run and its children are."""

    async def version_to_start(self, workflow: str, asked: int | None) -> int:
        """The version that a new run gets. Raises WorkflowNotRegistered, VersionNotFound or StoreUnavailable."""


class Owner(Protocol):
    """The execution whose children they are."""

    @property
    def may_go_on(self) -> bool:
        """Whether it still begins things."""

    def submit(self, change: Change, consequence: Consequence) -> None:
        """Have a change committed."""


class Children:
    """`awaited` are the operations that wait for a child to end, by the child's run_id."""

    __slots__ = ("_begun", "_body", "_claim", "_owner", "_recorder", "_resolving", "_starts", "awaited")

    def __init__(self, owner: Owner, claim: Claim, body: Body, recorder: Recorder, starts: Starts) -> None:
        self._owner = owner
        self._claim = claim
        self._body = body
        self._recorder = recorder
        self._starts = starts
        self._begun = dict(claim.children)
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self.awaited: dict[RunId, ChildCall[Any] | ChildResult[Any]] = {}

    @property
    def is_starting(self) -> bool:
        """Whether a child is about to be started."""
        return bool(self._resolving)

    def describe(self, limit: int) -> list[str]:
        """What the run waits for, for people to see."""
        return [f"child {each.name!r} ({run_id})" for run_id, each in itertools.islice(self.awaited.items(), limit)]

    def take_up(self) -> None:
        """Start what the body has called, or await what was started before. A plain callback only."""
        body = self._body
        fresh, body.fresh_children = body.fresh_children, []
        for operation in fresh:
            if body.asked.get(operation.step_id) is not operation:
                continue
            if isinstance(operation, ChildResult):
                self._await(operation)
            else:
                self._take_up(operation)

    def _take_up(self, call: ChildCall[Any]) -> None:
        earlier = self._recorder.finished_earlier(call.step_id, StepKind.CHILD)
        # With an id of its own there can be no other run: it is the one that has failed.
        if earlier is not None and (call.order.options.id is not None or not self._recorder.child_failed(earlier)):
            self._owner.submit(*self._recorder.child_again(call, earlier))
            return
        run_id = self._begun.get(call.step_id)
        if run_id is None or self._ended_in_vain(run_id):
            task = asyncio.get_running_loop().create_task(self._resolve(call))
            self._resolving[call.step_id] = task
        else:
            self._started(call, run_id)

    def _ended_in_vain(self, run_id: RunId) -> bool:
        """Whether a child failed, or was ended with its parent, before this attempt of the run began."""
        message = self._body.mailbox.peek(MessageKind.CHILD, run_id) if self._claim.reopened_seq else None
        return message is not None and error_of(decode_outcome(message.payload)) is not None

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
        if self._resolving.pop(call.step_id, None) is None or not self._owner.may_go_on:
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

    def _started(self, call: ChildCall[Any], run_id: RunId) -> None:
        if call.starts_only:
            self._owner.submit(*self._recorder.child_started(call, run_id))
        else:
            self.awaited[run_id] = call

    def _await(self, result: ChildResult[Any]) -> None:
        run_id = RunId(result.child_run_id)
        earlier = self._recorder.outcome_recorded_earlier(run_id)
        if earlier is not None:
            self._owner.submit(*self._recorder.child_again(result, earlier))
        else:
            self.awaited[run_id] = result

    def receive(self) -> None:
        """Give the outcomes that have come to whoever waits for them."""
        mailbox = self._body.mailbox
        for name in mailbox.names(MessageKind.CHILD):
            operation = self.awaited.pop(RunId(name), None)
            message = None if operation is None else mailbox.take(MessageKind.CHILD, name)
            if operation is not None and message is not None:
                self._owner.submit(*self._recorder.child_ended(operation, message))

    def withdrawn(self, step_id: str) -> None:
        """The body waits for an operation no more."""
        task = self._resolving.pop(step_id, None)
        if task is not None:
            task.cancel()
        for run_id in [run_id for run_id, each in self.awaited.items() if each.step_id == step_id]:
            del self.awaited[run_id]

    def leave(self) -> None:
        """Begin nothing more."""
        for task in self._resolving.values():
            task.cancel()
        self._resolving.clear()
