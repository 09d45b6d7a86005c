"""What stands where an execution stood that has left memory.

A run's parts refer to each other. Were they left so, each run would leave a circle of forty objects to the garbage
collector, which takes far longer over them than it takes to part them.
"""

from __future__ import annotations

from typing import Any

from kagzi.engine.consequences import Consequence
from kagzi.model.change import Change


class Nobody:
    """Takes what comes too late, and does nothing with it."""

    may_go_on = False
    replaying = False

    def submit(self, change: Change, consequence: Consequence) -> None:
        """Write nothing."""

    def go_on(self) -> None:
        """Go nowhere."""

    def withdrawn(self, step_id: str) -> None:
        """Stop nothing."""

    def time(self) -> float:
        """Say what time it never is."""
        return 0.0

    def call_at(self, handle: Any) -> None:
        """Call nothing."""

    def withdraw(self, handle: Any) -> None:
        """Forget nothing."""


NOBODY = Nobody()
