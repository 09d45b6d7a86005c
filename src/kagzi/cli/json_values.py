"""JSON on a command line."""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn

import click

from kagzi.cli.output import value_text


def read_json(option: str, text: str) -> Any:
    """Read the value of an option, from stdin where it is `-`. Raises UsageError where it isn't JSON."""
    if text == "-":
        text = sys.stdin.read()
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        shown = value_text(text, limit=60)
        raise click.UsageError(
            f"{option} must be JSON, and {shown} is not: {error}. A text needs quotes: {option} '\"Ada\"'."
        ) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
