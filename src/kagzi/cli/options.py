"""What every command takes: which database, and whether a machine reads the answer.

Both can stand before the command or after it: `kagzi --json runs list`, `kagzi runs list --json`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from kagzi.app.kagzi import Kagzi
    from kagzi.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def common_options(command: F) -> F:
    """Give a command --database-url and --json; `database_url()` and `wants_json()` answer for them."""
    command = click.option(
        "--json",
        is_flag=True,
        default=None,
        expose_value=False,
        callback=_remember,
        help="Answer in JSON, for programs.",
    )(command)
    return click.option(
        "--database-url",
        metavar="URL",
        expose_value=False,
        callback=_remember,
        help="Where runs are kept; otherwise KAGZI_DATABASE_URL, else sqlite:///kagzi.db.",
    )(command)


def _remember(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    if value is not None:
        ctx.meta[f"kagzi.{parameter.name}"] = value


def wants_json() -> bool:
    """Whether a machine reads the answer."""
    return bool(click.get_current_context().meta.get("kagzi.json"))


def database_url() -> str | None:
    """The URL given on the command line."""
    url: str | None = click.get_current_context().meta.get("kagzi.database_url")
    return url


def current_settings(**overrides: Any) -> Settings:
    """The settings of this command. Raises ConfigError."""
    from kagzi.settings import Settings

    return Settings.from_environment(database_url=database_url(), **overrides)


def looking() -> Kagzi:
    """An application without workflows, not yet connected: to look at what is in the database.

    It leaves the schema alone: whoever only looks must not change it under everybody else.
    """
    from kagzi.app.kagzi import Kagzi

    return Kagzi(settings=current_settings(auto_migrate=False))


def complete(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    import asyncio

    return asyncio.run(work)
