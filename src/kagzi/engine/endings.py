"""How an execution can be over, and what is said of bodies that can't go on."""

from __future__ import annotations

import re
from enum import Enum, auto

from kagzi.errors import ContinueAsNew, KagziError, WorkflowIOError
from kagzi.model.change import Change
from kagzi.model.run import RunStatus
from kagzi.rules.excerpts import message_of

_OTHER_LOOP = re.compile("attached to a different loop|bound to a different event loop")
_ANOTHER_LOOP = re.compile("cannot be called from a running event loop|while another loop is running")


class Ending(Enum):
    """Why an execution is over."""

    CLOSED = auto()
    """The run has ended."""
    PARKED = auto()
    """The run sleeps in the store."""
    RELEASED = auto()
    """The run was given back, or set aside, for another try."""
    LOST = auto()
    """The run belongs to somebody else by now, or the worker had to drop it."""


class WorkflowStuck(KagziError):
    """A body waits, and nothing that could wake it is under way."""


def ending_of(change: Change) -> Ending:
    """What a change that let go of its run means for the execution."""
    assert change.transition is not None
    status = change.transition.status
    if status.is_terminal:
        return Ending.CLOSED
    return Ending.PARKED if status is RunStatus.SLEEPING and change.transition.error is None else Ending.RELEASED


def continuation_in(error: BaseException) -> ContinueAsNew | None:
    """How the run is to continue, where that is all that a body has raised; a TaskGroup raises it in a group."""
    if type(error) is ContinueAsNew:
        return error
    if type(error) is BaseExceptionGroup and len(error.exceptions) == 1:
        return continuation_in(error.exceptions[0])
    return None


def explained(error: BaseException) -> BaseException:
    """Say what it means that a body awaited something of the real loop, or ran a loop of its own."""
    if not issubclass(type(error), RuntimeError):
        return error
    message = message_of(error, limit=1_000)
    if _OTHER_LOOP.search(message):
        call = "awaiting a connection, a task or a lock that was made outside of the workflow"
    elif _ANOTHER_LOOP.search(message):
        call = "running an event loop, as asyncio.run does,"
    else:
        return error
    explained = WorkflowIOError(call, "Do it in a step: `ctx.step(name, function, ...)`.")
    explained.__cause__ = error
    explained.__traceback__ = error.__traceback__
    return explained


def stuck() -> KagziError:
    """The error of a body that can never go on."""
    return WorkflowStuck(
        "the workflow waits for something that can't happen: no step is running and no timer or message is awaited. "
        "An Event that nobody sets, a Queue that nobody fills and a deadlock of Locks look like this."
    )
