"""An application's own classifiers of errors: checked when they are registered, watched when they are asked."""

from __future__ import annotations

import inspect
import logging

from kagzi.model.error import ErrorKind
from kagzi.rules.classification import Classifier
from kagzi.rules.classification.probes import name_of

logger = logging.getLogger("kagzi.errors")


def watched(fn: Classifier) -> Classifier:
    """A classifier that answers as `fn` does, and None where `fn` raises or returns no kind.

    The first such time is logged with its name: a mistake in it must not hide the error that it was asked about.
    """
    if not callable(fn):
        raise TypeError(f"classify_errors() takes a function of an exception, not {fn!r}.")
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    if inspect.iscoroutinefunction(fn):
        raise TypeError(
            f"classify_errors() takes a plain function, and {name} is `async def`: it can't be awaited here."
        )
    complained = False

    def complain(reason: str) -> None:
        nonlocal complained
        if not complained:
            complained = True
            logger.warning(
                "A classifier of errors failed and is passed over; it will not be named again.",
                extra={"classifier": name, "reason": reason},
            )

    def ask(error: Exception) -> ErrorKind | None:
        try:
            kind = fn(error)
        except KeyboardInterrupt:
            raise
        except BaseException as failure:  # SystemExit too: a classifier must not end the worker
            complain(f"it raised {name_of(failure)} about {name_of(error)}")
            return None
        if kind is None or type(kind) is ErrorKind:
            return kind
        complain(f"it returned {type(kind).__name__}, neither an ErrorKind nor None, about {name_of(error)}")
        return None

    return ask
