"""Which version a run gets."""

from __future__ import annotations

from kagzi.errors import VersionNotFound, WorkflowNotRegistered


def version_to_start(workflow: str, *, default: int | None, known: tuple[int, ...]) -> int:
    """The stored default version, else the highest that is registered here.

    Raises WorkflowNotRegistered where neither is known, VersionNotFound where the default isn't among those known.
    """
    if default is not None:
        if known and default not in known:
            raise VersionNotFound(workflow, default, known=known)
        return default
    if not known:
        raise WorkflowNotRegistered(workflow)
    return max(known)
