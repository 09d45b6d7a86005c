"""What becomes of an error: one line on stderr and an exit status."""

from __future__ import annotations

import click

from kagzi.cli.output import printable

FAILED = 1


class Failed(click.ClickException):
    """One line on stderr and exit status 1: it was tried."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message.replace("\n", " ")))


class Refused(Failed):
    """One line on stderr and exit status 2: it was asked for in a way that can't be."""

    exit_code = 2


def as_click_error(error: Exception) -> Exception:
    """Turn what Kagzi raises into one line. Anything else is a mistake in the program and keeps its traceback."""
    if isinstance(error, click.ClickException | click.exceptions.Exit | click.Abort):
        return error
    from kagzi.errors import ConfigError, KagziError, PayloadError, VersionNotFound, WorkflowNotRegistered

    match error:
        case ConfigError() | PayloadError() | VersionNotFound() | WorkflowNotRegistered():
            return Refused(str(error))
        case KagziError():
            return Failed(str(error))
        case _:
            return error
