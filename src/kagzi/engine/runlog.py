"""The logger that a workflow body gets: it names the run and is silent while the body is replayed."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any, Protocol


class Replayed(Protocol):
    """A run as its logger sees it."""

    workflow: str

    @property
    def run_id(self) -> str:
        """The run's id."""

    @property
    def replaying(self) -> bool:
        """Whether the body is being led through its record."""


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger of one run."""

    def __init__(self, run: Replayed) -> None:
        self.logger = logging.getLogger("kagzi.workflow")
        self._run = run

    @property
    def extra(self) -> dict[str, object]:  # type: ignore[override] # made when asked for: most runs log nothing
        """The fields of every record."""
        return {"run_id": self._run.run_id, "workflow": self._run.workflow}

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's own name
        """Whether a record of this level would be written now."""
        return not self._run.replaying and self.logger.isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the run's fields to those of the call."""
        kwargs["extra"] = {**self.extra, **(kwargs.get("extra") or {})}
        return msg, kwargs
