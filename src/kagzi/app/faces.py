"""Other objects that stand for an application, such as its blocking twin."""

from __future__ import annotations

from kagzi.app.kagzi import Kagzi


def application_of(value: object) -> Kagzi | None:
    """The application that `value` is, or whose face it says to be by a method `__kagzi__`; else None.

    Asked of the type, as with all such names: a module holds things that answer to any attribute.
    """
    if isinstance(value, Kagzi):
        return value
    reveal = getattr(type(value), "__kagzi__", None)
    revealed = None if reveal is None or isinstance(value, type) else reveal(value)
    return revealed if isinstance(revealed, Kagzi) else None
