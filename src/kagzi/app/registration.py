"""What an application's code declares: its workflows, what handles its events, how its errors are classified."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, Unpack, overload

from kagzi.app.classifying import watched
from kagzi.authoring.context import WorkflowContext
from kagzi.authoring.definitions import Definition, Definitions, check_handler, check_workflow_function
from kagzi.authoring.events import Event, as_event
from kagzi.authoring.names import check_name
from kagzi.authoring.options import WorkflowOptions, WorkflowRetries, workflow_options
from kagzi.authoring.sync_context import SyncWorkflowContext, as_coroutine_function
from kagzi.client.workflow import Launcher, Workflow
from kagzi.model.event import EventHandler
from kagzi.payloads import PayloadCodec, Payloads
from kagzi.rules.classification import Classifier

P = ParamSpec("P")
R = TypeVar("R")
ErrorClassifier = TypeVar("ErrorClassifier", bound=Classifier)
WorkflowFunction = Callable[Concatenate[WorkflowContext, P], Coroutine[Any, Any, R]]
SyncWorkflowFunction = Callable[Concatenate[SyncWorkflowContext, P], R]


class WorkflowDecorator(Protocol):
    """Makes a workflow of a function."""

    @overload
    def __call__(self, function: WorkflowFunction[P, R], /) -> Workflow[P, R]: ...

    @overload
    def __call__(self, function: SyncWorkflowFunction[P, R], /) -> Workflow[P, R]: ...


class EventDecorator(Protocol):
    """Has events start a workflow, which it makes of a function that is none."""

    @overload
    def __call__(self, handler: Workflow[P, R], /) -> Workflow[P, R]: ...

    @overload
    def __call__(self, handler: WorkflowFunction[P, R], /) -> Workflow[P, R]: ...

    @overload
    def __call__(self, handler: SyncWorkflowFunction[P, R], /) -> Workflow[P, R]: ...


class Registration(Launcher):
    """The part of an application that is there before it is connected."""

    def __init__(self, *, payload_limit: int, codec: PayloadCodec | None) -> None:
        self._payloads = Payloads(limit=payload_limit, codec=codec)
        self._definitions = Definitions()
        self._classifiers: list[Classifier] = []

    @overload
    def workflow(self, function: WorkflowFunction[P, R], /) -> Workflow[P, R]: ...

    @overload
    def workflow(self, function: SyncWorkflowFunction[P, R], /) -> Workflow[P, R]: ...

    @overload
    def workflow(
        self, name: str | None = None, /, *, version: int = 1, **options: Unpack[WorkflowRetries]
    ) -> WorkflowDecorator: ...

    def workflow(self, function: Any = None, /, *, version: int = 1, **options: Unpack[WorkflowRetries]) -> Any:
        """Register a function as a workflow: `@kagzi.workflow` or `@kagzi.workflow("name", version=2)`.

        An `async def` function takes a `WorkflowContext` first; a plain one a `SyncWorkflowContext`, annotated so.
        Without a name it takes the function's. `retry` and `retry_if`: whether a run that fails is executed again, with
        what it has finished; by default it is not. `step_retry`, `step_retry_if` and `step_timeout` stand behind the
        options of its steps (`WorkflowContext.options`, `@step`).

        Raises ConfigError where the function can't be a workflow, or the name and version belong to another, TypeError
        or ValueError for an option that can't be.
        """
        checked = workflow_options(**options)
        if callable(function):
            return self._register(function.__name__, 1, function, checked)

        def decorate(fn: Callable[..., Any]) -> Workflow[Any, Any]:
            return self._register(fn.__name__ if function is None else function, version, fn, checked)

        return decorate

    @overload
    def register_workflow(
        self, name: str, fn: WorkflowFunction[P, R], **options: Unpack[WorkflowRetries]
    ) -> Workflow[P, R]: ...

    @overload
    def register_workflow(
        self, name: str, fn: SyncWorkflowFunction[P, R], **options: Unpack[WorkflowRetries]
    ) -> Workflow[P, R]: ...

    def register_workflow(
        self, name: str, fn: Callable[..., Any], **options: Unpack[WorkflowRetries]
    ) -> Workflow[Any, Any]:
        """Register version 1 of a workflow by call; see `workflow`."""
        return self._register(name, 1, fn, workflow_options(**options))

    @overload
    def register_workflow_version(
        self, name: str, version: int, fn: WorkflowFunction[P, R], **options: Unpack[WorkflowRetries]
    ) -> Workflow[P, R]: ...

    @overload
    def register_workflow_version(
        self, name: str, version: int, fn: SyncWorkflowFunction[P, R], **options: Unpack[WorkflowRetries]
    ) -> Workflow[P, R]: ...

    def register_workflow_version(
        self, name: str, version: int, fn: Callable[..., Any], **options: Unpack[WorkflowRetries]
    ) -> Workflow[Any, Any]:
        """Register a version of a workflow by call; see `workflow`."""
        return self._register(name, version, fn, workflow_options(**options))

    def on_event(self, event: Event[Any] | str, /, *, queue: str = "default") -> EventDecorator:
        """Have every event of a name start a run of a workflow: `@kagzi.on_event("user.created")` above
        `@kagzi.workflow`, or above the function alone, which it makes a workflow of.

        Its only argument is what the event carries; its id names the event, so there is exactly one run for each event,
        whatever crashes. `queue` says which workers may take them. It holds for every event from the first start of a
        worker with this code on, wherever it is emitted; whoever emits need not know the code. One whose version is
        deprecated gets no more runs.

        Raises ConfigError where the workflow does not take exactly one argument beside its context.
        """
        name = as_event(event).name
        check_name(queue, what="queue")

        def decorate(handler: Any) -> Any:
            workflow = handler if isinstance(handler, Workflow) else self.workflow(handler)
            check_handler(workflow.definition.name, handler)
            self._definitions.handle(
                EventHandler(event=name, workflow=workflow.name, version=workflow.version, queue=queue)
            )
            return workflow

        return decorate

    def _register(
        self, name: str, version: int, fn: Callable[..., Any], options: WorkflowOptions
    ) -> Workflow[Any, Any]:
        check_workflow_function(name, version, fn)
        definition = Definition(
            name=name,
            version=version,
            fn=as_coroutine_function(fn),
            arguments=self._payloads.signature(fn, skip_first=True),
            result=self._payloads.result_shape(fn),
            options=options,
        )
        self._definitions.add(definition)
        return Workflow(self, definition, fn)

    def classify_errors(self, fn: ErrorClassifier) -> ErrorClassifier:
        """Have `fn(exception)` say of which `ErrorKind` the failures of this application are; also as a decorator.

        It returns None for what it leaves to the next: those registered before it, latest first, and then Kagzi's own
        rules. It is called on the worker's event loop, so it must not wait. One that raises, or returns anything else,
        is passed over, and named in a warning once. Raises TypeError where `fn` can't be called, or is `async def`.
        """
        self._classifiers.insert(0, watched(fn))
        return fn
