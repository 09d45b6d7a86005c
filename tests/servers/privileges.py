"""PostgreSQL refuses to run as root; so root runs it as nobody."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

NOBODY = 65534


@dataclass(frozen=True, slots=True, kw_only=True)
class Unprivileged:
    """How to run a program without being root."""

    prefix: tuple[str, ...]
    changes_owner: bool
    """Whether the program can open only what belongs to nobody, or is open to all."""

    def hand_over(self, folder: Path) -> None:
        """Let the program own a folder with all that is in it."""
        if not self.changes_owner:
            return
        os.chown(folder, NOBODY, NOBODY)
        for each in folder.rglob("*"):
            os.chown(each, NOBODY, NOBODY, follow_symlinks=False)

    def can_run(self, program: Path) -> bool:
        """Whether the program is within reach; not so for nobody in a private home folder."""
        # Asked of another program: setpriv itself gives up its rights only after it has found what it runs.
        return _succeeds([*self.prefix, "test", "-x", str(program)])


@cache
def unprivileged() -> Unprivileged:
    """Choose the way for this machine; raises RuntimeError where root has none."""
    if os.geteuid() != 0:
        return Unprivileged(prefix=(), changes_owner=False)
    # Within a user namespace root keeps its own files and is merely called nobody: nothing changes owner.
    namespace = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
    if _succeeds([*namespace, "true"]):
        return Unprivileged(prefix=namespace, changes_owner=False)
    changed = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    if _succeeds([*changed, "true"]):
        return Unprivileged(prefix=changed, changes_owner=True)
    raise RuntimeError(
        "PostgreSQL does not run as root, and neither unshare nor setpriv can run it as nobody here. "
        "Run the tests as another user, or name a server in KAGZI_TEST_POSTGRES_URL."
    )


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except FileNotFoundError:
        return False
