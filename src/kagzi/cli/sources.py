"""The Python files that an application is made of, watched by looking at them again and again."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kagzi.cli.errors import Refused
from kagzi.clock import monotonic

Snapshot = dict[str, tuple[int, int]]
"""Each file's time of change in nanoseconds, and its size."""

_PAUSE_S = 0.25
_SHARE = 20
"""A look that takes long is followed by a pause so many times as long: watching costs a twentieth of a core at most."""
_CALM_S = 0.1
"""Editors and version control write many files one after another: wait until nothing has changed for so long."""
_SKIPPED = {"__pycache__", "node_modules", "site-packages", "dist-packages"}


class Sources:
    """The .py files below some folders, without hidden folders, virtual environments and installed packages."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)

    def look(self) -> Snapshot:
        """How the files stand now."""
        return {path: stamp for root in self.roots for path, stamp in _below(root)}

    async def changed(self, since: Snapshot) -> list[str]:
        """Wait until files differ from `since` and stay as they are for a moment; give those that differ."""
        while True:
            began = monotonic()
            now = await asyncio.to_thread(self.look)
            took_s = monotonic() - began
            if now != since:
                now = await self._calm(now)
            if changes := differences(since, now):
                return changes
            await asyncio.sleep(max(_PAUSE_S, took_s * _SHARE))

    async def _calm(self, last: Snapshot) -> Snapshot:
        while True:
            await asyncio.sleep(_CALM_S)
            now = await asyncio.to_thread(self.look)
            if now == last:
                return now
            last = now


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """The files that are new, gone or changed, in order."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def sources_of(target: str) -> Sources:
    """The sources of what `module:app` names: the working folder, and its package where that is elsewhere.

    Imports nothing of it. Raises Refused where there is no such module.
    """
    package = target.partition(":")[0].partition(".")[0]
    here = Path.cwd()
    if str(here) not in sys.path:
        sys.path.insert(0, str(here))
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise Refused(f"there is no module {package!r} in {here}, nor among the packages that are installed.")
    places = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if not places and spec.origin is not None:
        places = [Path(spec.origin)]
    return Sources([here, *(place for place in places if not place.resolve().is_relative_to(here.resolve()))])


def _below(root: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    if not root.is_dir():
        yield from _stamped(str(root))
        return
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if _is_ours(folder, name)]
        for name in files:
            if name.endswith(".py"):
                yield from _stamped(os.path.join(folder, name))  # noqa: PTH118 - a Path each is ten times slower


def _is_ours(folder: str, name: str) -> bool:
    if name.startswith(".") or name in _SKIPPED:
        return False
    return not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))  # noqa: PTH110, PTH118 - as above


def _stamped(path: str) -> Iterator[tuple[str, tuple[int, int]]]:
    try:
        found = os.stat(path)  # noqa: PTH116 - as above
    except OSError:  # gone since it was listed, or a broken link
        return
    yield path, (found.st_mtime_ns, found.st_size)
