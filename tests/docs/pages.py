"""The pages of the documentation, and the fenced blocks in them.

The word after the fence is the language, and what follows says how a block is tested:

    python               a program; it must end well
    python file=name.py  the same, and the later blocks of the page can import it
    sh                   commands; each must end well
    sh background        a command that runs beside the rest of the page, and must end well on SIGTERM
    sh postgres          commands for which there must be a PostgreSQL where compose.yaml has one
    text output          what the program before it has printed
    text                 a drawing
    not-run="reason"     not run
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")))
    if path.name != "benchmarks.md"  # its commands measure for minutes
]

_BLOCK = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block. `words` are those of its info string after the language, without the options."""

    page: str
    line: int
    language: str
    words: frozenset[str]
    options: dict[str, str]
    text: str

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether it is to be run."""
        return self.language in ("python", "sh") and "not-run" not in self.options


def read(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = read(page)
    found = []
    for match in _BLOCK.finditer(text):
        language, *rest = shlex.split(match["info"]) or [""]
        found.append(
            Block(
                page=page,
                line=text.count("\n", 0, match.start()) + 1,
                language=language,
                words=frozenset(word for word in rest if "=" not in word),
                options=dict(word.split("=", 1) for word in rest if "=" in word),
                text=match["text"],
            )
        )
    return found


def prose(page: str) -> str:
    """The text of a page without its fenced blocks."""
    return _BLOCK.sub("", read(page))


def links(page: str) -> list[str]:
    """Where the links of a page lead."""
    return [match["target"] for match in _LINK.finditer(prose(page))]


def anchors(page: str) -> set[str]:
    """What a link can name after `#` in a page."""
    titles = [match["title"] for match in _HEADING.finditer(prose(page))]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
