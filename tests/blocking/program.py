"""Small programs that use the blocking application as a script would: `python -m tests.blocking.program NAME`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kagzi import ConfigError, WorkflowContext
from tests.blocking.flows import an_application

kagzi = an_application(os.environ["KAGZI_DATABASE_URL"])


def say(text: object) -> None:
    os.write(1, f"{text}\n".encode())  # in one piece: several processes write to the pipe


def leave_open() -> None:
    """Use it and end, closing nothing."""
    say(kagzi.start_workflow("greet", "Ada").status())


def leave_a_worker_open() -> None:
    """End while a worker is executing runs."""
    kagzi.create_worker().__enter__()
    kagzi.start_workflow("wait", 60)
    say(kagzi.start_workflow("greet", "Ada").result(timeout=30))


def leave_with_threads_waiting() -> None:
    """End while daemon threads wait for what will not come."""
    handle = kagzi.start_workflow("wait", 60)
    waiting = threading.Barrier(5)

    def wait() -> None:
        waiting.wait()
        handle.result()

    for _ in range(4):
        threading.Thread(target=wait, daemon=True).start()
    waiting.wait()
    say(handle.status())


def leave_with_threads_calling() -> None:
    """End while daemon threads call again and again, so that some call comes at each moment of the end."""
    handle = kagzi.start_workflow("wait", 60)

    def call() -> None:
        while True:
            handle.status()

    for _ in range(4):
        threading.Thread(target=call, daemon=True).start()
    say(handle.status())


def leave_with_a_start_under_way() -> None:
    """End while the database keeps a start waiting, of which a daemon thread wants to know."""
    kagzi.open()
    say("open")
    sys.stdin.readline()
    threading.Thread(target=lambda: kagzi.start_workflow("greet", "Ada"), daemon=True).start()
    journal = kagzi.asynchronous._open_link().journal
    while not len(journal._starts):
        time.sleep(0.01)


def fail_in_a_block() -> None:
    """End by an error, out of a worker's block."""
    with kagzi, kagzi.create_worker():
        kagzi.start_workflow("wait", 60)
        raise SystemExit(3)


def go_on_in_a_thread() -> None:
    """The main thread ends first; another goes on."""

    def go_on() -> None:
        threading.main_thread().join()
        say(kagzi.start_workflow("greet", "Ada").status())

    say(kagzi.start_workflow("greet", "Ada").status())
    threading.Thread(target=go_on).start()


def interrupted() -> None:
    """Be interrupted in `result`, then go on."""
    handle = kagzi.start_workflow("wait", 60)
    waiters = kagzi.asynchronous._open_link().waiting._waiters

    def tell_when_waiting() -> None:
        while not waiters:
            time.sleep(0.01)
        say("waiting")

    threading.Thread(target=tell_when_waiting).start()
    try:
        handle.result()
    except KeyboardInterrupt:
        say("interrupted")
    say(handle.status())
    say(len(waiters))
    say(len(kagzi.find_runs()))


def serve() -> None:
    """Be a worker until a signal comes."""
    kagzi.start_workflow("greet", "Ada")
    worker = kagzi.create_worker()

    async def tell(ctx: WorkflowContext) -> None:
        await ctx.step("slow", slow)

    kagzi.register_workflow("tell", tell).start()
    worker.start()
    say(worker.state)
    (step,) = kagzi.handle(kagzi.find_runs(workflow="tell")[0].run_id).history()
    say(step.status)
    say(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)


def slow() -> None:
    say("working")
    time.sleep(0.3)
    say("done")


def fork_unused() -> None:
    """Fork before anything was used: each child connects by itself."""
    in_children(3, lambda: say(kagzi.start_workflow("greet", "child").status()))
    say(len(kagzi.find_runs()))


def fork_in_use() -> None:
    """Fork while it is open, with threads calling; each child starts runs, and the parent's go on."""
    handle = kagzi.start_workflow("greet", "parent")
    stop = threading.Event()
    errors: list[BaseException] = []

    def start_runs() -> None:
        try:
            while not stop.is_set():
                kagzi.start_workflow("greet", "parent").describe()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=start_runs) for _ in range(4)]
    for thread in threads:
        thread.start()

    def child() -> None:
        try:
            handle.status()
        except ConfigError as error:
            say(f"handle: {error}")
        try:
            run = kagzi.options(tags=["child"]).start_workflow("greet", "child")
        except ConfigError as error:
            say(f"start: {error}")
        else:
            say(run.describe().input)
            say(kagzi.handle(handle.run_id).status())

    in_children(3, child)
    stop.set()
    for thread in threads:
        thread.join()
    say(f"errors: {errors}")
    say(f"of children: {len(kagzi.find_runs(tags=['child']))}")
    say(f"parent: {handle.status()}")


def fork_after_closing() -> None:
    """Fork with nothing open."""
    with kagzi:
        kagzi.start_workflow("greet", "parent")

    def child() -> None:
        with kagzi:
            say(kagzi.start_workflow("greet", "child").status())

    in_children(2, child)
    with kagzi:
        say(len(kagzi.find_runs()))


def fork_async() -> None:
    """Fork while an async application is open; the child opens it anew on a loop of its own."""
    application = kagzi.asynchronous

    async def use() -> str:
        async with application:
            run = await application.start_workflow("greet", "child")
            return str(await run.status())

    async def parent() -> None:
        async with application:
            handle = await application.start_workflow("greet", "parent")

            def child() -> None:
                say(asyncio.run(use()))
                try:
                    asyncio.run(handle.status())
                except ConfigError as error:
                    say(error)
                os._exit(0)  # not through the parent's loop, in which this thread stands

            in_children(2, child)
            say(len(await application.find_runs()))

    asyncio.run(parent())


def in_children(count: int, work: Callable[[], None]) -> None:
    """Fork so many processes, have each do the work and leave as Python programs do, and wait for them."""
    children = []
    for _ in range(count):
        pid = os.fork()
        if not pid:
            work()
            sys.exit(0)  # through atexit, as the workers of web servers leave
        children.append(pid)
    for pid in children:
        _, status = os.waitpid(pid, 0)
        assert not status, f"child {pid} ended with {status}"


def imports() -> None:
    """Say whether importing Kagzi alone imports the blocking one; this program has, so ask another Python."""
    os.execv(
        sys.executable,
        [sys.executable, "-c", "import sys, kagzi; print('kagzi.blocking' in sys.modules, 'uvloop' in sys.modules)"],
    )


if __name__ == "__main__":
    assert Path(__file__).exists()
    {name: value for name, value in list(globals().items()) if callable(value)}[sys.argv[1]]()
