"""The one place that turns a URL into a store."""

from __future__ import annotations

from kagzi.errors import ConfigError
from kagzi.settings import Settings
from kagzi.store.protocol import Store


def open_store(url: str, settings: Settings) -> Store:
    """Make the store for a URL, not connected yet. Raises ConfigError where there is none for its scheme.

    Backends are imported when first asked for: who uses SQLite needs no PostgreSQL driver.
    """
    scheme, separator, _ = url.partition("://")
    match scheme if separator else "":
        case "sqlite":
            from kagzi.store.sqlite.store import SqliteStore

            return SqliteStore(url, settings)
        case "postgresql" | "postgres":
            return _open_postgres(url, settings)
        case other:
            # Only the scheme is quoted: the rest may hold a password.
            raise ConfigError(
                f"there is no store for {other + '://' if other else 'a database URL without a scheme'}; "
                "use postgresql://..., sqlite:///kagzi.db (a file) or sqlite:// (memory)."
            )


def _open_postgres(url: str, settings: Settings) -> Store:
    try:
        from kagzi.store.postgres.store import PostgresStore
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise ConfigError("PostgreSQL needs the driver asyncpg. Run: pip install kagzi[postgres]") from error
    return PostgresStore(url, settings)
