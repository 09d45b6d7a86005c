"""A transaction of the user's own, in which the checkpoint of its step is written, too."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

import msgspec

from kagzi.model.change import Applied, Change


class Transaction(Protocol):
    """What a store is given to carry out: the user's code, then the change that says what became of it.

    A store asks in this order: `execute`, `turn`, `settle`; or `turn` first, where the user's code runs on its own
    thread. Nobody else writes to the run between `turn` and the answer.
    """

    @property
    def run_id(self) -> str:
        """The run's id."""

    @property
    def change(self) -> Change | None:
        """What it settled in; None before."""

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for it any more; what has not begun then need not begin. Safe from any thread."""

    def is_overdue(self) -> bool:
        """Whether the user's code has taken longer than it may. Safe from any thread."""

    def execute(self, connection: Any) -> Any:
        """Call the user's code with a connection: a coroutine where it is `async def`. Raises what it raises."""

    def execute_here(self, connection: Any) -> Any:
        """Call the user's code on this thread, to its end. Raises what it raises."""

    async def turn(self) -> None:
        """Wait until nothing else of the run is on its way to the store, and keep it so."""

    def settle(self, value: Any) -> Change:
        """Make the change of what the user's code returned. Raises PayloadError. Safe from any thread."""


class Transacted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of a transaction. `at` is the store's time of its record."""

    outcome: Applied
    at: datetime
