"""Options of a start, apart from the workflow's own arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from kagzi.authoring.durations import as_moment, as_span
from kagzi.authoring.names import ID_LIMIT, check_name, check_priority, check_version
from kagzi.authoring.signals import Signal
from kagzi.errors import ConfigError
from kagzi.store.borrowed.protocol import Borrowed
from kagzi.store.borrowed.recognizing import borrow

if TYPE_CHECKING:
    from kagzi.client.handles import WorkflowHandle
    from kagzi.client.workflow import Workflow

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """Checked options; None leaves a choice to the application."""

    id: str | None = None
    queue: str = "default"
    priority: int = 0
    delay: timedelta | None = None
    at: datetime | None = None
    version: int | None = None
    tags: tuple[str, ...] = ()
    attributes: Mapping[str, Any] | None = None
    namespace: str | None = None
    timeout: timedelta | None = None
    start_timeout: timedelta | None = None
    connection: Borrowed | None = None


def with_options(options: StartOptions, given: Mapping[str, Any]) -> StartOptions:
    """Add `given` options. Raises TypeError for an unknown one, ValueError or ConfigError for a value that can't be."""
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _CHECKS:
            raise TypeError(f"options() has no {name!r}; there are: {', '.join(_CHECKS)}.")
        checked[name] = None if value is None and name in _OPTIONAL else _CHECKS[name](value)
    merged = dataclasses.replace(options, **checked)
    if merged.delay is not None and merged.at is not None:
        raise ConfigError("delay and at were both given; a run falls due after a delay or at a moment, not both.")
    return merged


def _tags(tags: object) -> tuple[str, ...]:
    if isinstance(tags, str) or not isinstance(tags, Sequence | set | frozenset):
        raise TypeError(f"tags must be a list of texts, not {type(tags).__name__}.")
    return tuple(dict.fromkeys(check_name(tag, what="a tag") for tag in tags))


def _attributes(attributes: object) -> Mapping[str, Any]:
    if not isinstance(attributes, Mapping):
        raise TypeError(f"attributes must be a dict of JSON values by name, not {type(attributes).__name__}.")
    return dict(attributes)


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "id": lambda value: check_name(value, what="the id of a run", limit=ID_LIMIT),
    "queue": lambda value: check_name(value, what="the name of a queue"),
    "priority": check_priority,
    "delay": partial(as_span, what="delay"),
    "at": lambda value: as_moment(value, what="at"),
    "version": lambda value: check_version(value, what="version"),
    "tags": _tags,
    "attributes": _attributes,
    "namespace": lambda value: check_name(value, what="the namespace"),
    "timeout": partial(as_span, what="timeout"),
    "start_timeout": partial(as_span, what="start_timeout"),
    "connection": borrow,
}
_OPTIONAL = ("id", "delay", "at", "version", "attributes", "namespace", "timeout", "start_timeout", "connection")


class StartVerb(Protocol):
    """Whoever starts runs with options."""

    async def start_with(
        self,
        workflow: Any,
        version: int | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: StartOptions,
    ) -> WorkflowHandle[Any]:
        """Start a run."""

    async def signal_with_start_with(
        self,
        workflow: Any,
        signal: Signal[Any],
        value: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: StartOptions,
    ) -> WorkflowHandle[Any]:
        """Send a signal to a run, which is started where there is none."""


class OptionView:
    """An immutable view of an application whose starts have options."""

    def __init__(self, starter: StartVerb, options: StartOptions) -> None:
        self._starter = starter
        self._options = options

    def options(self, **options: Any) -> OptionView:
        """The same with more options; those given here win."""
        return OptionView(self._starter, with_options(self._options, options))

    @overload
    async def start_workflow(
        self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @overload
    async def start_workflow(self, workflow: str, /, *args: Any, **kwargs: Any) -> WorkflowHandle[Any]: ...

    async def start_workflow(self, workflow: Any, /, *args: Any, **kwargs: Any) -> WorkflowHandle[Any]:
        """Start a run of a workflow, or of the workflow of that name, with these options."""
        return await self._starter.start_with(workflow, None, args, kwargs, self._options)

    async def start_workflow_version(
        self, name: str, version: int, /, *args: Any, **kwargs: Any
    ) -> WorkflowHandle[Any]:
        """Start a run of one version of a workflow, with these options."""
        return await self._starter.start_with(name, version, args, kwargs, self._options)

    @overload
    async def signal_with_start(
        self, workflow: Workflow[P, R], signal: Signal[T], value: T, /, *args: P.args, **kwargs: P.kwargs
    ) -> WorkflowHandle[R]: ...

    @overload
    async def signal_with_start(
        self, workflow: str, signal: Signal[T], value: T, /, *args: Any, **kwargs: Any
    ) -> WorkflowHandle[Any]: ...

    async def signal_with_start(
        self, workflow: Any, signal: Signal[Any], value: Any, /, *args: Any, **kwargs: Any
    ) -> WorkflowHandle[Any]:
        """Send a signal to the run of the options' id; where there is none, it is started with these arguments.

        However many do so at once, there is one run, and it gets every signal. Raises ConfigError without an id,
        ConflictError where the id was started with something else, RunClosed where its run has ended.
        """
        return await self._starter.signal_with_start_with(workflow, signal, value, args, kwargs, self._options)
