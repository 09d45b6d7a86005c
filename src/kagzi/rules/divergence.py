"""Code that does not fit a run's record: what differs, as a diff, and what is likely to have happened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kagzi.errors import DivergenceError
from kagzi.model.step import StepKind, step_name
from kagzi.rules.undoing import is_undo

_SHOWN = 5
_CONTEXT = 3
_CURE = (
    "Nothing new was executed. Deploy code that fits, such as that which the run began with, and it goes on by itself."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A body at rest and a record that does not go on as the body does. Operations are spelled `KIND scope/name#1`.

    `matched` are the last operations that fitted, `expected` what the record goes on with, or, where `parked`, what the
    run waits for that the body does not; `found` is what the body waits for, and `is_over` says that it has ended, with
    the error that it `raised` (`KeyError: 'price'`) where it did.
    """

    matched: Sequence[str]
    expected: Sequence[str]
    found: Sequence[str]
    parked: bool = False
    is_over: bool = False
    raised: str = ""


def spelled(step_id: str, kind: StepKind) -> str:
    """An operation as divergences show it."""
    return f"{kind} {step_id}"


def diverged(mismatch: Mismatch, *, mentions: Callable[[str], bool]) -> DivergenceError:
    """Tell of a mismatch. `mentions` says whether the code names an operation anywhere, as far as can be seen."""
    diff = _diff(mismatch)
    guess = _guess(mismatch, mentions)
    return DivergenceError(
        "\n".join([f"the code does not fit the run's record: it looks as if {guess}. {_CURE}", *diff]),
        expected=tuple(mismatch.expected[:_SHOWN]),
        found=tuple(mismatch.found[:_SHOWN]),
        diff=diff,
    )


def other_end(recorded: str, found: str) -> DivergenceError:
    """The record of a completed run fits, but the code ends with something else."""
    diff = (f"- recorded: {recorded}", f"+ code ends with: {found}")
    return DivergenceError(
        "\n".join(["the code does not fit the run's record: it ends otherwise.", *diff]),
        expected=(recorded,),
        found=(found,),
        diff=diff,
    )


def _diff(mismatch: Mismatch) -> tuple[str, ...]:
    """The diff's lines: what fitted, what was recorded and what the code asks for."""
    theirs = "waited for" if mismatch.parked else "recorded"
    found = [each for each in mismatch.found if not (mismatch.parked and each in mismatch.expected)]
    lines = [f"  {each}" for each in mismatch.matched[-_CONTEXT:]]
    lines += [f"- {theirs}: {each}" for each in mismatch.expected[:_SHOWN]]
    lines += [f"- ... and {len(mismatch.expected) - _SHOWN} more"] * (len(mismatch.expected) > _SHOWN)
    lines += [f"+ code asks for: {each}" for each in found[:_SHOWN]]
    lines += [f"+ ... and {len(found) - _SHOWN} more"] * (len(found) > _SHOWN)
    if mismatch.raised:
        lines.append(f"+ code raises: {mismatch.raised}")
    elif not found:
        lines.append("+ code ends here" if mismatch.is_over else "+ code asks for nothing")
    return tuple(lines)


def _guess(mismatch: Mismatch, mentions: Callable[[str], bool]) -> str:
    """The likely cause. What the record expects is asked for later if the code still names it, else it is gone."""
    if not mismatch.expected:
        return f"{_Operation.read(mismatch.found[0]).told} was added where the run rests"
    if " " not in mismatch.expected[0] or "/" not in mismatch.expected[0]:
        return "the code goes on where the run had ended"
    first = _Operation.read(mismatch.expected[0])
    if is_undo(first.step_id):
        return f"{first.told} is not called for: its step has no undo any more, or others are completed before it"
    if mismatch.raised:
        return f"the code raises {mismatch.raised.partition(':')[0]} where {first.told} was recorded"
    found = [_Operation.read(each) for each in mismatch.found]
    new = [each for each in found if str(each) not in mismatch.expected]
    later = [each for each in found if str(each) in mismatch.expected[1:]]
    for each in found:
        if each.step_id == first.step_id and each.kind != first.kind:
            return f"{first.told} is a {each.kind.lower()} now"
    if mismatch.parked and new and str(first) in mismatch.found:
        return f"{new[0].told} was added where the run waits for {first.told}"
    moved = [each for each in new if (each.kind, each.name) == (first.kind, first.name)]
    if moved:
        return f"{first.told} is called in another task now, as {moved[0].step_id}"
    if new and mentions(first.name):
        return f"{new[0].told} was inserted before {first.told}"
    if new and new[0].kind == first.kind:
        return f"{first.told} was renamed to {new[0].told}"
    if later and mentions(first.name):
        return f"{first.told} and {later[0].told} were swapped"
    if new:
        return f"{first.told} was replaced by {new[0].told}"
    return f"{first.told} was removed"


@dataclass(frozen=True, slots=True)
class _Operation:
    """An operation, read from its spelling."""

    kind: str
    step_id: str

    @classmethod
    def read(cls, spelling: str) -> _Operation:
        kind, _, step_id = spelling.partition(" ")
        return cls(kind, step_id)

    @property
    def name(self) -> str:
        try:
            return step_name(self.step_id)
        except ValueError:  # a damaged row
            return self.step_id

    @property
    def told(self) -> str:
        return f"{self.kind.lower()} {self.name!r} ({self.step_id})"

    def __str__(self) -> str:
        return f"{self.kind} {self.step_id}"
