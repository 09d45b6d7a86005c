"""Arguments from a command line, by the types of the workflow where it is known."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

from kagzi.errors import PayloadError
from kagzi.payloads import Payloads

if TYPE_CHECKING:
    from kagzi.app.kagzi import Kagzi


def check_registered(kagzi: Kagzi, workflow: str) -> None:
    """Raise WorkflowNotRegistered, naming those there are, where the application does not know the workflow."""
    kagzi._definitions.versions(workflow)


def typed_arguments(
    kagzi: Kagzi, workflow: str, version: int, args: list[Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Turn JSON values into what the workflow's parameters want; they stay as they are where it isn't known here.

    Raises VersionNotFound, TypeError where the arguments are too few or too many, PayloadError where one doesn't fit.
    """
    definitions = kagzi._definitions
    if not definitions.knows(workflow):
        return tuple(args), {}
    function = definitions.get(workflow, version).fn
    where = f"the input of workflow {workflow!r}"
    try:
        inspect.signature(function).bind(None, *args)
    except TypeError as error:
        raise TypeError(f"{where}: {error}.") from None
    # Payloads of our own: the application's would take the text through its codec, and this one is plain.
    shape = Payloads().signature(function, skip_first=True)
    try:
        return shape.decode(json.dumps(args), where=where)
    except PayloadError as error:
        # The message of a stored value that fits no longer, with a cure for that, would lead astray.
        reason = " ".join(str(error.__cause__ or error).split("\n"))
        raise PayloadError(f"{where} does not fit at {error.path}: {reason}.", path=error.path, step=where) from error
