"""Start a PostgreSQL server, print the URL of an empty database, and keep it until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import threading

from tests.servers import PostgresServer, binaries


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("version", nargs="?", default="18", help="17, 18, or path: the pg_ctl on PATH")
    version = parser.parse_args().version
    stopped = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stopped.set())
    with PostgresServer(binaries(version)) as server:
        print(server.create_database(), flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()
