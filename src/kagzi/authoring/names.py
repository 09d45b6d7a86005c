"""Which names and ids can be kept, checked where they are given."""

from __future__ import annotations

NAME_LIMIT = 255
ID_LIMIT = 512
PRIORITY_LIMIT = 100


def check_name(name: object, *, what: str, limit: int = NAME_LIMIT) -> str:
    """Return `name` if a store can keep and index it; `what` says whose it is.

    Raises TypeError where it is no text, ValueError where it is empty, longer than `limit` characters, or holds NUL or
    a lone surrogate.
    """
    if not isinstance(name, str):
        raise TypeError(f"{what} must be text, not {type(name).__name__}.")
    if not name:
        raise ValueError(f"{what} is empty; give it at least one character.")
    if len(name) > limit:
        raise ValueError(
            f"{what} has {len(name)} characters; at most {limit} can be kept and found again: {name[:40]!r}..."
        )
    if "\0" in name or not _encodes(name):
        raise ValueError(f"{what} holds a NUL or a lone surrogate, which no database keeps as text: {name[:80]!r}.")
    return name


_GOOD_STEPS: set[str] = set()
_REMEMBERED = 4096


def check_step_name(name: object) -> None:
    """As `check_name`, for the name of a step. Those that are good are remembered: bodies call the same steps."""
    if type(name) is str and name in _GOOD_STEPS:
        return
    good = check_name(name, what="the name of a step")
    if type(good) is str:
        if len(_GOOD_STEPS) >= _REMEMBERED:  # names that are made of numbers would pile up here
            _GOOD_STEPS.clear()
        _GOOD_STEPS.add(good)


def _encodes(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_version(version: object, *, what: str) -> int:
    """Return `version` if it is a whole number from 1 to 2**31 - 1; raises TypeError or ValueError otherwise."""
    if type(version) is not int:
        raise TypeError(f"{what} must be a whole number, not {version!r}.")
    if not 1 <= version < 2**31:
        raise ValueError(f"{what} is {version}, but versions go from 1 to {2**31 - 1}.")
    return version


def check_priority(priority: object) -> int:
    """Return `priority` if it is a whole number from -100 to 100; raises TypeError or ValueError otherwise.

    Bounded, because a claim looks at each priority that is in use.
    """
    if type(priority) is not int:
        raise TypeError(f"priority must be a whole number, not {priority!r}.")
    if not -PRIORITY_LIMIT <= priority <= PRIORITY_LIMIT:
        raise ValueError(
            f"priority is {priority}, but must be from -{PRIORITY_LIMIT} to {PRIORITY_LIMIT} (higher goes first)."
        )
    return priority
