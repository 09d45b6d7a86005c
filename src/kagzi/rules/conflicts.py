"""Idempotent starts: whether a run that is there already is the one that was asked for."""

from __future__ import annotations

from kagzi.errors import ConflictError
from kagzi.model.run import NewRun, Started


def check_conflict(asked: NewRun, started: Started) -> None:
    """Accept a run that was there before if it is of the same workflow with the same input (P1).

    Raises ConflictError otherwise. The version may differ: the default may have moved between two starts.
    """
    if started.created or (started.workflow == asked.workflow and started.input == asked.input):
        return
    what = (
        f"another input for workflow {started.workflow!r}"
        if started.workflow == asked.workflow
        else f"workflow {started.workflow!r}, not {asked.workflow!r}"
    )
    raise ConflictError(
        f"a run with the id {asked.id!r} exists and was started with {what} (run {started.run_id}). "
        "Use another id, or start it with what it was started with.",
        id=asked.id or asked.run_id,
        run_id=started.run_id,
    )
