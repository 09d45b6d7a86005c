"""Where the database is and how it is to be spoken to, taken from its URL."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from kagzi.errors import ConfigError

_HOST = re.compile(r"(?:[^:\[\]]*|\[[^\[\]]+\])(?::(?P<port>\d{0,5}))?")
_LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer identifiers and channel names in silence


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """`url` is for the driver and may hold a password; `shown` is for people. `pooled`: a transaction pooler is between
    us and the server, so nothing outlives a transaction: no prepared statement, no setting, no LISTEN."""

    url: str
    shown: str
    pooled: bool


def parse_address(url: str) -> Address:
    """Take our own flag `?pooler=transaction` out of the URL.

    Raises ConfigError for a value of the flag that there is not, and for what is no URL; never quotes it.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _unreadable() from error
    if "@" in parts.path or not all(_is_host(host) for host in parts.netloc.rpartition("@")[2].split(",")):
        raise _unreadable()
    options = parse_qsl(parts.query, keep_blank_values=True)
    poolers = {value for key, value in options if key == "pooler"}
    if unknown := sorted(poolers - {"transaction", "none"}):
        raise ConfigError(
            f"the database URL says pooler={unknown[0]}, but must say pooler=transaction (behind pgbouncer in "
            "transaction mode) or leave it out."
        )
    kept = urlencode([(key, value) for key, value in options if key != "pooler"])
    host = parts.netloc.rpartition("@")[2]
    return Address(
        url=urlunsplit((parts.scheme, parts.netloc, parts.path, kept, "")),
        shown=f"{parts.scheme}://{host}{parts.path}",
        pooled="transaction" in poolers,
    )


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and int(found["port"] or 0) < 65536


def _unreadable() -> ConfigError:
    return ConfigError(
        "the database URL can't be read. Write postgresql://user:password@host:5432/database, and %40, %2F, %3F and "
        "%23 for @, /, ? and # in the user's name and password."
    )


class Names:
    """The schema's name, put into statements, and the channel of its notifications (the same name, unquoted)."""

    def __init__(self, schema: str) -> None:
        if not schema or "\0" in schema or len(schema.encode()) > _LONGEST_NAME or schema.startswith("pg_"):
            raise ConfigError(
                f"schema is {schema!r}, but must be 1 to {_LONGEST_NAME} bytes long and not start with 'pg_'."
            )
        self.schema = schema
        self.channel = schema
        self._quoted_schema = '"' + schema.replace('"', '""') + '"'
        self._quoted_channel = "'" + schema.replace("'", "''") + "'"

    def fill(self, sql: str) -> str:
        """Put the names into a statement, for `{schema}` and `{channel}`."""
        return sql.replace("{schema}", self._quoted_schema).replace("{channel}", self._quoted_channel)
