"""What `ctx.patched` answers in one run, the same in every replay (docs/decisions/0024)."""

from __future__ import annotations

from collections.abc import Callable

from kagzi.engine.history import History
from kagzi.model.step import StepKind

SCOPE = "patch"
"""The scope of markers. Tasks have numbers for scopes, so no other operation has a marker's identity."""


class Patches:
    """The answers given in a run so far. `fresh` are the markers that are still to be recorded, by step_id."""

    __slots__ = ("_answers", "_history", "_markers", "fresh")

    def __init__(self, history: History) -> None:
        self._history = history
        self._answers: dict[str, bool] = {}
        self._markers: set[str] | None = None
        self.fresh: list[str] = []

    def answer(self, change_id: str, *, replaying: bool, asked_before: Callable[[str], bool]) -> bool:
        """Whether the run takes the changed path; `asked_before` knows what the body has asked for until now."""
        answer = self._answers.get(change_id)
        if answer is None:
            answer = self._answers[change_id] = self._decide(change_id, replaying, asked_before)
        return answer

    def _decide(self, change_id: str, replaying: bool, asked_before: Callable[[str], bool]) -> bool:
        if self._markers is None:
            self._markers = self._history.of_kind(StepKind.MARKER)
        marker = f"{SCOPE}/{change_id}#1"
        if marker in self._markers:
            return True
        if self._history.goes_beyond(replaying=replaying, asked_before=asked_before):
            return False
        self.fresh.append(marker)
        return True
