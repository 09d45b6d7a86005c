"""What a store asks of a connection that a caller lends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from kagzi.errors import ConfigError

T = TypeVar("T")
Row = tuple[Any, ...]


class Dialect(StrEnum):
    """Whose SQL a connection speaks."""

    POSTGRESQL = "postgresql"
    SQLITE = "sqlite"


class Borrowed(Protocol):
    """A connection of the caller's, in the middle of a transaction that the caller commits or not."""

    @property
    def shown(self) -> str:
        """What it is, for people."""

    @property
    def dialect(self) -> Dialect:
        """Whose SQL it speaks. Raises ConfigError where it is none that Kagzi speaks."""

    @property
    def is_by_apsw(self) -> bool:
        """Whether SQLite is used by the library that Kagzi uses, too."""

    async def execute(self, sql: str, *args: Any) -> list[Row]:
        """Run one statement, with `$1`, `$2`, ... for its arguments, and give all rows.

        Raises ConfigError where no transaction is open, and what the driver raises.
        """


class CallersThread(Protocol):
    """The thread of a blocking call, as long as it waits for its end."""

    @property
    def is_waiting(self) -> bool:
        """Whether it still waits."""

    def run(self, work: Callable[[], T]) -> Awaitable[T]:
        """Have it do something."""


callers_thread: ContextVar[CallersThread | None] = ContextVar("kagzi_callers_thread", default=None)
"""Set while a blocking call is carried out: its connection may be used in the thread of the call only."""


async def run_blocking(work: Callable[[], T]) -> T:
    """Use a connection of a blocking driver where its caller does: in the thread of a blocking call, else here."""
    thread = callers_thread.get()
    return work() if thread is None or not thread.is_waiting else await thread.run(work)


def refuse_async(shown: str) -> None:
    """Raise ConfigError in a blocking call: the connection belongs to an event loop, which would have to wait."""
    thread = callers_thread.get()
    if thread is not None and thread.is_waiting:
        raise ConfigError(
            f"connection= is {shown}, whose driver is async, and the call is a blocking one. Use a connection of a "
            "blocking driver, or await the async Kagzi on the connection's own event loop."
        )


def no_transaction(shown: str) -> ConfigError:
    """The error where no transaction is open."""
    return ConfigError(
        f"connection= is {shown} without an open transaction, so what is started could neither vanish with it nor wait "
        "for it. Begin one first, and use the connection inside."
    )


def as_dialect(name: str, shown: str) -> Dialect:
    """A dialect by its name in a framework. Raises ConfigError for any other."""
    try:
        return Dialect(name)
    except ValueError:
        raise ConfigError(
            f"connection= is {shown} to a database of the kind {name!r}, but Kagzi can only be on PostgreSQL or SQLite."
        ) from None
