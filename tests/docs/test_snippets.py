"""Every program and every command in the documentation runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, Block, blocks
from tests.docs.runner import COMPOSE_URL, Reader

EVERY = [block for page in PAGES for block in blocks(page)]
RUNNING = [page for page in PAGES if any(block.is_run for block in blocks(page))]
ON_POSTGRES = [page for page in PAGES if any("postgres" in block.words for block in blocks(page))]
LEFT_OUT = [block for block in EVERY if "not-run" in block.options]

MAY_BE_LEFT_OUT = 4


def place(block: Block) -> str:
    return block.place


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNING)
def test_a_reader_who_follows_the_page_gets_what_it_says(page: str, tmp_path: Path) -> None:
    found = blocks(page)

    with Reader(tmp_path) as reader:
        for block in found:
            reader.save(block)
        for block in found:
            if "not-run" not in block.options and "postgres" not in block.words:
                reader.follow(block)


@pytest.mark.parametrize("page", ON_POSTGRES)
def test_a_reader_who_follows_the_page_on_postgresql_gets_there(page: str, tmp_path: Path, postgres_url: str) -> None:
    found = blocks(page)

    with Reader(tmp_path, postgres_url=postgres_url) as reader:
        for block in found:
            reader.save(block)
        for block in found:
            if "postgres" in block.words:
                reader.follow(block)


@pytest.mark.parametrize("block", EVERY, ids=place)
def test_every_block_says_how_it_is_tested(block: Block) -> None:
    if block.language == "text":
        assert block.words <= {"output"}
        assert not block.options
    else:
        assert block.language in ("python", "sh"), "mark it `text`, or teach the tests to run it"
        assert block.words <= {"background", "postgres"}
        assert block.options.keys() <= {"file", "not-run"}


def test_few_blocks_are_left_out_and_each_says_why() -> None:
    assert len(LEFT_OUT) <= MAY_BE_LEFT_OUT
    assert all(len(block.options["not-run"]) > 10 for block in LEFT_OUT)


@pytest.mark.parametrize("block", LEFT_OUT, ids=place)
def test_a_command_that_is_left_out_could_be_given(block: Block) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    for line in block.text.splitlines():
        command = line.partition("#")[0].strip().replace('"', "").split()
        match command:
            case ["make", target]:
                assert target in targets
            case ["pip", "install", requirement]:
                name, _, extra = requirement.rstrip("]").partition("[")
                assert name == project["name"]
                assert not extra or extra in project["optional-dependencies"]
            case ["docker", "compose", "up", "--detach"]:
                assert (ROOT / "compose.yaml").is_file()
            case _:
                pytest.fail(f"{block.place}: nothing is known of `{line}`")


def test_compose_makes_the_database_that_the_pages_name() -> None:
    assert COMPOSE_URL in (ROOT / "compose.yaml").read_text()
