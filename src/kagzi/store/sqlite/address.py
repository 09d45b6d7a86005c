"""Where the database is: a file, or memory."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from kagzi.errors import ConfigError, MigrationError

_SCHEME = "sqlite://"
MEMORY = ":memory:"


def parse_path(url: str) -> str:
    """The file that a URL names, or MEMORY. A plain path is taken as it is.

    `sqlite:///kagzi.db` is relative, `sqlite:////var/kagzi.db` absolute, `sqlite://` memory. Raises ConfigError for
    anything else after the scheme.
    """
    if not url.startswith(_SCHEME):
        return url
    rest = url.removeprefix(_SCHEME)
    if rest in {"", "/", "/" + MEMORY, MEMORY}:
        return MEMORY
    if not rest.startswith("/"):
        raise ConfigError(
            f"the database URL names the host {rest.partition('/')[0]!r}, but a SQLite file is always local. Write "
            "sqlite:///kagzi.db (relative), sqlite:////var/lib/kagzi.db (absolute) or sqlite:// (memory)."
        )
    if "?" in rest:
        raise ConfigError(f"the database URL {url!r} has options after '?', but a SQLite URL takes none.")
    return unquote(rest[1:])


def check_folder(path: str) -> None:
    """Raise ConfigError where the file's folder is not there or the path is a folder itself."""
    file = Path(path)
    if not file.parent.is_dir():
        raise ConfigError(
            f"the SQLite file {path!r} can't be made, for there is no folder {str(file.parent)!r}. Make the folder, or "
            "correct KAGZI_DATABASE_URL."
        )
    if file.is_dir():
        raise ConfigError(f"{path!r} is a folder, not a SQLite file. Correct KAGZI_DATABASE_URL.")


def check_file(path: str) -> None:
    """Raise MigrationError where there is no such file: opening it would make one."""
    if path != MEMORY and not Path(path).exists():
        raise MigrationError(
            f"there is no SQLite database at {path!r}. `kagzi db migrate` makes one; a worker does, too. If it is "
            "elsewhere, correct KAGZI_DATABASE_URL."
        )
