"""What a workflow body may not ask of its event loop, and what to do instead."""

from __future__ import annotations

from typing import NoReturn

from kagzi.errors import WorkflowIOError

_STEP = "Do it in a step: `await ctx.step(name, function, ...)`."
_THREAD = "Threads finish in any order. Give the function to `ctx.step(...)`, which runs plain functions in a thread."
_SIGNAL = "The worker handles the process's signals."
_DRIVE = "The worker runs this loop. Await the coroutine instead; in a `def` workflow, give it to a step."

FORBIDDEN: dict[str, str] = {
    "call_soon_threadsafe": _THREAD,
    "run_in_executor": _THREAD,
    "set_default_executor": _THREAD,
    "shutdown_default_executor": _THREAD,
    "run_forever": _DRIVE,
    "run_until_complete": _DRIVE,
    "stop": _DRIVE,
    "close": _DRIVE,
    "add_signal_handler": _SIGNAL,
    "remove_signal_handler": _SIGNAL,
    "set_exception_handler": _DRIVE,
    "get_exception_handler": _DRIVE,
    "set_task_factory": _DRIVE,
    "get_task_factory": _DRIVE,
    "set_debug": _DRIVE,
    **dict.fromkeys(
        (
            "getaddrinfo",
            "getnameinfo",
            "create_connection",
            "create_server",
            "create_datagram_endpoint",
            "create_unix_connection",
            "create_unix_server",
            "connect_accepted_socket",
            "connect_read_pipe",
            "connect_write_pipe",
            "subprocess_exec",
            "subprocess_shell",
            "sendfile",
            "start_tls",
            "add_reader",
            "remove_reader",
            "add_writer",
            "remove_writer",
            "sock_recv",
            "sock_recv_into",
            "sock_recvfrom",
            "sock_recvfrom_into",
            "sock_sendall",
            "sock_sendto",
            "sock_connect",
            "sock_accept",
            "sock_sendfile",
        ),
        _STEP,
    ),
}
"""Methods of an event loop that raise in a workflow body, each with its cure."""


def refuse(name: str) -> NoReturn:
    """Raise the `WorkflowIOError` that belongs to a method of `FORBIDDEN`."""
    raise WorkflowIOError(f"loop.{name}", FORBIDDEN[name])
