"""A port that answers probes by HTTP: as little of it as a load balancer, Kubernetes or curl needs.

It is served by the worker's own event loop on purpose: where that is blocked, nobody answers. Each connection is good
for one request and is bounded in bytes and time, and all of them in number, so that nobody who can reach the port holds
up the worker, or keeps others from being answered.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, cast

from kagzi.errors import ConfigError

logger = logging.getLogger("kagzi.worker")

_LONGEST_HEAD = 8192
_LONGEST_S = 5.0
_MOST = 100
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A status and what is told with it, as JSON."""

    status: HTTPStatus
    body: dict[str, Any]

    @classmethod
    def because(cls, reasons: tuple[str, ...], **facts: Any) -> Self:
        """200 where there are no reasons against it, else 503 and the reasons."""
        if reasons:
            body = {"status": "unavailable", "reasons": list(reasons), **facts}
            return cls(status=HTTPStatus.SERVICE_UNAVAILABLE, body=body)
        return cls(status=HTTPStatus.OK, body={"status": "ok", **facts})


Answering = Callable[[str], Awaitable[Reply | None]]
"""Gives the reply for a path, None where there is nothing at it. Must not block; is cancelled with its connection."""


class HealthPort:
    """Listens while its block runs, on `host` and `port` or on the socket file at `path`.

    Raises ConfigError where that can't be listened on.
    """

    def __init__(self, answer: Answering, *, host: str = "", port: int = 0, path: str | None = None) -> None:
        self._answer = answer
        self._host = host
        self._port = port
        self._path = path
        self._server: asyncio.Server | None = None
        self._exchanges: dict[_Exchange, None] = {}

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        loop = asyncio.get_running_loop()
        try:
            if self._path is not None:
                self._server = await loop.create_unix_server(self._accept, self._path)
            else:
                self._server = await loop.create_server(self._accept, self._host, self._port)
        except (OSError, ValueError) as error:  # ValueError: what can't be the name of a host
            place = self._path or f"port {self._port} of {self._host!r}"
            raise ConfigError(
                f"the health port can't be listened on ({place}: {error}). Free it, or give another by --health-port "
                "and --health-host (KAGZI_HEALTH_PORT, KAGZI_HEALTH_HOST)."
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no more, and drop who is still connected."""
        assert self._server is not None
        self._server.close()
        for exchange in list(self._exchanges):
            exchange.abort()

    def _accept(self) -> _Exchange:
        if len(self._exchanges) >= _MOST:
            # The oldest goes, not the newest: who holds connections open must not keep a probe out.
            next(iter(self._exchanges)).abort()
        exchange = _Exchange(self._answer, ended=self._ended)
        self._exchanges[exchange] = None
        return exchange

    def _ended(self, exchange: _Exchange) -> None:
        self._exchanges.pop(exchange, None)


class _Exchange(asyncio.Protocol):
    """One connection: a request, its answer, the end."""

    def __init__(self, answer: Answering, *, ended: Callable[[_Exchange], None]) -> None:
        self._answer = answer
        self._ended = ended
        self._received = bytearray()
        self._asked = False
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._aborted = False

    def abort(self) -> None:
        """End the connection without another word."""
        self._aborted = True
        self._ended(self)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the client some seconds for everything."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._deadline = asyncio.get_running_loop().call_later(_LONGEST_S, self.abort)
        if self._aborted:  # between the accepting and now
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take in the request; what comes after it is thrown away."""
        if self._asked:
            return
        self._received += data
        end = self._received.find(_END)
        if end > _LONGEST_HEAD or (end < 0 and len(self._received) > _LONGEST_HEAD):
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif end >= 0:
            self._take(bytes(self._received[:end]))

    def eof_received(self) -> bool:
        """The client sends no more. It may still wait for the answer, if it has asked for one."""
        return self._task is not None and not self._task.done()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the name of asyncio's parameter
        """Forget the connection."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self._task is not None:
            self._task.cancel()
        self._ended(self)

    def _take(self, head: bytes) -> None:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1.") or not words[1].startswith(b"/"):
            self._refuse(HTTPStatus.BAD_REQUEST)
        elif words[0] not in (b"GET", b"HEAD"):
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED)
        else:
            self._asked = True
            path = words[1].partition(b"?")[0].decode("latin-1")
            self._task = asyncio.get_running_loop().create_task(self._respond(path, with_body=words[0] == b"GET"))

    async def _respond(self, path: str, *, with_body: bool) -> None:
        try:
            reply = await self._answer(path)
        except Exception:
            logger.exception("A health probe could not be answered.")
            reply = _plain(HTTPStatus.INTERNAL_SERVER_ERROR)
        self._send(reply or _plain(HTTPStatus.NOT_FOUND), with_body=with_body)

    def _refuse(self, status: HTTPStatus) -> None:
        self._asked = True
        self._send(_plain(status), with_body=True)

    def _send(self, reply: Reply, *, with_body: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        body = json.dumps(reply.body).encode() + b"\n"
        allow = "Allow: GET, HEAD\r\n" if reply.status is HTTPStatus.METHOD_NOT_ALLOWED else ""
        head = (
            f"HTTP/1.1 {reply.status.value} {reply.status.phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\n{allow}Connection: close\r\n\r\n"
        )
        transport.write(head.encode() + (body if with_body else b""))
        transport.close()


def _plain(status: HTTPStatus) -> Reply:
    return Reply(status=status, body={"status": status.phrase.lower()})
