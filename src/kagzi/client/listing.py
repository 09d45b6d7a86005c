"""Listings of runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kagzi.authoring.durations import as_moment
from kagzi.authoring.names import ID_LIMIT, check_name
from kagzi.client.link import Link
from kagzi.client.views import as_run
from kagzi.ids import is_id
from kagzi.model.run import Run, RunFilter, RunId, RunStatus

LIMIT = 1000


def wanted(
    namespace: str,
    *,
    status: RunStatus | str | None,
    workflow: str | None,
    queue: str | None,
    tags: Sequence[str],
    id: str | None,  # noqa: A002 - the public name
    parent: str | None,
    created_after: datetime | None,
    paused: bool | None,
    cursor: str | None,
    limit: int,
) -> RunFilter:
    """Check what a caller asks for. Raises ValueError or TypeError naming it."""
    if isinstance(tags, str):
        raise TypeError("tags must be a list of texts, not one text.")
    if type(limit) is not int or not 1 <= limit <= LIMIT:
        raise ValueError(f"limit is {limit!r}; give a whole number from 1 to {LIMIT}, and page with cursor.")
    if paused is not None and not isinstance(paused, bool):
        raise TypeError(f"paused is {paused!r}; give True, False or None for any.")
    if cursor is not None and not is_id(cursor):
        raise ValueError(f"cursor is {cursor!r}; give the run_id of the last run of the page before.")
    if parent is not None and not is_id(parent):
        raise ValueError(f"parent is {parent!r}; give the run_id of the run that started those that are wanted.")
    return RunFilter(
        namespace=namespace,
        status=None if status is None else _status(status),
        workflow=None if workflow is None else check_name(workflow, what="workflow"),
        queue=None if queue is None else check_name(queue, what="queue"),
        tags=tuple(check_name(tag, what="a tag") for tag in tags),
        id=None if id is None else check_name(id, what="id", limit=ID_LIMIT),
        parent=None if parent is None else RunId(parent),
        created_after=None if created_after is None else as_moment(created_after, what="created_after"),
        paused=paused,
        cursor=None if cursor is None else RunId(cursor),
        limit=limit,
    )


def _status(status: RunStatus | str) -> RunStatus:
    try:
        return RunStatus(status.upper())
    except (ValueError, AttributeError) as error:
        raise ValueError(f"status is {status!r}; there are: {', '.join(RunStatus)}.") from error


async def find(link: Link, asked: RunFilter) -> list[Run]:
    """List runs."""
    return [as_run(stored, link.payloads) for stored in await link.store.find(asked)]
