"""Leading a body through its record; and doing nothing but that, to see whether code fits."""

from __future__ import annotations

from collections.abc import Callable

from kagzi.authoring.definitions import Definition
from kagzi.engine.body import Body, kind_of
from kagzi.engine.deliveries import decode_record
from kagzi.engine.endings import continuation_in
from kagzi.engine.history import History
from kagzi.engine.loop import WorkflowSpins
from kagzi.engine.mailbox import message_of
from kagzi.engine.mentions import names_in
from kagzi.errors import DivergenceError
from kagzi.model.claim import Claim
from kagzi.model.run import RunStatus, StoredRun
from kagzi.model.step import StepKind
from kagzi.payloads import Payloads
from kagzi.rules import failures
from kagzi.rules.divergence import Mismatch, diverged, other_end, spelled

_TOLD = 200


class Replay:
    """A body on its way through the record of its run.

    `drain` runs the body until it is at rest; nothing in here does more than that, or touches the world.
    """

    __slots__ = ("_body", "_claim", "_definition", "_drain", "_history", "_payloads")

    def __init__(
        self,
        claim: Claim,
        definition: Definition,
        history: History,
        body: Body,
        *,
        payloads: Payloads,
        drain: Callable[[], None],
    ) -> None:
        self._claim = claim
        self._definition = definition
        self._history = history
        self._body = body
        self._payloads = payloads
        self._drain = drain

    def lead(self) -> None:
        """Deliver what is recorded, one by one, to a body that is at rest, until the record is used up.

        Raises DivergenceError where nobody asked for what comes next, or where the run parked at the end of its record
        and the code waits there for something else; PayloadError where a result no longer fits its type.
        """
        history, body = self._history, self._body
        while (record := history.peek()) is not None:
            if record.kind is StepKind.MARKER:  # the body knows it from the beginning, or no longer asks for it
                history.advance()
                continue
            if record.kind is StepKind.CANCEL:
                history.advance()
                body.mailbox.received(record.message or 0)
                body.cancel(record.error or "", record.finished_at or self._claim.started_at)
                self._go_on()
                continue
            if record.kind is StepKind.ENDING:
                history.advance()
                body.end()
                assert body.undoing is not None
                body.undoing.begin(record)
                continue
            operation = body.asked.get(record.step_id)
            if record.message is not None:
                body.mailbox.received(record.message)
            if operation is not None and kind_of(operation) is record.kind:
                history.advance()
                body.timers.discard(record.step_id)
                body.receives.pop(record.step_id, None)
                body.writes.pop(record.step_id, None)
                if record.message is not None and body.outcome is not None:  # it came when the body had ended
                    body.mailbox.put_back(message_of(record))
                at = record.finished_at or self._claim.started_at  # a damaged row may have lost its time (P23)
                body.deliver(decode_record(operation, record, self._payloads), at)
                self._go_on()
            elif operation is None and record.step_id in body.withdrawn:
                history.advance()
                if record.message is not None:
                    body.mailbox.put_back(message_of(record))
                if body.undoing is not None:
                    body.undoing.recorded(record, self._payloads)
            else:
                raise self._divergence(history.rest(), parked=False)
        waited = history.missed({step_id: kind_of(asked) for step_id, asked in body.asked.items()})
        if waited is not None:
            raise self._divergence(waited, parked=True)
        body.replaying = False

    def _go_on(self) -> None:
        try:
            self._drain()
        except WorkflowSpins:  # if that is what the run ends with, its undos must be found all the same
            if not self._history.is_ending:
                raise

    def check_result(self, recorded: str | None) -> None:
        """See that the body ends with what the run was completed with. Raises DivergenceError."""
        outcome = self._body.outcome
        ending = "the end of the run"
        if outcome is None:
            raise self._divergence((ending,), parked=False)
        error = None if outcome.cancelled() else outcome.exception()
        if outcome.cancelled() or error is not None:
            raise other_end(ending, _raised(self._body) or "a cancellation")
        where = f"the result of workflow {self._claim.workflow!r}"
        text, _ = self._definition.result.settle(outcome.result(), where=where)
        if self._payloads.show(text) != self._payloads.show(recorded):
            raise other_end("the result that is stored", "another result")

    def check_continued(self) -> None:
        """See that the body ends by continuing as new. Raises DivergenceError."""
        ending = "the end of the run, which continued as new"
        outcome = self._body.outcome
        if outcome is None:
            raise self._divergence((ending,), parked=False)
        error = None if outcome.cancelled() else outcome.exception()
        if error is None or continuation_in(error) is None:
            raise other_end(ending, _raised(self._body) or "another end")

    def _divergence(self, expected: tuple[str, ...], *, parked: bool) -> DivergenceError:
        mismatch = Mismatch(
            matched=self._history.matched(),
            expected=expected,
            found=[spelled(step_id, kind_of(operation)) for step_id, operation in self._body.asked.items()],
            parked=parked,
            is_over=self._body.outcome is not None,
            raised=_raised(self._body),
        )
        return diverged(mismatch, mentions=names_in(self._definition.fn).__contains__)


def _raised(body: Body) -> str:
    """What a body ended with, on one line, where it raised."""
    outcome = body.outcome
    if outcome is None or outcome.cancelled():
        return ""
    error = outcome.exception()
    if error is None:
        return ""
    described = failures.describe(error, now=body.now)
    return " ".join(f"{described.type}: {described.message[:_TOLD]}".split())


def replay(claim: Claim, definition: Definition, payloads: Payloads, *, ended: StoredRun | None = None) -> None:
    """See whether the code of a definition fits a run's record; nothing is executed, recorded or asked for.

    `ended` is the run where it has ended: the code must then end at the end of the record, too, and where the run was
    completed, with the same result. A plain callback only (engine/loop.py).

    Raises DivergenceError, PayloadError where a stored value doesn't fit its type, WorkflowSpins, or what the
    function's call raises where it doesn't take the input.
    """
    history = History(claim)
    defaults = definition.options.step_defaults
    body = Body(
        claim,
        history,
        replaying=True,
        on_withdrawn=_nothing_runs,
        payloads=payloads,
        step_defaults=defaults,
        arguments=definition.arguments,
    )
    try:
        args, kwargs = definition.arguments.decode(claim.input, where=f"the input of workflow {claim.workflow!r}")
        body.begin(definition.fn, args, kwargs)
        body.drain()
        way = Replay(claim, definition, history, body, payloads=payloads, drain=body.drain)
        way.lead()
        if ended is not None and ended.continued_to is not None:
            way.check_continued()
        elif ended is not None and ended.status is RunStatus.COMPLETED:
            way.check_result(ended.output)
    finally:
        body.leave()
        outcome = body.outcome
        if outcome is not None and not outcome.cancelled():
            outcome.exception()  # looked at, or asyncio would complain that nobody has


def _nothing_runs(step_id: str) -> None:
    """A step that the body cancels: none has been started."""
