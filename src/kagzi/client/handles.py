"""`WorkflowHandle`: a hold on one run, wherever it is executed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

from kagzi.authoring.definitions import Definition
from kagzi.authoring.durations import Duration, as_duration
from kagzi.authoring.names import check_name
from kagzi.authoring.signals import Signal, Update
from kagzi.client import cancelling, messages, pausing, retrying
from kagzi.client.explaining import describe
from kagzi.client.forking import ForkRequest, fork
from kagzi.client.link import Link
from kagzi.client.views import as_step
from kagzi.client.waiting import Expected
from kagzi.errors import RunNotFound, WorkflowCancelled, WorkflowFailed
from kagzi.model.run import TERMINAL, Run, RunId, RunOutcome, RunStatus, StoredRun
from kagzi.model.step import Step, StoredAttempt
from kagzi.rules.failures import decode_error
from kagzi.store.borrowed.recognizing import borrow

R = TypeVar("R")
T = TypeVar("T")
U = TypeVar("U")


class WorkflowHandle(Generic[R]):
    """A run: wait for its result, look at it."""

    def __init__(
        self,
        link: Link,
        run_id: RunId,
        definition: Definition | None,
        *,
        is_certain: bool = True,
        namespace: str | None = None,
        expected: Expected | None = None,
    ) -> None:
        self._app = link
        self._namespace = namespace or link.settings.namespace
        self._run_id = run_id
        self._is_certain = is_certain
        self._definition = definition
        self._expected = expected

    @property
    def run_id(self) -> str:
        """The run's own id, made by Kagzi."""
        return self._run_id

    @property
    def _link(self) -> Link:
        self._app.check_caller()
        return self._app

    async def result(self, timeout: Duration | None = None) -> R:
        """Wait for the run to end and return its result, for at most `timeout` (seconds or timedelta).

        Raises WorkflowFailed or WorkflowCancelled where it ended so, TimeoutError when the timeout passes (the run goes
        on), RunNotFound where there is no such run.
        """
        limit_s = None if timeout is None else as_duration(timeout, what="timeout").total_seconds()
        try:
            async with asyncio.timeout(limit_s):
                outcome = await self._link.waiting.outcome(
                    self._run_id,
                    certain=self._is_certain,
                    here=self._link.executes(self._run_id),
                    expected=self._expected,
                )
        except TimeoutError:
            raise TimeoutError(
                f"run {self._run_id} did not end within {limit_s:g} s; it goes on, and its result can be awaited again."
            ) from None
        return await self._unwrap(outcome)

    async def signal(
        self, signal: Signal[T], value: T, *, dedup_key: str | None = None, connection: Any = None
    ) -> None:
        """Send the run a signal; returns once it is kept for good.

        Signals are received in the order of their commits, each once, whether the run waits for them already or not.
        `dedup_key` makes it safe to send the same again: the run keeps one for each key. What it has not received when
        it ends is in `describe().undelivered`. With a `connection`, it is sent by your open transaction on it, if that
        commits, as with `Kagzi.options(connection=...)`; the run can write nothing until then, so send last.

        Raises RunClosed where the run has ended, RunNotFound where there is none, PayloadError for a value that does
        not fit the signal's type, ConflictError where another signal or update has the `dedup_key`, OutcomeUnknown
        where the database could not be reached in time.
        """
        borrowed = None if connection is None else borrow(connection)
        await messages.signal(
            self._link,
            self._run_id,
            signal,
            value,
            namespace=self._namespace,
            dedup_key=dedup_key,
            connection=borrowed,
        )

    async def cancel(self, reason: str | None = None, *, connection: Any = None) -> None:
        """Have the run cancelled; returns once that is certain, which is before it has ended.

        A run that no worker has begun is CANCELLED at once. In any other, `CancelledError` is raised where its body
        awaits, and its steps under way are stopped; what its `finally` blocks await may take KAGZI_CANCEL_GRACE, then
        it is CANCELLED all the same. A body that catches the error and returns is COMPLETED. No attempt follows.

        With a `connection`, it is cancelled by your open transaction on it, if that commits, as with
        `Kagzi.options(connection=...)`; the run can write nothing until then, so cancel last.

        Idempotent: a run that was cancelled before stays so, with its first reason. Raises RunClosed where it had ended
        without being asked to, RunNotFound where there is none, OutcomeUnknown where the database could not be reached
        in time.
        """
        borrowed = None if connection is None else borrow(connection)
        await cancelling.cancel(self._link, self._run_id, namespace=self._namespace, reason=reason, connection=borrowed)

    async def terminate(self, reason: str | None = None, *, connection: Any = None) -> None:
        """Make the run CANCELLED now, without asking its body: nothing of it is executed any more, no `finally` either.

        A step that is being executed is stopped once its worker hears of it, with its next heartbeat at the latest. A
        `connection` is as for `cancel`. Idempotent, also after `cancel`. Raises RunClosed, RunNotFound and
        OutcomeUnknown as `cancel` does.
        """
        borrowed = None if connection is None else borrow(connection)
        await cancelling.cancel(
            self._link, self._run_id, namespace=self._namespace, reason=reason, at_once=True, connection=borrowed
        )

    async def retry(self) -> None:
        """Have a run that is FAILED or CANCELLED go on, in a new attempt; returns once that is certain.

        Its steps that were completed keep their results; what failed is executed anew, with all the attempts that its
        policy allows. Its timeout counts anew, and signals that it has not received are still there. `result` waits
        for the new end. Several who saw the run fail, and retry it, have retried it once.

        Raises ConflictError where the run was completed or has not ended, RunNotFound where there is none,
        OutcomeUnknown where the database could not be reached in time.
        """
        await retrying.retry(self._link, self._run_id, namespace=self._namespace)

    async def pause(self, reason: str | None = None) -> None:
        """Have the run rest until `resume`; returns once that is certain, which may be before it rests.

        No worker takes it and it begins no step. Steps that are being executed finish and are kept; the worker that has
        it hears of the pause at once where the database can tell it, with its next heartbeat at the latest. What comes
        meanwhile (signals, ends of children, times to wake) is kept. Its timeouts go on counting. `cancel`, `terminate`
        and a timeout end the pause with the run.

        Idempotent: the first reason stays. Raises RunClosed where the run has ended or was asked to, RunNotFound where
        there is none, OutcomeUnknown where the database could not be reached in time.
        """
        await pausing.pause(self._link, self._run_id, namespace=self._namespace, reason=reason)

    async def resume(self) -> None:
        """Let the run go on after `pause`: what has come meanwhile is seen at once, timers are as they were.

        Idempotent, also for a run that was not paused. Raises RunClosed where it has ended, RunNotFound where there is
        none, OutcomeUnknown where the database could not be reached in time.
        """
        await pausing.resume(self._link, self._run_id, namespace=self._namespace)

    async def fork(
        self,
        *,
        at_step: str,
        input: Any = None,  # noqa: A002 - the public name
        set: Mapping[str, Any] | None = None,  # noqa: A002 - the public name
        id: str | None = None,  # noqa: A002 - the public name
        version: int | None = None,
    ) -> WorkflowHandle[R]:
        """Start a new run with the history of this one up to a step, which is executed anew, and so is what follows.

        `at_step` is the step's name, with its occurrence where it has several (`"charge#2"`), or its whole step_id. The
        run may be open or have ended, and is left as it is. The fork has its version, queue, priority, tags and
        attributes, and its `input` unless another is given (a tuple is all arguments, anything else the only one).
        `set` gives steps of the history other results, by their names. With another `version`, the history must fit
        its code, as with every replay.

        Raises ValueError for a step that is not in the history, or can't be set, ConflictError where another run has
        the `id`, PayloadError for a value that can't be kept, RunNotFound, OutcomeUnknown where the database could not
        be reached in time.
        """
        request = ForkRequest(at_step=at_step, input=input, results=set, id=id, version=version)
        run_id, definition = await fork(self._link, self._run_id, request, namespace=self._namespace)
        return WorkflowHandle(self._app, run_id, definition or self._definition, namespace=self._namespace)

    async def update(
        self, update: Update[T, U], value: T, *, timeout: Duration | None = None, dedup_key: str | None = None
    ) -> U:
        """Send the run an update and wait for its reply, for at most `timeout` (seconds or timedelta).

        It is kept like a signal, and so is the reply: who sends it again with the same `dedup_key` gets the reply to
        the first. Raises RunClosed where the run has ended, or ends without a reply, RunNotFound where there is none,
        PayloadError for a value that does not fit the update's type, TimeoutError when the timeout passes.
        """
        limit = None if timeout is None else as_duration(timeout, what="timeout")
        sent = messages.update(
            self._link,
            self._run_id,
            update,
            value,
            namespace=self._namespace,
            timeout=limit,
            dedup_key=dedup_key,
        )
        return cast(U, await sent)

    async def value(self, key: str, *, type: Any = Any) -> Any:  # noqa: A002 - the public name
        """What the run has published last under a key, whether it is running, asleep or over; None where nothing.

        No worker is needed. Raises RunNotFound where there is no such run, PayloadError where the value does not fit
        the `type`.
        """
        check_name(key, what="the key of a published value")
        text = await self._link.store.value(self._run_id, key)
        if text is None:
            await self._stored()
            return None
        return self._link.payloads.shape(type).decode(text, where=f"the value published as {key!r}")

    async def status(self) -> RunStatus:
        """Where the run stands now."""
        return (await self._stored()).status

    async def describe(self) -> Run:
        """Everything about the run now, payloads included."""
        return await describe(self._link, await self._stored())

    async def history(self) -> list[Step]:
        """The run's operations: finished ones in order, then those under way, each with its executions that failed."""
        store = self._link.store
        steps = await store.steps(self._run_id)
        is_over = False
        if not steps or any(step.seq is None for step in steps):
            is_over = (await self._stored()).status in TERMINAL
        failed: defaultdict[str, list[StoredAttempt]] = defaultdict(list)
        if any(step.error is not None or step.attempts > 1 for step in steps):
            for attempt in await store.attempts(self._run_id):
                failed[attempt.step_id].append(attempt)
        return [
            as_step(step, self._link.payloads, failed=failed.get(step.step_id, ()), is_over=is_over) for step in steps
        ]

    async def _stored(self) -> StoredRun:
        run = await self._link.store.get(self._run_id)
        if run is None:
            raise RunNotFound(self._run_id)
        return run

    async def _unwrap(self, outcome: RunOutcome) -> R:
        if outcome.status is RunStatus.COMPLETED:
            text = outcome.output if outcome.output is not None else "null"
            definition = self._definition or await self._find_definition()
            if definition is None:
                return cast(R, self._link.payloads.show(text))
            where = f"the result of workflow {definition.name!r}"
            return cast(R, definition.result.decode(text, where=where))
        error = decode_error(outcome.error or "")
        if outcome.status is RunStatus.CANCELLED:
            reason = error.context.get("reason")
            raise WorkflowCancelled(self._run_id, reason if isinstance(reason, str) else None)
        raise WorkflowFailed(self._run_id, (await self._stored()).workflow, error)

    async def _find_definition(self) -> Definition | None:
        stored = await self._stored()
        definitions = self._link.definitions
        if not definitions.knows(stored.workflow):
            return None
        return definitions.versions(stored.workflow).get(stored.version)

    def __repr__(self) -> str:
        """Name the run."""
        return f"<WorkflowHandle {self._run_id}>"


def handle_of(link: Link, run_id: Any) -> WorkflowHandle[Any]:
    """A handle on a run by its run_id; whether there is such a run shows when it is used."""
    if not isinstance(run_id, str):
        raise TypeError(f"a run_id is text, not {type(run_id).__name__}.")
    return WorkflowHandle(link, RunId(run_id), None, is_certain=False)
