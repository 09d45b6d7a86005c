"""Watching the event loop: a step that blocks it is named while it does."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from datetime import timedelta
from types import FrameType

from kagzi.authoring.greenlets import Part
from kagzi.clock import monotonic
from kagzi.engine.execution import Execution
from kagzi.engine.loop import WorkflowLoop
from kagzi.engine.running import RunningStep

logger = logging.getLogger("kagzi.worker")

_BEAT_S = 0.05


class LagWatch:
    """Measures how late the event loop is, from a thread of its own that sees it even while it is blocked."""

    def __init__(self, warning: timedelta) -> None:
        self._warning_s = warning.total_seconds()
        self._beat_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop_thread = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._worst_ms = 0.0

    def take_worst_ms(self) -> float:
        """How late the event loop was at the worst since this was last asked."""
        worst, self._worst_ms = self._worst_ms, 0.0
        return worst

    def begin(self) -> None:
        """Watch the running event loop."""
        self._loop_thread = threading.get_ident()
        self._beat()
        self._thread = threading.Thread(target=self._watch, name="kagzi-lag", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Watch no more."""
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _beat(self) -> None:
        now = monotonic()
        if self._beat_at:
            self._worst_ms = max(self._worst_ms, (now - self._beat_at - _BEAT_S) * 1000)
        self._beat_at = now
        self._timer = asyncio.get_running_loop().call_later(_BEAT_S, self._beat)

    def _watch(self) -> None:
        reported = 0.0
        while not self._ended.wait(_BEAT_S):
            beat_at = self._beat_at
            late_s = monotonic() - beat_at - _BEAT_S
            if late_s > self._warning_s and beat_at != reported:
                reported = beat_at
                self._report(late_s)

    def _report(self, late_s: float) -> None:
        culprit = _culprit(sys._current_frames().get(self._loop_thread))
        logger.warning(
            "The event loop is blocked by %s, which holds up every run of this worker. Await what takes long, or make "
            "it a plain function, which runs in a thread.",
            culprit,
            extra={"late_ms": round(late_s * 1000)},
        )


def _culprit(frame: FrameType | None) -> str:
    innermost = frame
    in_body = False
    while frame is not None:
        step = frame.f_locals.get("step")
        if isinstance(step, RunningStep):
            return f"step {step.call.name!r} of run {step.owner.run_id}"
        whose = frame.f_locals.get("self")
        # The frames of a greenlet end with it: those of the execution are not below.
        if isinstance(whose, Part) or (in_body and isinstance(whose, Execution)):
            return f"the body of workflow {whose.workflow!r}, run {whose.run_id}"
        in_body = in_body or frame.f_code is WorkflowLoop.drain.__code__
        frame = frame.f_back
    if innermost is None:
        return "something unknown"
    return f"{innermost.f_code.co_qualname} ({innermost.f_code.co_filename}:{innermost.f_lineno})"
