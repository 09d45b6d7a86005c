"""The health port: what it answers, and whom it does not let hold it up. On both event loops that workers run on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http import HTTPStatus

import pytest
import uvloop

from kagzi import ConfigError
from kagzi.worker import health_port
from kagzi.worker.health_port import HealthPort, Reply
from tests.health.requests import PATIENCE_S, ask, send
from tests.servers.postgres import free_port

REQUEST = b"GET /healthz HTTP/1.1\r\n\r\n"


class Subject:
    """Something that is asked for its health, on an event loop in a thread of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.reasons: tuple[str, ...] = ()
        self.asked = threading.Event()
        self.cancelled = threading.Event()
        self.listening = threading.Event()
        self._patient = False
        self._gate = asyncio.Event()
        self._end = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def keep_waiting(self) -> None:
        """Answer nobody until `let_go`."""
        self._patient = True

    def let_go(self) -> None:
        self._call(self._gate.set)

    def end(self) -> None:
        self._call(self._end.set)

    def _call(self, function: Callable[[], None]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function)

    async def answer(self, path: str) -> Reply | None:
        self.asked.set()
        if path == "/broken":
            raise ValueError("no luck")
        try:
            if self._patient:
                await self._gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Reply.because(self.reasons, name="ü") if path == "/healthz" else None

    async def serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with HealthPort(self.answer, host="127.0.0.1", port=self.port):
            self.listening.set()
            await self._end.wait()


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    subject = Subject()
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        thread = threading.Thread(target=runner.run, args=(subject.serve(),))
        thread.start()
        assert subject.listening.wait(PATIENCE_S)
        yield subject
        subject.end()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def connect(subject: Subject) -> socket.socket:
    return socket.create_connection(("127.0.0.1", subject.port), timeout=PATIENCE_S)


def read_all(connection: socket.socket) -> bytes:
    """Read to the end, however it comes."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65_536):
            received += piece
    return received


def send_until_dropped(connection: socket.socket, data: bytes) -> None:
    """Go on sending until the other side refuses it."""
    deadline = time.monotonic() + PATIENCE_S
    with contextlib.suppress(ConnectionError):
        while True:
            assert time.monotonic() < deadline, "it was never dropped"
            connection.sendall(data)
            time.sleep(0.001)


# -- answers -----------------------------------------------------------------------------------------------------


def test_it_answers_200_with_json_where_nothing_is_said_against_it(subject: Subject) -> None:
    answer = ask(subject.port, "/healthz")

    assert answer.status == 200
    assert answer.body == {"status": "ok", "name": "ü"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["connection"] == "close"
    assert answer.headers["cache-control"] == "no-store"


def test_it_answers_503_with_the_reasons(subject: Subject) -> None:
    subject.reasons = ("it drains",)

    answer = ask(subject.port, "/healthz?verbose=1")

    assert answer.status == 503
    assert answer.body == {"status": "unavailable", "reasons": ["it drains"], "name": "ü"}


def test_head_gives_the_same_without_a_body(subject: Subject) -> None:
    got = ask(subject.port, "/healthz")
    headed = ask(subject.port, "/healthz", method="HEAD")

    assert (headed.status, headed.text) == (200, "")
    assert headed.headers == got.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/healthz/", 404),
        ("GET", "/%68ealthz", 404),
        ("POST", "/healthz", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/broken", 500),
    ],
)
def test_what_is_not_offered_is_refused(subject: Subject, method: str, path: str, status: int) -> None:
    answer = ask(subject.port, path, method=method)

    assert answer.status == status
    assert answer.body["status"] == HTTPStatus(status).phrase.lower()
    assert ("allow" in answer.headers) is (status == 405)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 200),
        (b"GET /healthz HTTP/2\r\n\r\n", 400),
        (b"GET /healthz\r\n\r\n", 400),
        (b"GET healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET  /healthz HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", 404),
        pytest.param(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431, id="long header"),
        pytest.param(b"GET /" + b"x" * 50_000, 431, id="long path"),
    ],
)
def test_every_request_gets_one_answer_and_the_end(subject: Subject, data: bytes, status: int) -> None:
    received = send(subject.port, data)

    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    assert received.count(b"HTTP/1.1") == 1
    assert ask(subject.port, "/healthz").status == 200


def test_a_request_may_come_byte_by_byte_and_its_sender_may_be_done_before_the_answer(subject: Subject) -> None:
    subject.keep_waiting()
    with connect(subject) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in REQUEST:
            connection.sendall(bytes([byte]))
        connection.shutdown(socket.SHUT_WR)
        assert subject.asked.wait(PATIENCE_S)
        subject.let_go()

        received = read_all(connection)

    assert received.startswith(b"HTTP/1.1 200 ")


# -- who holds it up ---------------------------------------------------------------------------------------------


def test_a_client_that_never_finishes_its_request_is_dropped(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_port, "_LONGEST_S", 0.2)
    with connect(subject) as connection:
        connection.sendall(REQUEST[:10])

        received = read_all(connection)

    assert received == b""


def test_a_client_that_is_not_answered_in_time_is_dropped(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_port, "_LONGEST_S", 0.2)
    subject.keep_waiting()
    with connect(subject) as connection:
        connection.sendall(REQUEST)

        received = read_all(connection)

    assert received == b""
    assert subject.cancelled.wait(PATIENCE_S)


def test_a_client_that_neither_closes_nor_falls_silent_is_left_after_its_answer(subject: Subject) -> None:
    with connect(subject) as connection:
        connection.sendall(REQUEST)
        received = read_all(connection)
        began = time.monotonic()

        send_until_dropped(connection, b"x" * 65_536)

    assert received.startswith(b"HTTP/1.1 200 ")
    assert time.monotonic() - began < health_port._LONGEST_S


def test_many_idle_connections_keep_no_probe_out(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_port, "_LONGEST_S", 10 * PATIENCE_S)  # who is dropped is not dropped for its time
    crowd = [connect(subject) for _ in range(health_port._MOST + 50)]

    answers = [ask(subject.port, "/healthz").status for _ in range(3)]

    dropped = [read_all(connection) for connection in crowd[:50]]
    for connection in crowd:
        connection.close()
    assert answers == [200, 200, 200]
    assert dropped == [b""] * 50


def test_who_leaves_before_the_answer_stops_the_work_on_it(subject: Subject) -> None:
    subject.keep_waiting()
    connection = connect(subject)
    connection.sendall(REQUEST)
    assert subject.asked.wait(PATIENCE_S)

    # With a reset, as the system does for a process that is killed with something unread.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()

    assert subject.cancelled.wait(PATIENCE_S)


# -- beginning and end -------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_refused_and_named(subject: Subject) -> None:
    other = Subject()
    other.port = subject.port

    with pytest.raises(ConfigError, match=rf"port {subject.port} of '127.0.0.1'.*KAGZI_HEALTH_PORT"):
        asyncio.run(other.serve())


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 70, "a\0b", "256.1.1.1"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_host_that_can_not_be_is_refused(loop: str, host: str) -> None:
    async def listen() -> None:
        async with HealthPort(Subject().answer, host=host, port=free_port()):
            pass

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner, pytest.raises(ConfigError, match="KAGZI_HEALTH_HOST"):
        runner.run(listen())


@pytest.mark.parametrize("loop", LOOPS)
def test_when_it_ends_nobody_is_left_connected_and_the_port_is_free(loop: str) -> None:
    subject = Subject()
    subject.keep_waiting()
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        thread = threading.Thread(target=runner.run, args=(subject.serve(),))
        thread.start()
        assert subject.listening.wait(PATIENCE_S)
        with closing(connect(subject)) as connection:
            connection.sendall(REQUEST)
            assert subject.asked.wait(PATIENCE_S)

            subject.end()

            assert read_all(connection) == b""
        thread.join(PATIENCE_S)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", subject.port))
