"""Which async classes have blocking twins, and what of them can't be told from a signature."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src"


@dataclass(frozen=True, kw_only=True)
class Original:
    """An async class that has a twin."""

    module: str
    name: str
    base: str = "Twin"
    """What the twin is made of; a Protocol has no original to call, and is written with other types alone."""
    attributes: tuple[tuple[str, str, str, str], ...] = ()
    """Those set in `__init__`: name, type, the type's module, and what it is."""
    only: frozenset[str] = frozenset()
    """The methods that are twinned, where most others are for the engine."""
    without: frozenset[str] = frozenset()
    """Methods for other parts of Kagzi, and those that the base has."""
    docstring: str = ""
    """In place of the original's."""
    parts: tuple[tuple[str, str], ...] = ()
    """The classes that it is put together from, as (module, name): what they have, it has."""

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """The sources of the modules, by name: its own, then those of its parts."""
        return {
            module: ast.parse((SOURCES / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
            for module in (self.module, *(module for module, _ in self.parts))
        }

    @cached_property
    def node(self) -> ast.ClassDef:
        """The class."""
        return self._class(self.module, self.name)

    @cached_property
    def nodes(self) -> tuple[ast.ClassDef, ...]:
        """The class and its parts."""
        return (self.node, *(self._class(*part) for part in self.parts))

    def _class(self, module: str, name: str) -> ast.ClassDef:
        for node in self.trees[module].body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return node
        raise SystemExit(f"{module} has no class {name}: correct ORIGINALS in {__file__}.")

    @property
    def parameters(self) -> str:
        """`[P, R]` where the class is generic in those."""
        for base in self.node.bases:
            if isinstance(base, ast.Subscript) and ast.unparse(base.value) == "Generic":
                return f"[{_names(base.slice)}]"
        return ""

    def methods(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """What people call."""
        seen: set[str] = set()
        for part in self.nodes:
            functions = [node for node in part.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
            yield from (node for node in functions if self._is_twinned(node.name) and node.name not in seen)
            seen.update(node.name for node in functions)

    def _is_twinned(self, name: str) -> bool:
        if name in self.without or (self.only and name not in self.only):
            return False
        return (
            not name.startswith("_") or name in ("__aenter__", "__aexit__", "__call__") or (self.name, name) in BODIES
        )


def _names(node: ast.expr) -> str:
    """The names in a subscript, with commas between."""
    return ", ".join(ast.unparse(each) for each in (node.elts if isinstance(node, ast.Tuple) else [node]))


ORIGINALS = (
    Original(
        module="kagzi.client.handles",
        name="WorkflowHandle",
    ),
    Original(
        module="kagzi.client.workflow",
        name="Workflow",
        base="FunctionTwin",
        attributes=(("definition", "Definition", "kagzi.authoring.definitions", "Its name, version and function."),),
    ),
    Original(
        module="kagzi.client.workflow",
        name="BoundWorkflow",
    ),
    Original(
        module="kagzi.client.options",
        name="OptionView",
    ),
    Original(
        module="kagzi.worker.worker",
        name="Worker",
        attributes=(
            ("config", "WorkerConfig", "kagzi.worker.config", "Its name, queues, slots and times."),
            ("state", "WorkerState", "kagzi.model.worker", "Where it stands in its life."),
        ),
        only=frozenset({"worker_id", "start", "stop", "shutdown", "__aenter__", "__aexit__"}),
    ),
    Original(
        module="kagzi.worker.builder",
        name="WorkerBuilder",
    ),
    Original(
        module="kagzi.app.registration",
        name="WorkflowDecorator",
        base="Protocol",
    ),
    Original(
        module="kagzi.app.registration",
        name="EventDecorator",
        base="Protocol",
    ),
    Original(
        module="kagzi.app.kagzi",
        name="Kagzi",
        base="ApplicationTwin",
        parts=(("kagzi.app.registration", "Registration"), ("kagzi.app.operations", "Operations")),
        attributes=(("settings", "Settings", "kagzi.settings", "What the application is set to."),),
        without=frozenset(
            {
                *("open", "close", "__aenter__", "__aexit__"),  # of ApplicationTwin
                *(
                    "launch",
                    "start_with",
                    "signal_with_start_with",
                    "build_worker",
                ),  # for kagzi.client and kagzi.worker
                *("connection_to", "rebind", "replays", "explain"),  # for kagzi.testing and the command line
                *("companion", "open_on"),  # for kagzi.blocking
                "store_in_use",  # for kagzi.app.health
            }
        ),
        docstring="""
            An application for code that blocks: its workflows and its database.

            The arguments are those of kagzi.Kagzi. It is connected when it is first used, in each process that uses
            it, and closed at the end of the process or by `close`; `with kagzi:` does both. Every verb may be called
            from any thread, and not on an event loop.
        """,
    ),
    Original(
        module="kagzi.app.health",
        name="HealthChecker",
        attributes=(("config", "HealthCheckConfig", "kagzi.model.health", "Its bounds."),),
        docstring="""
            Checks an application's health, as often as it is asked. `kagzi` is a blocking application or an async one.

            Ages and waits are counted by the store's clock. No check writes anything, or takes longer than
            `config.timeout` for each of its one or two looks at the database. Where the application is not connected
            yet, the first check connects it, and raises StoreUnavailable where that can't be done.
        """,
    ),
)

ON_LOOP = {"Kagzi.create_worker", "WorkerBuilder.build", "Worker.stop"}
"""Plain methods that change what belongs to the event loop."""

CONNECTED = {"Kagzi.handle"}
"""Plain methods that want an application that is connected."""

UNCONNECTED = {"Worker.__enter__", "Worker.__exit__", "Worker.shutdown"}
"""Async methods that connect by themselves, or are for the end."""

BODIES = {
    ("Kagzi", "__init__"): """
        application = AsyncKagzi({arguments})
        super().__init__(Bridge(application), application)
    """,
    ("HealthChecker", "__init__"): """
        application = kagzi if isinstance(kagzi, Kagzi) else Kagzi.of(kagzi)
        super().__init__(application._bridge, AsyncHealthChecker(application._original, config))
    """,
    ("Kagzi", "connect"): """
        kagzi = cls({arguments})
        kagzi.open()
        return kagzi
    """,
    ("Kagzi", "workflow"): """
        made: Any = {call}
        if isinstance(made, AsyncWorkflow):
            return Workflow(self._bridge, made)
        return lambda fn: Workflow(self._bridge, made(fn))
    """,
    ("Kagzi", "on_event"): """
        made: Any = {call}
        return lambda handler: Workflow(self._bridge, made(getattr(handler, "_original", handler)))
    """,
    ("Worker", "start"): """
        serve(self._bridge, self._original)
    """,
}
"""What no rule gives."""
