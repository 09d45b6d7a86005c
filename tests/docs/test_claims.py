"""What the documentation names is there."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from kagzi.settings import Settings
from tests.docs.pages import PAGES, ROOT, anchors, blocks, links, prose, read

SOURCES = ROOT / "src" / "kagzi"

_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[\w./]+\.(?:py|sql)|(?:[a-z]+/)+")
_NAME = re.compile(r"(?:\w+\.)*([^\W\d]\w*)(?:\(\))?")


def named(page: str) -> list[str]:
    """The pieces of inline code of a page, each once."""
    return list(dict.fromkeys(_CODE.findall(prose(page))))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_within_the_project_leads_somewhere(page: str) -> None:
    for link in links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix()), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_is_there(page: str) -> None:
    places = (SOURCES, ROOT, *(path for path in SOURCES.rglob("*") if path.is_dir()))
    shown = {block.options.get("file") for block in blocks(page)}

    for path in filter(_PATH.fullmatch, named(page)):
        assert path in shown or any((place / path).exists() for place in places), f"{page}: {path}"


@pytest.mark.parametrize("page", PAGES)
def test_every_name_of_the_code_that_is_named_is_in_it(page: str) -> None:
    words = set(re.findall(r"\w+", "".join(file.read_text() for file in _code_files())))

    for name in named(page):
        if (match := _NAME.fullmatch(name)) and not _PATH.fullmatch(name):
            assert match[1] in words, f"{page}: {name}"


def _code_files() -> list[Path]:
    folders = (SOURCES, ROOT / "tests", ROOT / "benchmarks")
    files = [file for folder in folders for kind in ("*.py", "*.sql") for file in folder.rglob(kind)]
    return [*files, ROOT / "pyproject.toml", ROOT / "Makefile"]


def test_the_guide_lists_every_setting_as_it_is() -> None:
    text = read("docs/guides/settings.md")
    rows = re.findall(r"^\| `(KAGZI_\w+)` \| (?:`([^`]*)`|none) \| (.+) \|$", text, re.MULTILINE)
    values = {variable: value for variable, value, _ in rows}

    assert [variable for variable, _, _ in rows] == [each.metadata["variable"] for each in fields(Settings)]
    assert Settings.from_environment(values) == Settings()
    for setting, (_, _, meaning) in zip(fields(Settings), rows, strict=True):
        assert setting.metadata["meaning"].startswith(meaning)


def test_the_readme_names_every_guide() -> None:
    named_there = {link for link in links("README.md") if link.startswith("docs/guides/") and "#" not in link}

    assert named_there == {page for page in PAGES if page.startswith("docs/guides/")}
