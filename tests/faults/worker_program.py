"""A worker process: `python -m tests.faults.worker_program URL LEDGER`. It ends when its standard input does."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

import uvloop

from kagzi import Kagzi
from tests.faults.bank import register_bank
from tests.faults.buying import register_buy
from tests.faults.clock import shift_wall_clock
from tests.faults.crawling import register_crawl
from tests.faults.failing import register_deadly, register_persist, register_resume
from tests.faults.ledger import Ledger
from tests.faults.workflows import (
    register_answer,
    register_catch,
    register_chain,
    register_clock,
    register_family,
    register_follow,
    register_group,
    register_handle_news,
    register_hedge,
    register_listen,
    register_loop,
    register_pair,
    register_saga,
)


async def main(url: str, ledger: Path) -> None:
    """Execute runs until killed."""
    kagzi = Kagzi(url)
    register_chain(kagzi, Ledger(ledger))
    register_hedge(kagzi, Ledger(ledger))
    register_group(kagzi, Ledger(ledger))
    register_saga(kagzi, Ledger(ledger))
    register_clock(kagzi)
    register_pair(kagzi, Ledger(ledger))
    register_family(kagzi, Ledger(ledger))
    register_listen(kagzi)
    register_answer(kagzi)
    for register_news in (register_follow, register_catch, register_handle_news):
        register_news(kagzi)
    register_bank(kagzi)
    register_loop(kagzi, Ledger(ledger))
    register_buy(kagzi, Ledger(ledger))
    register_crawl(kagzi, Ledger(ledger))
    for register in (register_persist, register_resume, register_deadly):
        register(kagzi, Ledger(ledger))
    await kagzi.create_worker(worker_id=f"worker-{os.getpid()}").start()


def report() -> None:
    """Log to standard error, a line each, with the reason where there is one."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s %(reason)s", defaults={"reason": ""}))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def die_with_parent() -> None:
    """Leave no worker behind, however the tests end."""
    os.read(0, 1)  # nothing is ever sent
    os._exit(3)


if __name__ == "__main__":
    report()
    threading.Thread(target=die_with_parent, daemon=True).start()
    shift_wall_clock()
    uvloop.run(main(sys.argv[1], Path(sys.argv[2])))
