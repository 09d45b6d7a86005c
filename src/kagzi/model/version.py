"""What is stored about the versions of a workflow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec


class VersionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The version that a start without one gets (None where none was set), and which are deprecated, since when."""

    default: int | None = None
    deprecated: dict[int, datetime] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowVersion:
    """A version of a workflow as people see it.

    `is_default` says that it was set as the default for every process on the database; without one, a start takes the
    highest version that its application has registered and that is not deprecated. `workers` are those that are up and
    know it.
    """

    workflow: str
    version: int
    is_default: bool = False
    deprecated_at: datetime | None = None
    open_runs: int = 0
    workers: int = 0

    @property
    def can_go(self) -> bool:
        """Whether its code can be deleted: it is deprecated, and no run needs it any more."""
        return self.deprecated_at is not None and not self.open_runs
