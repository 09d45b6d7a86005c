"""What a failure of the driver means to us."""

from __future__ import annotations

import asyncpg

from kagzi.errors import ConfigError, KagziError, MigrationError, StoreUnavailable
from kagzi.store.postgres.address import Address

RETRYABLE = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""The server undid the statement as a whole; doing it again at once is right."""

_LOGIN = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)

_UNMIGRATED = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidSchemaNameError,
)

# Prepared statements that are there twice or no more: a transaction pooler moved us to another server.
_MOVED = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
_FLAG = "add `pooler=transaction` to the query of KAGZI_DATABASE_URL"

_UNAVAILABLE = (
    *RETRYABLE,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, starting up, cancelled, statement_timeout
    asyncpg.InsufficientResourcesError,  # too many connections, disk full, out of memory
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,
    asyncpg.InvalidTransactionStateError,  # read-only: a standby after a failover
    asyncpg.LockNotAvailableError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


def explain(error: BaseException, address: Address) -> KagziError | None:
    """The error of ours that a failure of the driver amounts to; None where it is a mistake in a statement.

    Never quotes the URL, which may hold a password.
    """
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    match error:
        case asyncpg.DataError():
            return None
        case asyncpg.exceptions._base.ClientConfigurationError():
            return ConfigError(f"the database URL of {address.shown} asks for what the driver can't do ({error}).")
        case _ if isinstance(error, _LOGIN):
            return StoreUnavailable(
                f"PostgreSQL at {address.shown} refused the login ({reason}). Check user, password and database in "
                "KAGZI_DATABASE_URL."
            )
        case _ if isinstance(error, _UNMIGRATED):
            return MigrationError(
                f"the schema of PostgreSQL at {address.shown} is not up to date ({reason}). Run `kagzi db migrate`, "
                "and check KAGZI_SCHEMA."
            )
        case asyncpg.ProtocolViolationError() if "unsupported startup parameter" in str(error):
            return ConfigError(
                f"what answers at {address.shown} is a pooler and takes no settings ({reason}). If it is pgbouncer, "
                f"{_FLAG}."
            )
        case _ if isinstance(error, _MOVED):
            return StoreUnavailable(
                f"PostgreSQL at {address.shown} lost our prepared statements ({type(error).__name__}). If a pooler "
                f"in transaction mode is in between, {_FLAG}."
            )
        case TimeoutError():
            return StoreUnavailable(
                f"PostgreSQL at {address.shown} did not answer in time. Check its load and the network, or raise "
                "KAGZI_STORE_TIMEOUT."
            )
        case asyncpg.InterfaceError():
            return StoreUnavailable(f"the connection to PostgreSQL at {address.shown} was lost ({reason}). Try again.")
        case _ if isinstance(error, _UNAVAILABLE):
            return StoreUnavailable(
                f"PostgreSQL at {address.shown} can't be used now ({reason}). Check that it is up and reachable, "
                "takes more connections and is not a standby."
            )
        case _:
            return None
