"""`Workflow`: what `@kagzi.workflow` makes of a function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from kagzi.authoring.context import WorkflowContext
from kagzi.authoring.definitions import Definition
from kagzi.authoring.signals import Signal
from kagzi.authoring.sync_context import SyncWorkflowContext
from kagzi.client.handles import WorkflowHandle
from kagzi.client.options import OptionView

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Launcher(Protocol):
    """The application, as far as a workflow needs it to start itself."""

    async def launch(
        self, workflow: str, version: int | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> WorkflowHandle[Any]:
        """Start a run of a workflow."""

    def options(self, **options: Any) -> OptionView:
        """A view with the same verbs whose starts have these options."""


class Workflow(Generic[P, R]):
    """A registered workflow. Calling it calls the function itself, for tests of its logic with your own context."""

    def __init__(
        self,
        launcher: Launcher,
        definition: Definition,
        function: Callable[..., Any],
    ) -> None:
        functools.update_wrapper(self, function)
        self._launcher = launcher
        self.definition = definition
        self._function = function

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self.definition.name

    @property
    def version(self) -> int:
        """The version that this function is."""
        return self.definition.version

    async def start(self, *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]:
        """Start a run with these arguments; returns once it is stored for good.

        The run gets the workflow's default version. Raises PayloadError for an argument that can't be stored exactly,
        StoreUnavailable or OutcomeUnknown where the database can't be reached.
        """
        return await self._launcher.launch(self.name, None, args, kwargs)

    def options(self, **options: Any) -> BoundWorkflow[P, R]:
        """This workflow with options for its starts: those of `Kagzi.options`."""
        return BoundWorkflow(self, self._launcher.options(**options))

    @overload
    def __call__(self, ctx: WorkflowContext, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...

    @overload
    def __call__(self, ctx: SyncWorkflowContext, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def __call__(self, ctx: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function."""
        return self._function(ctx, *args, **kwargs)

    def __repr__(self) -> str:
        """Name the workflow."""
        return f"<Workflow {self.name!r} version {self.version}>"


class BoundWorkflow(Generic[P, R]):
    """A workflow with options for its starts."""

    def __init__(self, workflow: Workflow[P, R], view: OptionView) -> None:
        self._workflow = workflow
        self._view = view

    async def start(self, *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]:
        """Start a run with these arguments and options."""
        return await self._view.start_workflow(self._workflow, *args, **kwargs)

    async def signal_with_start(
        self, signal: Signal[T], value: T, /, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]:
        """Send a signal to the run of the options' id; where there is none, it is started with these arguments.

        However many do so at once, there is one run, and it gets every signal. Raises ConfigError without an id,
        ConflictError where the id was started with something else, RunClosed where its run has ended.
        """
        return await self._view.signal_with_start(self._workflow, signal, value, *args, **kwargs)

    def options(self, **options: Any) -> BoundWorkflow[P, R]:
        """The same with more options; those given here win."""
        return BoundWorkflow(self._workflow, self._view.options(**options))
