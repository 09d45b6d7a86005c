"""Bringing the schema up to date, however many processes do it at once."""

from __future__ import annotations

import hashlib

import asyncpg

from kagzi.errors import KagziError, MigrationError
from kagzi.store.postgres.address import Address, Names
from kagzi.store.postgres.connections import Connections
from kagzi.store.postgres.failures import explain
from kagzi.store.sql.migrations import Migration, SqlSchemaStatus, load_migrations, pending

_PACKAGE = "kagzi.store.postgres.migrations"
_LONGEST_MIGRATION_S = 600.0

# Held until the end of the transaction, so it works behind a transaction pooler, where session locks lie.
_LOCK = "SELECT pg_advisory_xact_lock($1)"

# Asked first: CREATE SCHEMA IF NOT EXISTS wants the right to create schemas even where the schema is there.
_HAS_SCHEMA = "SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = $1"
_HAS_REGISTER = """
SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = 'migrations'
"""
_CREATE_SCHEMA = "CREATE SCHEMA {schema}"
_CREATE_REGISTER = """
CREATE TABLE {schema}.migrations (
    number     integer     PRIMARY KEY,
    name       text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
_CURRENT = "SELECT coalesce(max(number), 0) FROM {schema}.migrations"
_ENTER = "INSERT INTO {schema}.migrations (number, name) VALUES ($1, $2)"


class Migrator:
    """Applies the numbered files of `migrations/`."""

    def __init__(self, connections: Connections, address: Address, names: Names) -> None:
        self._connections = connections
        self._address = address
        self._names = names
        self._lock_key = int.from_bytes(hashlib.sha256(f"kagzi:{names.schema}".encode()).digest()[:8], signed=True)

    async def migrate(self) -> int:
        """Apply what is missing, each file in its own transaction, and return how many were applied by us."""
        applied = 0
        for migration in pending(load_migrations(_PACKAGE), await self._current()):
            applied += await self._apply(migration)
        return applied

    async def status(self) -> SqlSchemaStatus:
        """Say which migration the database is at."""
        return SqlSchemaStatus(current=await self._current(), latest=len(load_migrations(_PACKAGE)))

    async def _current(self) -> int:
        if not (await self._connections.fetch(_HAS_REGISTER, self._names.schema))[0][0]:
            return 0
        current: int = (await self._connections.fetch(self._names.fill(_CURRENT)))[0][0]
        return current

    async def _apply(self, migration: Migration) -> bool:
        try:
            async with self._connections.transaction(timeout_s=_LONGEST_MIGRATION_S) as connection:
                await connection.execute(_LOCK, self._lock_key)
                await self._create_register(connection)
                if await connection.fetchval(self._names.fill(_CURRENT)) >= migration.number:
                    return False  # another process was faster
                await connection.execute(self._names.fill(migration.sql))
                await connection.execute(self._names.fill(_ENTER), migration.number, migration.name)
                return True
        except KagziError:
            raise
        except Exception as error:
            known = explain(error, self._address)
            if known is not None and not isinstance(known, MigrationError):
                raise known from error
            raise MigrationError(
                f"migration {migration.name} of schema {self._names.schema!r} failed: {type(error).__name__}: {error}. "
                "Nothing of it was kept; remove the cause and run `kagzi db migrate` again."
            ) from error

    async def _create_register(self, connection: asyncpg.Connection) -> None:
        if not await connection.fetchval(_HAS_SCHEMA, self._names.schema):
            await connection.execute(self._names.fill(_CREATE_SCHEMA))
        if not await connection.fetchval(_HAS_REGISTER, self._names.schema):
            await connection.execute(self._names.fill(_CREATE_REGISTER))
