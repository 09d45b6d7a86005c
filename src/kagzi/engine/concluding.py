"""How a run leaves memory: by its end, by being given back, or as it belongs to somebody else.

The part of an execution (execution.py) that closes it. What is written then is made in closings.py.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from datetime import timedelta
from functools import cached_property
from typing import Any

import msgspec

from kagzi.authoring.definitions import Definition
from kagzi.engine.body import Body
from kagzi.engine.children import Children
from kagzi.engine.closings import SECOND_LOOK, Closings
from kagzi.engine.correspondence import Correspondence
from kagzi.engine.endings import Ending
from kagzi.engine.history import History
from kagzi.engine.host import Host
from kagzi.engine.recording import Recorder
from kagzi.engine.stepping import Stepping
from kagzi.engine.time import Alarm
from kagzi.engine.undoing import Undoing
from kagzi.model.change import Change
from kagzi.model.claim import Claim
from kagzi.model.run import RunStatus
from kagzi.rules import lifecycle

logger = logging.getLogger("kagzi.execution")


class Concluding(Stepping):
    """An execution that can come to its end."""

    _stays: Alarm | None = None

    def __init__(
        self, host: Host, claim: Claim, definition: Definition, history: History, body: Body, recorder: Recorder
    ) -> None:
        super().__init__(host, claim, body, recorder)
        self.workflow = claim.workflow
        self._claim = claim
        self._definition = definition
        self._history = history
        self._is_overdue = False
        self._closings = Closings(host, claim, definition, history, recorder, body)

    @cached_property
    def _children(self) -> Children:
        """Made where the body is no simple one; so is the mail."""
        return Children(self, self._claim, self._body, self._recorder, self._host)

    @cached_property
    def _mail(self) -> Correspondence:
        host = self._host
        return Correspondence(self, self._claim, self._body, self._recorder, host, grace=host.cancel_grace)

    # -- what the execution does -------------------------------------------------------------------------------

    @abstractmethod
    def go_on(self) -> None:
        """Look what is to be done now."""

    @property
    @abstractmethod
    def may_go_on(self) -> bool:
        """Whether it still begins things."""

    @abstractmethod
    def _settle_down(self) -> None: ...

    @abstractmethod
    def _tell_of_the_end(self, ending: Ending, change: Change | None) -> None: ...

    # -- given back, or lost -----------------------------------------------------------------------------------

    def release(self) -> None:
        """Give the run back at once, without using an attempt; functions that still run are cancelled."""
        if self._over or self._closing is not None:
            return
        self._stop_steps()
        self._close(lifecycle.release(self.run_id, self.fence))

    def postpone(self, pause: timedelta, *, waits: str) -> None:
        """Give the run back before it has begun, to come again after `pause`; `waits` says for what."""
        text = msgspec.json.encode([waits]).decode()
        self._close(lifecycle.postpone(self.run_id, self.fence, until=self._host.clock.now() + pause, waits=text))

    def drop(self) -> None:
        """Forget the run without writing anything: it belongs to somebody else."""
        self._end(Ending.LOST, None)

    def _lose(self) -> None:
        logger.warning("A run was lost to another worker; it is dropped here.", extra={"run_id": self.run_id})
        self._end(Ending.LOST, None)

    # -- ending ------------------------------------------------------------------------------------------------

    def _conclude(self, body: asyncio.Future[Any]) -> None:
        """The body is done: close the run with its result or its error, once what is to be undone has been."""
        undoing = self._body.undoing
        if undoing is not None and undoing.is_under_way:
            self._undo(undoing)
            return
        self._report_unawaited()
        self._finish(self._closings.conclusion(body))

    def _fail(self, error: BaseException) -> None:
        self._finish(self._closings.failure(error))

    def _end_overdue(self) -> None:
        """The time for cleaning up has passed, and what was on its way to the store by then has been delivered."""
        self._finish(self._closings.as_ordered("A cancelled run did not end within its grace; it is ended."))

    def _set_aside(self, error: Exception) -> None:
        """The code doesn't fit the record (P16): the run rests, unless it was ordered to end."""
        change = self._closings.setting_aside(error)
        if self._body.order is not None:
            self._stop_steps()
            change = self._closings.completed(change, self._consequences)
        self._close(change)

    def _break_down(self, error: Exception) -> None:
        """Something unexpected, which is a defect of ours: rather than to hang, the run rests, and says why."""
        told = f"{type(error).__name__}: {error}"
        logger.error(
            "A defect of Kagzi met a run, which is given back and tried again later. Please report it.",
            extra={"run_id": self.run_id, "workflow": self.workflow, "reason": told},
            exc_info=error,
        )
        if not self._over and self._closing is None:
            self._stop_steps()
            self.postpone(SECOND_LOOK, waits=f"a release of Kagzi without the defect that it met: {told}")

    def _finish(self, change: Change) -> None:
        """Close an attempt of the run, once what is to be undone has been."""
        self._stop_steps()
        if self._body.undoing is not None and self._is_to_undo(self._body.undoing, change):
            self._begin_undoing(change)
        else:
            self._close(self._closings.completed(change, self._consequences))

    def _is_to_undo(self, undoing: Undoing, change: Change) -> bool:
        transition = change.transition
        assert transition is not None
        if undoing.is_under_way or transition.status not in (RunStatus.FAILED, RunStatus.CANCELLED):
            return False
        # What is on its way to the store may be a step that is then completed.
        return undoing.has_completed or self._committing > 0 or self._turns is not None

    def _begin_undoing(self, change: Change) -> None:
        """Have it recorded how the run ends, and let its body be over."""
        assert change.transition is not None
        self._is_overdue = False
        self._leave()
        if not self._body.end():
            self._warn_of_going_on()
        self.submit(*self._recorder.ending(change.transition))

    def _undo(self, undoing: Undoing) -> None:
        """Execute the next undo, or end the run. No order to end it is received any more: it is ending."""
        if undoing.is_over:
            self._close(self._closings.completed(self._closings.undone(undoing), self._consequences))
            return
        self._start_steps()
        self._settle_down()

    def _close(self, change: Change) -> None:
        if self._closing is None:
            self._closing = change
            self._leave()
            if self._turns is not None:
                self._turns.let_go()
            self._host.journal.submit(change, self)

    def _end(self, ending: Ending, change: Change | None) -> None:
        if self._over:
            return
        self._over = True
        if self._running:
            self._stop_steps()
        if self._closing is None:
            self._leave()
        self._consequences.clear()
        if self._body.leave():
            self._body.let_go()
        else:
            self._warn_of_going_on()
        if not self._body.is_simple:
            self._children.let_go()
            self._mail.let_go()
        self._tell_of_the_end(ending, change)

    def _warn_of_going_on(self) -> None:
        logger.warning(
            "A workflow body kept going while its run left memory; it was abandoned. Something in it catches "
            "BaseException: let Parked pass.",
            extra={"workflow": self.workflow, "run_id": self.run_id},
        )

    def _leave(self) -> None:
        """Nothing is waited for any more."""
        self._timers.disarm()
        if not self._body.is_simple:
            self._children.leave()
        if self._stays is not None:
            self._stays.cancel()
            self._stays = None

    def _withdrawn(self, step_id: str) -> None:
        self._stop_step(step_id)
        if not self._body.is_simple:
            self._children.withdrawn(step_id)

    def _stop_step(self, step_id: str) -> None:
        running = self._running.pop(step_id, None)
        if running is not None:
            running.stop()

    def _stop_steps(self) -> None:
        for running in self._running.values():
            running.stop()
        self._running.clear()

    def _report_unawaited(self) -> None:
        for call in self._body.unawaited.values():
            logger.warning(
                "A step was called but never awaited, so it did not run. Put `await` before the call.",
                extra={"workflow": self.workflow, "run_id": self.run_id, "step": call.name},
            )
