"""Whatever an exception does when it is looked at, it is told, and nothing gets out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagzi import ErrorKind, NonRetryable, RetryAfter, StepFailed
from tests.rules.telling import Untellable, raised, told


class Trap:
    """Raises whatever is asked of it."""

    def __init__(self, failure: type[BaseException]) -> None:
        self._failure = failure

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is not None:
            raise self._failure("a trap")
        return self


PYTHONS_HOOKS = {
    "__class__",
    "__str__",
    "__repr__",
    "__cause__",
    "__context__",
    "__suppress_context__",
    "__traceback__",
}
OTHER_HOOKS = {
    *("__notes__", "args", "status_code", "status", "code", "response", "resp", "headers", "sqlstate", "pgcode"),
    *("sqlite_errorcode", "orig", "reason", "connection_invalidated", "retry_after", "errno", "filename"),
    *("context", "kind", "delay", "error"),
}
HOOKS = PYTHONS_HOOKS | OTHER_HOOKS | {"exceptions"}


@pytest.mark.parametrize("failure", [RuntimeError, AttributeError, SystemExit, RecursionError, GeneratorExit])
@pytest.mark.parametrize(
    "base", [Exception, OSError, FileNotFoundError, TimeoutError, NonRetryable, RetryAfter, StepFailed, ExceptionGroup]
)
def test_an_exception_all_of_whose_hooks_raise_is_told(base: Any, failure: type[BaseException]) -> None:
    hostile: Any = type("Hostile", (base,), {hook: Trap(failure) for hook in HOOKS})
    error = hostile.__new__(hostile, "message", [ValueError("in")])

    described = told(error)

    assert described.type == "Hostile"
    assert described.traceback


@pytest.mark.parametrize(
    "answer",
    [
        lambda name: 1 / 0,
        lambda name: sys.exit(),
        lambda name: object(),
        Trap,
        lambda name: 429,
    ],
)
def test_an_exception_that_answers_to_every_name_is_told(answer: Callable[[str], Any]) -> None:
    class Answering(Exception):
        def __getattr__(self, name: str) -> Any:
            return answer(name)

    assert told(raised(Answering("bad"))).type == "Answering"


def test_an_exception_that_is_a_circle_of_mirrors_is_told() -> None:
    class Mirror(Exception):
        def __getattr__(self, name: str) -> Any:
            return self

        def __call__(self, *args: Any) -> Any:
            return self

    assert told(Mirror("bad")).kind is ErrorKind.UNKNOWN


@pytest.mark.parametrize("module", ["m" * 1_000_000, "\0" * 255, "\ud800", None, 5])
def test_an_exception_from_a_module_of_any_name_is_told(module: Any) -> None:
    error = raised(type("Hostile", (ValueError,), {"__module__": module})("bad"))
    for _ in range(30):
        error.add_note("\1" * 10_000)

    assert "Hostile: bad\n" in told(error).traceback


def test_notes_that_do_not_let_themselves_be_read_are_told() -> None:
    class Notes(list[str]):
        def __getitem__(self, index: Any) -> Any:
            raise SystemExit("no")

        __iter__ = __len__ = __getitem__  # type: ignore[assignment] # that is the point

    error = ValueError("bad")
    error.__notes__ = Notes(["noted"])

    assert told(error).traceback == "ValueError: bad\nnoted\n"


def test_texts_of_classes_of_their_own_are_made_plain() -> None:
    class Text(str):
        __slots__ = ()

        def __len__(self) -> int:
            raise RuntimeError("no")

        def encode(self, *args: Any) -> Any:
            raise RuntimeError("no")

        __getitem__ = __str__ = isascii = encode

    class Speaking(Exception):
        def __str__(self) -> str:
            return Text("said")

    Speaking.__module__ = Text("somewhere")
    error = Speaking()
    error.__notes__ = [Text("noted"), 5, Untellable()]  # type: ignore[list-item] # that is the point

    described = told(error)

    assert described.message == "said"
    assert described.traceback.startswith("somewhere.")


hostile_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(min_value=400, max_value=599),
        st.floats(),
        st.text(alphabet=st.characters(exclude_categories=())),
        st.binary(),
        st.sampled_from(
            ["40001", "ThrottlingException", "retry-after", "\ud800", ErrorKind.TIMEOUT, ValueError, object()]
        ),
        st.builds(ValueError, st.text()),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["Error", "Code", "ResponseMetadata", "HTTPStatusCode", "HTTPHeaders", "Retry-After", "a"]),
            inner,
            max_size=4,
        ),
        st.builds(RetryAfter, st.floats(allow_nan=False), st.text(), context=st.dictionaries(st.text(), inner)),
        st.builds(NonRetryable, st.text(), context=st.dictionaries(st.text(), inner)),
    ),
    max_leaves=12,
)
fields = st.dictionaries(st.sampled_from(sorted(OTHER_HOOKS)), hostile_values, max_size=6)
BASES: list[Any] = [Exception, OSError, FileNotFoundError, KeyError, UnicodeError, NonRetryable, StepFailed]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(BASES), fields, st.text()), min_size=1, max_size=4), st.booleans())
def test_no_exception_is_too_strange(parts: list[tuple[Any, dict[str, Any], str]], grouped: bool) -> None:
    errors: list[Exception] = []
    for base, attributes, message in parts:
        error = base.__new__(base, message)
        for name, value in attributes.items():
            try:
                setattr(error, name, value)
            except (TypeError, ValueError, AttributeError):
                continue
        if errors:
            error.__cause__ = errors[-1]
        errors.append(error)

    described = told(ExceptionGroup("several", errors) if grouped else errors[-1])

    assert isinstance(described.kind, ErrorKind)
    assert isinstance(described.retryable, bool)
