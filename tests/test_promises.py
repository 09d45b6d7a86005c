"""Every promise of Kagzi has a test that names it, in its name (`..._p24`) or its docstring (`P24`)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PROMISES = {f"P{number}" for number in range(1, 29)}

_NAMED = re.compile(r"(?<![A-Za-z0-9])[Pp](\d{1,2})(?![0-9A-Za-z])")


def test_every_promise_has_a_test_that_names_it() -> None:
    missing = PROMISES - set(_named())

    assert not missing, f"no test names {', '.join(sorted(missing))}"


def _named() -> Iterator[str]:
    for path in sorted(TESTS.rglob("test_*.py")):
        if path == Path(__file__):
            continue
        module = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                told = f"{node.name.replace('_', ' ')} {ast.get_docstring(node) or ''}"
                yield from (f"P{int(number)}" for number in _NAMED.findall(told))
