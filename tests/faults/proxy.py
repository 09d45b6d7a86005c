"""A TCP proxy before a PostgreSQL server that cuts connections at chosen statements.

It follows the protocol just as far as it must: frames of both directions, which statement a Bind is about, and where
an answer ends (ReadyForQuery). Every statement of Kagzi is a transaction of its own, so the Execute and Sync that come
with its Bind are also its COMMIT.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from enum import Enum, auto
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from tests.faults.statements import Verb, verb_of

_SSL_REQUEST = 80877103
_LATE_S = 0.25


class Moment(Enum):
    """When the connection is cut."""

    BEFORE = auto()
    """The statement was sent by the client and never reaches the server."""
    AFTER = auto()
    """The server has committed it, and its answer never reaches the client."""
    LATE = auto()
    """The client's connection is cut at once; the server gets the statement a quarter of a second later, when the
    client may have sent it again."""
    HELD = auto()
    """Nothing is cut: the server's answer reaches the client a second late."""


_HELD_S = 1.0

CUTS = [Moment.BEFORE, Moment.AFTER, Moment.LATE]
"""Where a statement is lost, or its answer."""


class Cut:
    """A cut that is ordered, at the next statement of a verb."""

    def __init__(self, verb: Verb, moment: Moment) -> None:
        self.verb = verb
        self.moment = moment
        self.happened = asyncio.Event()
        """Set once all of it is over, the late statement's answer included."""

    def __repr__(self) -> str:
        return f"<Cut {self.moment.name} {self.verb.name}>"


class Proxy:
    """Listens on a port of its own as long as the block runs."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._orders: list[Cut] = []
        self._links: dict[Link, asyncio.Task[None]] = {}
        self.refusing = False

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port: int = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        await asyncio.gather(*self.cut_all(), return_exceptions=True)
        await self._listener.wait_closed()

    @property
    def url(self) -> str:
        """The database's URL by way of the proxy."""
        password = self._target.netloc.rpartition("@")[0]
        return urlunsplit(self._target._replace(netloc=f"{password}@127.0.0.1:{self._port}"))

    def order(self, verb: Verb, moment: Moment) -> Cut:
        """Have the next statement of `verb` cut."""
        cut = Cut(verb, moment)
        self._orders.append(cut)
        return cut

    def due(self, verb: Verb | None) -> Cut | None:
        """The order that a statement fulfils, taken off the list."""
        for cut in self._orders:
            if cut.verb is verb:
                self._orders.remove(cut)
                return cut
        return None

    def cut_all(self) -> list[asyncio.Task[None]]:
        """Cut every connection now; what served them ends soon."""
        for link in self._links:
            link.abort()
        return list(self._links.values())

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        # Kept as a task of our own: asyncio reports one of its own that is cancelled when a test fails.
        if self.refusing:
            writer.transport.abort()
            return
        link = Link(self, (reader, writer))
        self._links[link] = asyncio.create_task(link.run(self._target.hostname, self._target.port))
        self._links[link].add_done_callback(lambda _: self._links.pop(link))


class Link:
    """One client's connection and its way to the server."""

    def __init__(self, proxy: Proxy, client: tuple[StreamReader, StreamWriter]) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = client
        self._to_server: StreamWriter | None = None
        self._statements: dict[bytes, str] = {}
        self._cut: Cut | None = None

    async def run(self, host: str | None, port: int | None) -> None:
        """Pass on what comes until either side ends or is cut."""
        with contextlib.suppress(IncompleteReadError, ConnectionError):
            self._from_server, self._to_server = await asyncio.open_connection(host, port)
            try:
                await self._greet(self._to_server)
                await self._pass(self._to_server)
            finally:
                self.abort()

    async def _pass(self, to_server: StreamWriter) -> None:
        pumps = [asyncio.ensure_future(self._pass_up(to_server)), asyncio.ensure_future(self._pass_down())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def abort(self) -> None:
        """Cut both sides."""
        self._to_client.transport.abort()
        if self._to_server is not None:
            self._to_server.transport.abort()

    async def _greet(self, to_server: StreamWriter) -> None:
        """The first messages have no type; a request for TLS is answered with one byte."""
        while True:
            length = await self._from_client.readexactly(4)
            body = await self._from_client.readexactly(int.from_bytes(length) - 4)
            to_server.write(length + body)
            if int.from_bytes(body[:4]) != _SSL_REQUEST:
                return
            self._to_client.write(await self._from_server.readexactly(1))

    async def _pass_up(self, to_server: StreamWriter) -> None:
        while True:
            kind, body = await _message(self._from_client)
            cut = self._proxy.due(self._verb(kind, body))
            if cut is None:
                to_server.write(_framed(kind, body))
                continue
            match cut.moment:
                case Moment.BEFORE:
                    cut.happened.set()
                    return
                case Moment.AFTER | Moment.HELD:
                    self._cut = cut
                    to_server.write(_framed(kind, body))
                case Moment.LATE:
                    await self._deliver_late(to_server, cut, _framed(kind, body))
                    return

    async def _deliver_late(self, to_server: StreamWriter, cut: Cut, statement: bytes) -> None:
        kind = statement[:1]
        while kind not in (b"S", b"Q"):  # a simple query stands alone
            kind, body = await _message(self._from_client)
            statement += _framed(kind, body)
        self._to_client.transport.abort()
        await asyncio.sleep(_LATE_S)
        self._cut = cut
        to_server.write(statement)
        await cut.happened.wait()

    async def _pass_down(self) -> None:
        held = b""
        while True:
            kind, body = await _message(self._from_server)
            if self._cut is None:
                self._to_client.write(_framed(kind, body))
                continue
            held += _framed(kind, body)
            if kind != b"Z":
                continue
            cut, self._cut = self._cut, None
            if cut.moment is not Moment.HELD:
                cut.happened.set()
                return
            await asyncio.sleep(_HELD_S)
            self._to_client.write(held)
            cut.happened.set()

    def _verb(self, kind: bytes, body: bytes) -> Verb | None:
        """What a message is about, where it carries out a statement."""
        if kind == b"P":
            name, _, rest = body.partition(b"\0")
            self._statements[name] = rest.partition(b"\0")[0].decode()
        elif kind == b"B":
            _, name, arguments = body.split(b"\0", 2)
            return verb_of(self._statements[name], arguments)
        elif kind == b"Q" and body.startswith(b"COMMIT"):  # of a transaction of several statements
            return Verb.COMMIT
        return None


async def _message(reader: StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], await reader.readexactly(int.from_bytes(head[1:]) - 4)


def _framed(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body
