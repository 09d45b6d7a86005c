"""`$1`, `$2`, ... in the styles of the drivers."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

_NUMBERED = re.compile(r"\$(\d+)")


class Style(StrEnum):
    """How a driver marks the places of arguments."""

    DOLLAR = "$1"
    PERCENT = "%s"
    QUESTION = "?"


def translate(sql: str, args: tuple[Any, ...], style: Style) -> tuple[str, tuple[Any, ...]]:
    """A statement and its arguments in a driver's style, an argument as often as it is mentioned."""
    if style is Style.DOLLAR:
        return sql, args
    order = [int(number) - 1 for number in _NUMBERED.findall(sql)]
    if style is Style.PERCENT:
        sql = sql.replace("%", "%%")
    return _NUMBERED.sub(style.value, sql), tuple(args[place] for place in order)
