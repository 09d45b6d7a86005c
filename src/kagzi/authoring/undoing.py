"""Steps that are undone where their run fails: what is called, and what is to be called for its undo."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any, NamedTuple, TypeVar

from kagzi.authoring.calls import StepCall
from kagzi.authoring.options import NO_OPTIONS, StepOptions, combine
from kagzi.authoring.port import RunPort

R = TypeVar("R")


class Called(NamedTuple):
    """A step as it was called; `given` are its positional arguments without the object of a method."""

    name: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: StepOptions
    given: tuple[Any, ...]


class UndoableCall(StepCall[R]):
    """A step that is undone where it was completed and the run fails."""

    given: tuple[Any, ...] = ()
    """The positional arguments that its undo gets after the result."""

    def set_result(self, result: R, /) -> None:
        """Be completed, which is the moment that decides when it is undone."""
        self.port.completed(self, result)
        super().set_result(result)


class UndoableTransaction(UndoableCall[R]):
    """A transaction that is undone by another."""

    in_transaction = True


class Undo(NamedTuple):
    """How a step is undone: the call of a function, with options of its own."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: StepOptions


def undoable_call(port: RunPort, called: Called, *, in_transaction: bool = False) -> StepCall[Any]:
    """Make the call of a step that has an undo. Raises TypeError where the undo can't be called with what it gets."""
    _check(called, in_transaction=in_transaction)
    kind = UndoableTransaction if in_transaction else UndoableCall
    call: UndoableCall[Any] = kind(  # type: ignore[abstract] # only for type checkers: see calls.py
        port, port.identify(called.name), *called[:-1]
    )
    call.given = called.given
    port.created(call)
    port.undoable(call)
    return call


def _check(called: Called, *, in_transaction: bool) -> None:
    what, first = ("transaction", ("conn", "result")) if in_transaction else ("step", ("result",))
    undo = called.options.undo
    assert undo is not None
    try:
        signature = inspect.signature(undo)
    except (TypeError, ValueError):  # of some that are built in nothing is known
        return
    try:
        signature.bind(*first, *called.given, **called.kwargs)
    except TypeError as error:
        gets = ", ".join([*first, *("an argument" for _ in called.given), *(f"{name}=..." for name in called.kwargs)])
        raise TypeError(
            f"the undo of {what} {called.name!r} gets the {what}'s result and then what the {what} was called with, "
            f"as in {getattr(undo, '__name__', 'undo')}({gets}); but it takes {signature}: {error}."
        ) from error


def undo_of(call: UndoableCall[Any], result: Any) -> Undo:
    """What undoes a step that gave `result`.

    The options are those of `@step` on the undo. Where it has none, it is tried again as the step is, and may take as
    long; but never is it given up because of all the time that it has taken.
    """
    undo = call.options.undo
    assert undo is not None
    args = (result, *call.given)
    own = getattr(undo, "__kagzi_step__", None)
    if own is not None:
        if type(undo) is MethodType:  # whose `__wrapped__` is the function without its object
            args = (undo.__self__, *args)
        undo = undo.__wrapped__  # type: ignore[attr-defined] # @step has put it there
    own, step = own or NO_OPTIONS, call.options
    if own.retry is None:
        behind = StepOptions(timeout=step.timeout, retry=step.retry, retry_if=step.retry_if)
    else:
        behind = StepOptions(timeout=step.timeout)
    return Undo(undo, args, call.kwargs, combine(own, behind))
