"""What becomes of many runs at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypedDict

from kagzi.model.run import RunStatus


class RunsWanted(TypedDict, total=False):
    """Which runs: the filters of `Kagzi.find_runs`. None means any; `tags` must all be there."""

    status: RunStatus | str | None
    workflow: str | None
    queue: str | None
    tags: Sequence[str]
    id: str | None
    parent: str | None
    created_after: datetime | None
    paused: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOutcome:
    """What a verb did with the runs that were found, or with `dry_run` would have done, by run_id, newest first.

    `done` are those that it changed, `unchanged` those that were so before, and `refused` says of each other why not.
    """

    done: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    dry_run: bool = False
