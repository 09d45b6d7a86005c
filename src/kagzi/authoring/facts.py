"""What a workflow's body may know, and is told the same in every replay."""

from __future__ import annotations

import logging
import uuid
from datetime import datetime

from kagzi.authoring.port import RunPort


class RunFacts:
    """The facts of a run, by either kind of context."""

    __slots__ = ()

    _port: RunPort

    def now(self) -> datetime:
        """The workflow's time, aware and in UTC: when the run started, then when its last operation finished."""
        return self._port.now

    def random(self) -> float:
        """A random number from 0 (included) to 1 (not included), the same in every replay."""
        return self._port.chance.random()

    def uuid4(self) -> uuid.UUID:
        """A random UUID, the same in every replay."""
        return uuid.UUID(int=self._port.chance.getrandbits(128), version=4)

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that knows the run and is silent while the body is being replayed."""
        return self._port.logger

    @property
    def run_id(self) -> str:
        """The run's own id, made by Kagzi."""
        return self._port.run_id

    @property
    def id(self) -> str:
        """The id that the run was started with; its `run_id` where none was given."""
        return self._port.id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._port.workflow

    @property
    def version(self) -> int:
        """The version of the workflow that the run is pinned to."""
        return self._port.version

    @property
    def attempt(self) -> int:
        """Which execution of the workflow this is, from 1; crashes and wake-ups don't count."""
        return self._port.attempt
