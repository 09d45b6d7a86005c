"""How steps that undo others are called, and what is told of those that have failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from kagzi.model.error import StepError
from kagzi.model.step import StepKind, StepRecord, step_name
from kagzi.rules.failures import decode_error, encode_error

_TOLD = 500
_SCOPE = "undo."


def undo_name(name: str) -> str:
    """What the undo of a step is called."""
    return f"undo {name}"


def undo_id(step_id: str) -> str:
    """The identity of a step's undo. Tasks have numbers for scopes, so no other operation has it."""
    name = step_name(step_id)
    scope, occurrence = step_id[: step_id.index("/")], step_id[step_id.rindex("#") :]
    return f"{_SCOPE}{scope}/{undo_name(name)}{occurrence}"


def is_undo(step_id: str) -> bool:
    """Whether an operation undoes a step."""
    return step_id.startswith(_SCOPE)


def with_failed_undos(error: str, failed: Iterable[tuple[str, StepError]]) -> str:
    """The encoded error that a run ends with: its own, and in its context what could not be undone."""
    told = [{"step": name, "error": f"{each.type}: {each.message[:_TOLD]}"} for name, each in failed]
    if not told:
        return error
    own = decode_error(error)
    return encode_error(replace(own, context={**own.context, "failed_undos": told}))


def still_done(earlier: Mapping[str, StepRecord]) -> dict[str, StepRecord]:
    """What earlier attempts of a run have finished and not undone: the rest is done again where it is asked for."""
    return {
        step_id: record
        for step_id, record in earlier.items()
        if record.kind is not StepKind.STEP or not (is_undo(step_id) or undone_at(step_id, earlier) > record.seq)
    }


def undone_at(step_id: str, earlier: Mapping[str, StepRecord]) -> int:
    """The place of the record that a step was undone by, or an undo done, in an earlier attempt of its run; 0 for none.

    Neither is the same as before once it is done again, to whoever knows it by its idempotency key.
    """
    record = earlier.get(step_id if is_undo(step_id) else undo_id(step_id))
    return 0 if record is None else record.seq
