"""The run's port, as a parallel group shows it to its context."""

from __future__ import annotations

from functools import partial
from typing import Any

from kagzi.authoring.branches import Branches
from kagzi.authoring.calls import LazyCall, StepCall
from kagzi.authoring.children import ChildCall
from kagzi.authoring.port import RunPort
from kagzi.authoring.scopes import Scope
from kagzi.errors import KagziError


class GroupPort:
    """The run's port, seen from a group: what is called in the group's task gets its identity from the group, and a
    step that is made is a branch. Everything else is the run's own."""

    def __init__(self, base: RunPort, scope: Scope, name: str, branches: Branches) -> None:
        self.base = base
        self._scope = scope
        self._task_scope = base.scope
        self._name = name
        self._branches: Branches | None = branches
        self.loop = base.loop
        self.next_order = base.next_order
        self.withdraw = base.withdraw

    def __getattr__(self, name: str) -> Any:
        return getattr(self.base, name)

    @property
    def scope(self) -> Scope:
        """The group's scope in the task that opened it; in another task that task's, or order would decide."""
        current = self.base.scope
        return self._scope if current is self._task_scope else current

    def check_open(self) -> Branches:
        """Give the branches, or raise KagziError where the group takes no more."""
        branches = self._branches
        if branches is None:
            raise KagziError(
                f"parallel group {self._name!r} has ended and takes no more branches. Open another one; "
                "a branch can still be awaited."
            )
        if branches.is_failed:
            raise KagziError(
                f"a branch of parallel group {self._name!r} has failed, so the group takes no more. Collect failures "
                "with on_error=ParallelErrorStrategy.COLLECT_ALL if the others should go on."
            )
        return branches

    def close(self) -> None:
        """Take no more branches."""
        self._branches = None

    def identify(self, name: str, scope: Scope | None = None) -> str:
        """Give the next branch of this name its identity."""
        self.check_open()
        return self.base.identify(name, self.scope if scope is None else scope)

    def created(self, call: LazyCall[Any]) -> None:
        """Start a step or a child as a branch."""
        self.check_open().add(call)

    def ask(self, call: StepCall[Any]) -> None:
        """Have the step executed as soon as there is a place for it."""
        self.check_open().begin(call, partial(self.base.ask, call))

    def ask_child(self, call: ChildCall[Any]) -> None:
        """Have the child started as soon as there is a place for it."""
        self.check_open().begin(call, partial(self.base.ask_child, call))
