"""How steps that undo others are called, and what is told of those that have failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kagzi.model.error import StepError
from kagzi.model.step import step_name
from kagzi.rules.failures import decode_error, encode_error

_TOLD = 500


def undo_name(name: str) -> str:
    """What the undo of a step is called."""
    return f"undo {name}"


def undo_id(step_id: str) -> str:
    """The identity of a step's undo. Tasks have numbers for scopes, so no other operation has it."""
    name = step_name(step_id)
    scope, occurrence = step_id[: step_id.index("/")], step_id[step_id.rindex("#") :]
    return f"undo.{scope}/{undo_name(name)}{occurrence}"


def with_failed_undos(error: str, failed: Iterable[tuple[str, StepError]]) -> str:
    """The encoded error that a run ends with: its own, and in its context what could not be undone."""
    told = [{"step": name, "error": f"{each.type}: {each.message[:_TOLD]}"} for name, each in failed]
    if not told:
        return error
    own = decode_error(error)
    return encode_error(replace(own, context={**own.context, "failed_undos": told}))
