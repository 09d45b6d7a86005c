"""What the generated twins (twins.py) are made of."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from kagzi.app.kagzi import Kagzi as AsyncKagzi
from kagzi.blocking.bridge import Bridge, bridge_beside
from kagzi.client.workflow import Workflow as AsyncWorkflow
from kagzi.worker.worker import Worker as AsyncWorker

OriginalT = TypeVar("OriginalT")
WorkflowT = TypeVar("WorkflowT", bound=AsyncWorkflow[Any, Any])


class Twin(Generic[OriginalT]):
    """A blocking twin: calls go over the bridge to the original."""

    def __init__(self, bridge: Bridge, original: OriginalT) -> None:
        self._bridge = bridge
        self._original = original

    def __repr__(self) -> str:
        """Name the original."""
        return repr(self._original).replace("<", "<blocking ", 1)


class FunctionTwin(Twin[WorkflowT]):
    """The twin of what stands in a function's place, with its name and docstring."""

    def __init__(self, bridge: Bridge, original: WorkflowT) -> None:
        super().__init__(bridge, original)
        # Not its __dict__, which is the original's own state; and as Any, for it asks for a function.
        functools.update_wrapper(cast(Any, self), original, updated=())


class ApplicationTwin(Twin[AsyncKagzi]):
    """The twin of an application."""

    @classmethod
    def of(cls, application: AsyncKagzi) -> Self:
        """A blocking view of an async application: the same workflows, for threads.

        While the async application is open on an event loop that runs, calls are handed to that loop; else the view
        has a connection of its own. All views of an application share one.
        """
        if not isinstance(application, AsyncKagzi):
            raise TypeError(f"a blocking view is one of a kagzi.Kagzi, not of {application!r}.")
        view = cls.__new__(cls)
        bridge = bridge_beside(application)
        Twin.__init__(view, bridge, bridge.application)
        return view

    @property
    def asynchronous(self) -> AsyncKagzi:
        """The async application behind this one: for `async with`, and for kagzi.testing.Environment."""
        return self._bridge.given

    def __kagzi__(self) -> AsyncKagzi:
        """What `kagzi worker module:app` executes where this is the app."""
        return self._bridge.given

    def open(self) -> None:
        """Connect and migrate; again without effect. Raises StoreUnavailable, MigrationError or ConfigError.

        The first call of anything else does it, too, unless the application was closed.
        """
        self._bridge.open("Kagzi.open")

    def close(self) -> None:
        """Stop the workers of this process, commit what waits, and disconnect; the end of the process does it, too."""
        self._bridge.close("Kagzi.close")

    def __enter__(self) -> Self:
        """Connect and migrate."""
        self._bridge.enter("Kagzi.__enter__")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect, unless another thread is in such a block."""
        self._bridge.exit("Kagzi.__exit__")


def serve(bridge: Bridge, worker: AsyncWorker) -> None:
    """Run a worker to its end; in the main thread, SIGTERM and SIGINT stop it."""
    with _stopped_by_signals(lambda: bridge.post(worker.stop)):
        bridge.call("Worker.start", worker.start, connect=False)


@contextlib.contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, reaction in former.items():
            signal.signal(number, signal.SIG_DFL if reaction is None else reaction)  # None: set by no Python code
