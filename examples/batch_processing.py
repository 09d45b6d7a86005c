"""Twenty-five files, five at a time: a batch that says what failed and goes on with the rest.

    python examples/batch_processing.py

The files are made in a temporary folder. Kill it half-way and start it again with the same folder
(`python examples/batch_processing.py FOLDER`): files that are counted are not counted again. Runs are kept in kagzi.db
beside you, or where KAGZI_DATABASE_URL says.
"""

import asyncio
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kagzi import Err, Kagzi, Ok, ParallelErrorStrategy, RetryPolicy, WorkflowContext

kagzi = Kagzi()

FILES = 25
AT_A_TIME = 5


@dataclass
class Summary:
    files: int
    words: int
    failed: list[str]


def list_files(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).glob("*.txt"))


def count_words(path: str) -> int:  # a plain function runs in a thread
    text = Path(path).read_text(encoding="utf-8")
    if not text:
        raise ValueError(f"{Path(path).name} is empty")
    return len(text.split())


@kagzi.workflow("count-words", step_retry=RetryPolicy.fixed(0.05, max_attempts=2))
async def count_all(ctx: WorkflowContext, folder: str) -> Summary:
    files = await ctx.step("list-files", list_files, folder)
    counts = await ctx.map(
        "count", count_words, files, max_concurrency=AT_A_TIME, on_error=ParallelErrorStrategy.COLLECT_ALL
    )
    words = sum(count.value for count in counts if isinstance(count, Ok))
    failed = [count.error.message for count in counts if isinstance(count, Err)]
    return Summary(len(files), words, failed)


def make_files(folder: Path) -> None:
    for number in range(1, FILES + 1):
        text = "word " * number if number != 13 else ""
        (folder / f"file-{number:02}.txt").write_text(text, encoding="utf-8")


async def main(folder: Path) -> None:
    make_files(folder)
    async with kagzi, kagzi.create_worker():
        handle = await count_all.options(id=f"count-{folder}").start(str(folder))
        summary = await handle.result(timeout=60)
        print(f"{summary.files} files, {summary.words} words, failed: {summary.failed}")


if __name__ == "__main__":
    if sys.argv[1:]:
        asyncio.run(main(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as made:
            asyncio.run(main(Path(made)))
