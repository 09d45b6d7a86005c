"""The face of the command line: help, version, and how quickly it is there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import kagzi
from tests.cli.commands import called
from tests.cli.commands import kagzi as kagzi_process


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("worker",),
        ("dev",),
        ("workers",),
        ("workers", "list"),
        ("workers", "drain"),
        ("run",),
        ("runs",),
        ("runs", "list"),
        ("runs", "show"),
        ("runs", "retry"),
        ("runs", "fork"),
        ("versions",),
        ("versions", "deprecate"),
        ("replay",),
        ("why",),
        ("db",),
        ("db", "migrate"),
        ("demo",),
    ],
)
def test_every_command_explains_itself(sqlite_url: str, command: tuple[str, ...]) -> None:
    done = called(*command, "--help", url=sqlite_url)

    assert done.exit_code == 0
    assert done.stdout.startswith(f"Usage: {' '.join(['kagzi', *command])} ")
    assert "--json" in done.stdout


def test_the_version_is_the_package_s(sqlite_url: str) -> None:
    assert called("--version", url=sqlite_url).stdout == f"kagzi {kagzi.__version__}\n"


@pytest.mark.parametrize("arguments", [("fly",), ("--fly",), ("runs", "fly"), ("runs", "show"), ("worker",)])
def test_a_misspelt_command_gives_status_2(sqlite_url: str, arguments: tuple[str, ...]) -> None:
    assert called(*arguments, url=sqlite_url).exit_code == 2


def test_help_leaves_out_what_it_does_not_need() -> None:
    code = "import sys, json, kagzi.cli.main; print(json.dumps(list(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    # rich and the drivers are the slow ones; each is imported where it is used.
    assert set(json.loads(done.stdout)).isdisjoint({"rich", "apsw", "asyncpg", "uvloop", "pydantic"})


def test_everything_public_is_there_and_nothing_else() -> None:
    for name in kagzi.__all__:
        assert getattr(kagzi, name) is not None
    assert set(kagzi.__all__) <= set(dir(kagzi))
    with pytest.raises(AttributeError, match="no attribute 'Kagzy'"):
        kagzi.Kagzy  # type: ignore[attr-defined] # noqa: B018 - what is not there is the point


def test_a_terminal_that_lacks_a_character_still_gets_its_line(sqlite_url: str) -> None:
    started = kagzi_process(
        *("run", "grüße", "--version", "1", "--detach", "--tag", "\U0001f600"), url=sqlite_url, PYTHONIOENCODING="ascii"
    )
    listed = kagzi_process("runs", "list", url=sqlite_url, PYTHONIOENCODING="ascii")

    assert started.returncode == 0
    assert listed.returncode == 0
    assert r"gr\xfc\xdfe" in listed.stdout
