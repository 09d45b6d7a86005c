"""Running the blocks of a page as a reader would: one after the other, in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.docs.pages import Block

COMPOSE_URL = "postgresql://kagzi:kagzi@localhost:5432/kagzi"
"""What the pages and compose.yaml call their PostgreSQL."""

_READY = b"A worker takes runs."
_LONGEST_S = 60.0


class Reader:
    """Follows a page. `postgres_url` is the database that there is in place of the one in compose.yaml."""

    def __init__(self, folder: Path, *, postgres_url: str | None = None) -> None:
        self._folder = folder
        self._postgres_url = postgres_url
        self._printed = ""
        self._beside = ExitStack()
        own = {name: value for name, value in os.environ.items() if not name.startswith("KAGZI_")}
        self._environment = own | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', '')}"}

    def __enter__(self) -> Self:
        """Begin to read."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop what still runs."""
        self._beside.close()

    def save(self, block: Block) -> None:
        """Keep a program under its name."""
        if "file" in block.options:
            (self._folder / block.options["file"]).write_text(block.text, encoding="utf-8")

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        match block.language:
            case "python":
                file = self._folder / block.options.get("file", f"line_{block.line}.py")
                file.write_text(block.text, encoding="utf-8")
                self._run([sys.executable, file.name], block)
            case "sh" if "background" in block.words:
                self._run_beside(block)
            case "sh":
                self._run(["bash", "-euo", "pipefail", "-c", self._located(block.text)], block)
            case _ if "output" in block.words:
                assert self._printed == block.text, f"{block.place}: something else was printed"

    def _located(self, text: str) -> str:
        return text.replace(COMPOSE_URL, self._postgres_url) if self._postgres_url is not None else text

    def _run(self, command: list[str], block: Block) -> None:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
        )
        assert done.returncode == 0, f"{block.place} failed:\n{done.stdout}\n{done.stderr}"
        self._printed = done.stdout

    def _run_beside(self, block: Block) -> None:
        log = self._folder / f"line_{block.line}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {block.text.strip()}"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._beside.callback(_stop, process, block, log)
        deadline = time.monotonic() + _LONGEST_S
        while _READY not in log.read_bytes():
            assert process.poll() is None, f"{block.place} ended early:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"{block.place} is not ready:\n{log.read_text()}"
            time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes], block: Block, log: Path) -> None:
    process.terminate()
    try:
        status = process.wait(_LONGEST_S)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    assert status == 0, f"{block.place} ended with status {status}:\n{log.read_text()}"
