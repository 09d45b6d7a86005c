"""What a run has to undo where it fails, and how far that is.

Once the body is over, a record of kind ENDING says with what the run is to end. From there on no body is asked any
more: the steps that were completed before that record are undone one by one, the last completed first, each as a step
of its own. A replay comes to the record and does the same.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from kagzi.authoring.calls import StepCall
from kagzi.authoring.undoing import UndoableCall, undo_of
from kagzi.engine.deliveries import decode_record
from kagzi.errors import StepFailed
from kagzi.model.error import StepError
from kagzi.model.step import StepRecord, StepStatus
from kagzi.payloads import Payloads
from kagzi.rules.undoing import undo_id, undo_name

if TYPE_CHECKING:
    from kagzi.engine.body import Body

logger = logging.getLogger("kagzi.execution")


class Undoing:
    """The steps of a run that have undos: those called, those completed, and those undone.

    `is_under_way`: the body is over, and its end on the way to the store or there. `ending` is the record of that, None
    before it is durable. `failed` are the undos that have failed for good, by name.
    """

    __slots__ = ("_body", "_called", "_done", "_now", "ending", "failed", "is_under_way")

    def __init__(self, body: Body) -> None:
        self._body = body
        self._called: dict[str, UndoableCall[Any]] = {}
        self._done: list[tuple[UndoableCall[Any], Any]] = []
        self._now: UndoCall | None = None
        self.ending: StepRecord | None = None
        self.failed: list[tuple[str, StepError]] = []
        self.is_under_way = False

    def add(self, call: UndoableCall[Any]) -> None:
        """A step with an undo was called."""
        self._called[call.step_id] = call

    def completed(self, step_id: str, value: Any) -> None:
        """A step is completed; one without an undo is passed over."""
        call = self._called.pop(step_id, None)
        if call is not None:
            self._done.append((call, value))

    def recorded(self, record: StepRecord, payloads: Payloads) -> None:
        """The same of a record whose step the body has given up. Raises PayloadError."""
        call = self._called.get(record.step_id)
        if call is not None and record.status is StepStatus.COMPLETED:
            self.completed(record.step_id, decode_record(call, record, payloads).value)

    @property
    def has_completed(self) -> bool:
        """Whether there is anything to undo, as far as is known."""
        return bool(self._done)

    def begin(self, ending: StepRecord) -> None:
        """The end of the body is durable: ask for the first undo."""
        self.is_under_way = True
        self.ending = ending
        self._ask()

    @property
    def is_over(self) -> bool:
        """Whether everything that can be undone has been."""
        return self.ending is not None and self._now is None

    def over(self, undo: UndoCall, error: StepError | None) -> None:
        """An undo is done, or has failed for good: ask for the next."""
        if error is not None:
            self.failed.append((undo.name, error))
            if not self._body.replaying:
                logger.error(
                    "The undo of a step has failed for good; the others go on.",
                    extra={"workflow": self._body.workflow, "run_id": self._body.run_id, "step": undo.name},
                )
        self._ask()

    def _ask(self) -> None:
        self._now = None
        if self._done:
            body = self._body
            self._now = undo = UndoCall(self, body, *self._done.pop())  # type: ignore[abstract] # see calls.py
            body.asked[undo.step_id] = undo
            body.fresh.append(undo)


class UndoCall(StepCall[Any]):
    """A step that undoes another. Nobody awaits it."""

    def __init__(self, undoing: Undoing, body: Body, call: UndoableCall[Any], result: Any) -> None:
        undo = undo_of(call, result)
        super().__init__(body, undo_id(call.step_id), undo_name(call.name), *undo)
        self.in_transaction = call.in_transaction
        self.asked_at = body.now
        self._undoing = undoing

    def set_result(self, _: Any, /) -> None:
        """Be done."""
        super().set_result(None)
        self._undoing.over(self, None)

    def set_exception(self, exception: type | BaseException, /) -> None:
        """Have failed for good."""
        super().set_result(None)
        assert isinstance(exception, StepFailed)
        self._undoing.over(self, exception.error)
