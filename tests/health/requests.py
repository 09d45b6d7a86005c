"""Asking a health port, politely and otherwise."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def body(self) -> dict[str, Any]:
        """The JSON in it."""
        answer: dict[str, Any] = json.loads(self.text)
        return answer


def ask(port: int, path: str, *, method: str = "GET", within_s: float = PATIENCE_S, **headers: str) -> Answer:
    """Make one request by a library that is not ours. Raises OSError where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=within_s)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return Answer(
            status=answer.status,
            headers={name.lower(): value for name, value in answer.getheaders()},
            text=answer.read().decode(),
        )
    finally:
        connection.close()


def status_of(port: int, path: str) -> int:
    """The status alone; 0 where nobody listens."""
    try:
        return ask(port, path).status
    except OSError:
        return 0


def send(port: int, data: bytes, *, within_s: float = PATIENCE_S) -> bytes:
    """Send bytes as they are, and read until the other side ends; what a reset leaves is nothing."""
    with socket.create_connection(("127.0.0.1", port), timeout=within_s) as connection:
        connection.sendall(data)
        received = b""
        try:
            while piece := connection.recv(65_536):
                received += piece
        except ConnectionResetError:
            pass
        return received
