"""Every verb of the async classes has its blocking twin: the generated file is what the generator gives today."""

from __future__ import annotations

import ast
import inspect

import pytest

import kagzi
from kagzi import blocking
from kagzi.blocking import twins
from tests.test_public_surface import PARAMETERS
from tools.generate_blocking import TARGET, Writing, blocking_words, generate
from tools.twinned_classes import ORIGINALS, Original


def test_the_twins_fit_the_async_classes() -> None:
    assert TARGET.read_text(encoding="utf-8") == generate(), "run: make generate"


def promised() -> list[tuple[str, str, str]]:
    """Class, name and parameters of every method of an async class that has a twin, as the public surface has them."""
    twinned = {original.name for original in ORIGINALS}
    split = [(*function.__qualname__.split("."), expected) for function, expected in PARAMETERS.items()]
    return [(each[0], each[1], each[2]) for each in split if len(each) == 3 and each[0] in twinned]


@pytest.mark.parametrize(("class_name", "name", "expected"), promised())
def test_a_twin_of_a_public_verb_takes_the_same_parameters_and_blocks(
    class_name: str, name: str, expected: str
) -> None:
    method = getattr(getattr(twins, class_name), name)
    empty = inspect.Parameter.empty
    parameters = [
        each.replace(annotation=empty, default=empty) for each in inspect.signature(method).parameters.values()
    ]

    assert str(inspect.Signature(parameters)) == f"({expected})"
    assert not inspect.iscoroutinefunction(method)
    assert inspect.getdoc(method) or name == "__init__"


@pytest.mark.parametrize("original", ORIGINALS, ids=lambda original: original.name)
def test_a_public_verb_of_an_async_class_is_twinned_or_named_among_the_others(original: Original) -> None:
    verbs = {
        name
        for part in original.nodes
        for name in (node.name for node in part.body if isinstance(node, ast.AsyncFunctionDef))
        if not name.startswith("_")
    }
    twin = vars(getattr(twins, original.name)) | vars(getattr(twins, original.name).__mro__[1])

    inside = original.without if not original.only else verbs - original.only
    assert verbs - set(twin) <= inside


IN_WORKFLOWS = {
    *("ParallelExecutor", "ParallelGroup", "StepBuilder", "StepCall", "WorkflowContext"),
    *("ChildHandle", "UpdateRequest"),
}
"""What bodies use, which have `SyncWorkflowContext` for plain functions."""


def test_every_public_class_with_async_verbs_is_twinned() -> None:
    def has_async_verbs(value: object) -> bool:
        return inspect.isclass(value) and any(
            inspect.iscoroutinefunction(member) for name, member in vars(value).items() if not name.startswith("__")
        )

    found = {name for name in kagzi.__all__ if has_async_verbs(getattr(kagzi, name))}

    assert found - IN_WORKFLOWS <= set(blocking.__all__)


def test_a_verb_that_is_added_appears_with_its_signature_docstring_and_types() -> None:
    source = '''
class WorkflowHandle(Generic[R]):
    """A run."""

    async def rename(self, name: str, /, *, why: Reason = "none", **more: Any) -> list[WorkflowHandle[R]]:
        """Rename it: `await handle.rename("a")`."""
'''
    original = Original(module="kagzi.client.handles", name="WorkflowHandle")
    vars(original)["trees"] = {original.module: ast.parse(source)}

    written = Writing(original).write()

    assert "def rename(self, name: str, /, *, why: Reason='none', **more: Any) -> list[WorkflowHandle[R]]:" in written
    assert 'Rename it: `handle.rename("a")`.' in written
    assert (
        "return [WorkflowHandle(self._bridge, each) for each in self._bridge.call("
        '"WorkflowHandle.rename", lambda: self._original.rename(name, why=why, **more))]'
    ) in written


def test_only_code_in_docstrings_is_reworded() -> None:
    told = blocking_words("We await you: `await x.y()`, `async with x:`, an `async def` function.")

    assert told == "We await you: `x.y()`, `with x:`, an `async def` function."


def test_what_the_generator_can_not_twin_is_refused_rather_than_written() -> None:
    source = (
        'class WorkflowHandle:\n    """A run."""\n\n    async def all(self) -> dict[str, WorkflowHandle[int]]: ...\n'
    )
    original = Original(module="kagzi.client.handles", name="WorkflowHandle")
    vars(original)["trees"] = {original.module: ast.parse(source)}

    with pytest.raises(SystemExit, match="does not know how to make twins"):
        Writing(original).write()
