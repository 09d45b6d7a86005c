"""Workflow definitions: a name, a version, a function and how its values are stored."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol

import msgspec

from kagzi.authoring.names import check_name, check_version
from kagzi.authoring.options import WorkflowOptions
from kagzi.authoring.sync_context import SyncWorkflowContext
from kagzi.errors import ConfigError, VersionNotFound, WorkflowNotRegistered
from kagzi.model.event import EventHandler
from kagzi.payloads.hints import resolve


class ArgumentShape(Protocol):
    """How a workflow's arguments are stored."""

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, where: str) -> str:
        """Turn arguments into text."""

    def decode(self, text: str, *, where: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Turn text into arguments."""


class ResultShape(Protocol):
    """How a result is stored."""

    def settle(self, value: Any, *, where: str) -> tuple[str, Any]:
        """Turn a value into text, and into the value that every reader will see."""

    def decode(self, text: str, *, where: str) -> Any:
        """Turn text into a value."""


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a workflow. `fn` makes a coroutine, whatever the workflow's own function is."""

    name: str
    version: int
    fn: Callable[..., Coroutine[Any, Any, Any]]
    arguments: ArgumentShape
    result: ResultShape
    options: WorkflowOptions = WorkflowOptions()


class Definitions:
    """The workflows that an application knows, by name and version."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[int, Definition]] = {}
        self._handlers: dict[tuple[str, str], EventHandler] = {}

    def add(self, definition: Definition) -> None:
        """Take in a definition. Raises ConfigError where its name and version belong to another function."""
        versions = self._versions.setdefault(definition.name, {})
        known = versions.get(definition.version)
        if known is not None and not _same_source(known.fn, definition.fn):
            raise ConfigError(
                f"workflow {definition.name!r} version {definition.version} is registered twice: "
                f"{_place(known.fn)} and {_place(definition.fn)}. Give one of them another name or version."
            )
        versions[definition.version] = definition

    def handle(self, handler: EventHandler) -> None:
        """Have each event of a name start a workflow. Of several versions of one, the highest counts."""
        key = handler.event, handler.workflow
        known = self._handlers.get(key)
        if known is None or known.version <= handler.version:
            self._handlers[key] = handler

    @property
    def handlers(self) -> tuple[EventHandler, ...]:
        """The workflows that events start."""
        return tuple(self._handlers.values())

    def get(self, name: str, version: int) -> Definition:
        """Find a definition. Raises WorkflowNotRegistered or VersionNotFound."""
        versions = self.versions(name)
        if version not in versions:
            raise VersionNotFound(name, version, known=tuple(versions))
        return versions[version]

    def versions(self, name: str) -> dict[int, Definition]:
        """Find all versions of a workflow. Raises WorkflowNotRegistered."""
        if name not in self._versions:
            raise WorkflowNotRegistered(name, known=tuple(self._versions))
        return self._versions[name]

    def knows(self, name: str) -> bool:
        """Whether any version of the workflow is registered."""
        return name in self._versions

    def __iter__(self) -> Iterator[Definition]:
        """Every version of every workflow."""
        # Copies: another thread may register a workflow meanwhile (kagzi.blocking).
        for versions in list(self._versions.values()):
            yield from list(versions.values())


def check_workflow_function(name: object, version: object, fn: object) -> None:
    """Refuse what can't be a workflow: raises ConfigError, TypeError or ValueError saying why."""
    check_name(name, what="the name of a workflow")
    check_version(version, what=f"the version of workflow {name!r}")
    is_async = inspect.iscoroutinefunction(fn)
    if not is_async and not _is_plain(fn):
        raise ConfigError(f"workflow {name!r} must be a function, `async def` or `def`, not {fn!r}.")
    assert callable(fn)
    written = f"def {getattr(fn, '__name__', name)}"
    parameters = list(inspect.signature(fn).parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not parameters or parameters[0].kind not in (*positional, inspect.Parameter.VAR_POSITIONAL):
        raise ConfigError(
            f"workflow {name!r} takes no context: its first parameter must be one, as in "
            f"`async {written}(ctx: WorkflowContext, ...)`."
        )
    blocks = _is_sync_context(parameters[0].annotation, fn)
    if blocks and is_async:
        raise ConfigError(
            f"workflow {name!r} is an `async def` function, and those get a WorkflowContext as their first parameter. "
            "Annotate it so, or write `def` for a SyncWorkflowContext."
        )
    if not blocks and not is_async:
        raise ConfigError(
            f"workflow {name!r} is a plain function, and its first parameter is not annotated as SyncWorkflowContext. "
            f"Write `{written}({parameters[0].name}: SyncWorkflowContext, ...)`, or make it `async def`. "
            "A decorator around an `async def` function must itself give one."
        )


def check_handler(name: str, fn: Callable[..., Any]) -> None:
    """Refuse a workflow that can't be called with what an event carries alone. Raises ConfigError."""
    try:
        inspect.signature(inspect.unwrap(fn)).bind(None, None)
    except TypeError as error:
        raise ConfigError(
            f"workflow {name!r} can't handle events: it must take one argument beside its context, what the event "
            f"carries ({error})."
        ) from None


def _is_plain(fn: object) -> bool:
    generates = inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)
    return (inspect.isfunction(fn) or inspect.ismethod(fn)) and not generates


def _is_sync_context(annotation: object, fn: Callable[..., Any]) -> bool:
    if isinstance(annotation, str):
        try:
            annotation = resolve(annotation, fn)
        except Exception:  # a name that only type checkers see
            return str(annotation).rpartition(".")[2] == SyncWorkflowContext.__name__
    return annotation is SyncWorkflowContext


def _same_source(first: Callable[..., Any], second: Callable[..., Any]) -> bool:
    # A module that is imported twice (as __main__ and by name, or reloaded) defines its workflows twice.
    first, second = inspect.unwrap(first), inspect.unwrap(second)
    return first is second or (
        first.__qualname__ == second.__qualname__
        and first.__code__.co_filename == second.__code__.co_filename
        and first.__code__.co_firstlineno == second.__code__.co_firstlineno
    )


def _place(fn: Callable[..., Any]) -> str:
    fn = inspect.unwrap(fn)
    return f"{fn.__module__}.{fn.__qualname__} ({fn.__code__.co_filename}:{fn.__code__.co_firstlineno})"
