"""One run in memory: its body is replayed, its operations are executed and made durable, until it ends or parks.

The way of a step: `ask` -> the runner calls its function -> `settled` encodes the result and submits a checkpoint ->
the journal commits -> `committed` -> `_pump` delivers it and drains the body, which asks for the next.

One completion is delivered at a time, in the order of `seq`, and only once durable; a replay therefore sees the very
same interleaving. Everything here runs in plain callbacks of the worker's event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from kagzi.authoring.calls import StepCall
from kagzi.authoring.definitions import Definition
from kagzi.clock import monotonic
from kagzi.engine.body import Body
from kagzi.engine.concluding import Concluding
from kagzi.engine.consequences import Begun, Consequence, Ended, Marked, Order, PutBack, Receipt, Retry
from kagzi.engine.deliveries import Delivery
from kagzi.engine.endings import Ending, ending_of, stuck
from kagzi.engine.history import History
from kagzi.engine.host import Host
from kagzi.engine.loop import WorkflowSpins
from kagzi.engine.recording import Recorder
from kagzi.engine.replaying import Replay
from kagzi.errors import KagziError
from kagzi.model.change import Applied, Change
from kagzi.model.claim import Claim
from kagzi.model.message import CANCEL, Message
from kagzi.model.run import MessageKind
from kagzi.model.step import StepKind

logger = logging.getLogger("kagzi.execution")

_LONG_RECORD = 20
"""Records from which on a parent waits in memory for the next of its children. Below, coming back costs nothing."""

_PATIENCE = timedelta(milliseconds=1)
"""How much longer a run stays in memory for each record. To come back it replays them, at about 30 µs each: a group of
ten thousand timers that fire one after the other would otherwise do little else."""


class Execution(Concluding):
    """A run in memory, from its claim to its end here."""

    is_pausing = False

    def __init__(self, host: Host, claim: Claim, definition: Definition) -> None:
        # A run that parked or was released before its first record has gone this way before, and has logged on it.
        self._live = not claim.history and claim.fence == 1
        history = History(claim)
        body = Body(
            claim,
            history,
            replaying=not self._live,
            on_withdrawn=self._withdrawn,
            payloads=host.payloads,
            step_defaults=definition.options.step_defaults,
            arguments=definition.arguments,
        )
        super().__init__(host, claim, definition, history, body, Recorder(claim, host))

    # -- life --------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the body and go as far as the record, and then the world, allows. A plain callback only."""
        try:
            where = f"the input of workflow {self.workflow!r}"
            args, kwargs = self._definition.arguments.decode(self._claim.input, where=where)
            self._body.begin(self._definition.fn, args, kwargs)
        except Exception as error:  # nearly always: the function's parameters are not those of the start
            if self._recorder.seq or self._claim.parked is not None:  # they were once, so it's the code's fault (P16)
                self._set_aside(error)
            else:
                self._fail(error)
            return
        self._pump()

    @property
    def is_over(self) -> bool:
        """Whether the run has left memory."""
        return self._over

    @property
    def has_recorded(self) -> bool:
        """Whether something has been recorded since the claim, and all that was submitted is durable."""
        return self._recorder.seq > self._history.last_seq and not self.is_writing

    @property
    def is_settling(self) -> bool:
        """Whether a step's function is running or a result is on its way to the store."""
        return bool(self._running) or self.is_writing

    @property
    def is_writing(self) -> bool:
        """Whether a result or an ending is on its way to the store."""
        return self._committing > 0 or self._closing is not None or self._is_dealing

    @property
    def _is_dealing(self) -> bool:
        """Whether the store is about to hear of the run's children, or of the events that it waits for."""
        return not self._body.is_simple and (self._children.is_busy or self._mail.is_declaring)

    @property
    def _is_declaring(self) -> bool:
        return not self._body.is_simple and self._mail.is_declaring

    @property
    def _awaits_children(self) -> bool:
        return not self._body.is_simple and bool(self._children.awaited)

    def drain(self) -> None:
        """Start nothing more: what is running finishes and becomes durable, then the run is given back."""
        self._draining = True
        self.is_pausing = False
        if not self.is_settling:
            self.release()

    def pause(self) -> None:
        """As `drain`, but also what waits for its turn is not started, and `unpause` takes it back. A plain
        callback only."""
        if self._over or self._closing is not None or self._draining:
            return
        self._draining = self.is_pausing = True
        for running in self._host.runner.withdraw(self._running.values()):
            del self._running[running.call.step_id]
            self._body.fresh.append(running.call)
        if not self.is_settling:
            self.release()

    def unpause(self) -> None:
        """Go on, as nothing has left memory yet. A plain callback only."""
        if self.is_pausing:
            self._draining = self.is_pausing = False
            self._alarm()

    def gone(self) -> None:
        """The store says that the run is not ours: it was ended, unless we have let go of it ourselves. A plain
        callback only."""
        if not self._over and self._closing is None:
            logger.info("A run was ended from outside; it is dropped here.", extra={"run_id": self.run_id})
            self.drop()

    # -- timers, and what else is to be done ------------------------------------------------------------------

    def _fire_due_timers(self) -> None:
        for timer in self._timers.pop_due(self._host.clock.now()):
            if timer.operation is None:
                self._stop_steps()
                self._is_overdue = True
                if not self._committing:
                    self._end_overdue()
                return
            if isinstance(timer.operation, StepCall):
                self._execute(timer.operation)
            else:
                self.submit(*self._recorder.firing(timer))

    def _fire_slept(self) -> None:
        """End the sleeps that earlier attempts of the run have slept."""
        for timer in [timer for timer in self._timers if self._recorder.is_over_already(timer)]:
            self._timers.discard(timer.step_id)
            self.submit(*self._recorder.firing(timer))

    def _record_patches(self) -> None:
        """Before anything that follows from an answer of `ctx.patched`; and not before the whole record fits."""
        patches = self._body.patches
        for marker in patches.fresh:
            self.submit(*self._recorder.marking(marker))
        patches.fresh.clear()

    def _alarm(self) -> None:
        if not self._over and self._closing is None:
            self._pump()

    @property
    def has_children(self) -> bool:
        """Whether the run has started children, as far as is known here."""
        return not self._body.is_simple and self._children.were_begun

    def go_on(self) -> None:
        """Look what is to be done now. A plain callback only."""
        self._alarm()

    @property
    def may_go_on(self) -> bool:
        """Whether anything is still to be begun here."""
        return not (self._over or self._draining or self._closing is not None)

    # -- what became durable (ChangeListener) ------------------------------------------------------------------

    def committed(self, change: Change, outcome: Applied, at: datetime) -> None:
        """A change is durable, or the run is no longer ours."""
        if self._over:
            return
        if outcome is Applied.LOST:
            self._lose()
        elif change.transition is not None:
            self._end(ending_of(change), change)
        else:
            self._committing -= 1
            consequence = self._consequences.popleft()
            if self._closing is None:
                if consequence.__class__ is Delivery:
                    self._body.deliver(consequence, at)
                else:
                    self._follow(consequence, at, outcome)
                self._pump()
            if self._turns is not None and not self._consequences:
                self._turns.quieted()

    def _follow(self, consequence: Consequence, at: datetime, outcome: Applied) -> None:
        if isinstance(consequence, Retry):
            self._body.fresh.append(consequence.call)
        elif isinstance(consequence, Order):
            self._mail.ordered(consequence, at)
        elif isinstance(consequence, Begun):
            self._children.begun(consequence, taken=outcome is Applied.TAKEN)
        elif isinstance(consequence, Receipt):
            self._mail.received(consequence, at)
        elif isinstance(consequence, Ended) and self._body.undoing is not None:
            self._body.undoing.begin(consequence.record)
        elif isinstance(consequence, PutBack):
            self._mail.was_put_back()
        elif isinstance(consequence, Marked):
            consequence.tell()

    def refused(self, change: Change, error: Exception) -> None:
        """The store can't take what the run wants written: end the run, saying so."""
        if self._over:
            return
        if change.transition is not None:
            self.drop()
            return
        self._committing -= 1
        self._consequences.popleft()
        self._fail(error)

    # -- going on ----------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Drain the body, lead it through its record, and see what is to be done once it is at rest."""
        if self._over or self._closing is not None:
            return
        try:
            try:
                self._drain()
                if not self._live:
                    self._replay()
            except WorkflowSpins as error:
                self._fail(error)
                return
            except KagziError as error:  # DivergenceError, or a result that no longer fits its type
                self._set_aside(error)
                return
            body = self._body
            if not body.is_simple and body.patches.fresh:
                self._record_patches()
            outcome = body.outcome
            if outcome is not None:
                self._conclude(outcome)
                return
            if not body.is_simple and self._is_held_up():
                return
            if body.fresh:
                self._start_steps()
            if not body.is_simple and not self._draining:
                self._attend()
            self._settle_down()
        except Exception as error:
            self._break_down(error)

    def _retraces(self) -> bool:
        """Hand out what earlier attempts of the run have finished and the body asks for; whether some is on its way.

        Nothing is executed and no order to end is received before: what is to be undone should the run fail is known by
        then, and a result that no longer fits its type stops the run in time (P16).
        """
        body, recorder = self._body, self._recorder
        fresh, body.fresh = body.fresh, []
        try:
            for call in fresh:
                earlier = recorder.finished_earlier(call.step_id, StepKind.STEP)
                if earlier is None:
                    body.fresh.append(call)
                elif body.asked.get(call.step_id) is call:
                    self.submit(*recorder.handed_out(call, earlier))
        except KagziError as error:  # what an earlier attempt of the run made no longer fits its type
            self._set_aside(error)
            return True
        self._fire_slept()
        self._mail.receive(only_again=True)
        self._mail.write(only_again=True)
        self._children.take_up(only_again=True)
        is_ordered = body.mailbox.has_any(MessageKind.CANCEL, CANCEL)
        return self._committing > 0 and (is_ordered or not recorder.is_retraced)

    def _settle_down(self) -> None:
        """Leave memory where the worker drains or nothing is executing; else see to the timers."""
        if self._draining:
            if not self.is_settling:
                self.release()
            return
        if not self._running:
            self._rest()
        elif self._timers.open and not self._is_declaring:
            self._fire_due_timers()
            if not self._is_overdue:
                self._timers.arm(self._host.clock, self._alarm)

    def _is_held_up(self) -> bool:
        """Whether nothing new begins here: until the body knows that it is cancelled, or as its time to clean up is
        over."""
        if self._is_overdue:
            if not self._committing:
                self._end_overdue()
            return True
        if self._recorder.has_earlier and self._retraces():
            return True
        return self._mail.is_ordering or (bool(self._body.mailbox) and self._mail.receive_order())

    def _attend(self) -> None:
        """See to messages and children."""
        body = self._body
        if body.receives:
            self._mail.receive()
        if body.fresh_children:
            self._children.take_up()
        if self._children.awaited and body.mailbox:
            self._children.receive()
        if body.writes:
            self._mail.write()

    @property
    def inbox(self) -> int:
        """How many messages the run was ever sent, as far as is known here."""
        return self._body.mailbox.inbox

    def mail(self, messages: Sequence[Message], inbox: int) -> None:
        """Messages have come. A plain callback only."""
        self._body.mailbox.put(messages, inbox)
        self._body.is_simple = False
        self._alarm()

    def _drain(self) -> None:
        began = monotonic()
        self._body.drain()
        took = monotonic() - began
        if took > self._host.body_warning_s:
            logger.warning(
                "A workflow body computed for long and held up every other run of its worker. Move the work to a step.",
                extra={"workflow": self.workflow, "run_id": self.run_id, "took_ms": round(took * 1000)},
            )

    def _replay(self) -> None:
        Replay(
            self._claim,
            self._definition,
            self._history,
            self._body,
            payloads=self._host.payloads,
            drain=self._drain,
        ).lead()
        self._live = True
        if self._body.order is not None:
            self._mail.limit_grace()
        if self._claim.inbox:
            for message in self._body.mailbox.beyond(self._claim.mail):  # the last owner died before it did so
                self._mail.put_back(message)

    def _rest(self) -> None:
        """Nothing is executing: wait for what is on its way, for a timer that is near, or leave memory."""
        if self._body.events_changed:
            self._mail.declare()
        if self._is_declaring:  # an event that is there already goes before a timeout that is over meanwhile
            return
        self._fire_due_timers()
        if self._is_overdue:
            return
        if self._committing or self._running or self._is_dealing:
            if self._timers:
                self._timers.arm(self._host.clock, self._alarm)
            return
        due = self._timers.next_due()
        ordered = self._body.order is not None
        if len(self._timers) == ordered and not self._body.receives and not self._awaits_children:
            if ordered:
                self._finish(self._closings.as_ordered("A cancelled run waits for what can't happen; it is ended."))
            else:
                self._fail(stuck())
        elif (due is not None and due - self._host.clock.now() <= self._patience()) or self._stays_for_children():
            self._timers.arm(self._host.clock, self._alarm)
        else:
            children = self._children.describe() if self._awaits_children else ()
            self._close(self._closings.parking(due, children=children))

    def _stays_for_children(self) -> bool:
        """Whether the record is so long that the run stays in memory a little, as the next child may end soon."""
        if not self._awaits_children or self._recorder.seq < _LONG_RECORD:
            return False
        until = self._body.now + self._recorder.seq * _PATIENCE
        if until <= self._host.clock.now():
            return False
        if self._stays is not None:
            self._stays.cancel()
        self._stays = self._host.clock.call_at(until, self._alarm)
        return True

    def _tell_of_the_end(self, ending: Ending, change: Change | None) -> None:
        self._host.ended(self, ending, change)

    def _patience(self) -> timedelta:
        return max(self._host.park_after, self._recorder.seq * _PATIENCE)
